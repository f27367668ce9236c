"""One real server for all tests here, and the service that asks it. ``make test-server`` installs what they need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.settings import Settings, profile
from tests.server.running_server import INSTALLED, KEY, MISSING, RunningServer

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.server)
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    if not INSTALLED:
        pytest.fail(MISSING)
    running = RunningServer(tmp_path_factory.mktemp("server"))
    running.start()
    yield running
    running.kill()


def served_by(running: RunningServer, data: Path, **settings: Any) -> Any:
    """A service of the profile demo-server that asks ``running``."""
    from services.model_service import ModelService

    chosen = {"server_url": running.url, "server_key": KEY, "server_timeout_s": 300.0} | settings
    return ModelService(Settings(data=data, **chosen), profile("demo-server"))


@pytest.fixture(scope="session")
def served(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    made = served_by(server, tmp_path_factory.mktemp("data"))
    yield made
    made.close()
