"""The demo's own service, loaded once for all tests, with a data folder of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from services.settings import Settings, profile

# Before anything loads torch: side by side, two processes of several OpenMP threads each wait for one another.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from services.model_service import ModelService

    made = ModelService(Settings(data=tmp_path_factory.mktemp("herdlens-data")), profile("demo"))
    yield made
    made.close()
