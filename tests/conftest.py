"""The demo's own service, loaded once for all tests, with a data folder of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from services.settings import Settings, profile


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from services.model_service import ModelService

    made = ModelService(Settings(data=tmp_path_factory.mktemp("herdlens-data")), profile("demo"))
    yield made
    made.close()
