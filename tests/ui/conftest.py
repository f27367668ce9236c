"""The real app under Streamlit's AppTest, with the real demo models and a data folder of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from services.settings import load_settings
from ui.desk import Desk
from ui.jobs import JobView
from ui.session import shared_desk

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 240.0


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("herdlens-ui")
    media = tmp_path_factory.mktemp("herdlens-media")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HERDLENS_DATA", str(folder))
        patch.setenv("HERDLENS_MEDIA", str(media))
        patch.delenv("HERDLENS_PROFILE", raising=False)
        yield folder


@pytest.fixture(scope="session")
def desk(data: Path) -> Desk:
    """The desk that the pages use too, with its services built."""
    settings = load_settings()
    found = shared_desk(settings, settings.profile)
    assert found.service(PATIENCE_S) is not None
    return found


@pytest.fixture(scope="session")
def service(desk: Desk) -> Any:
    return desk.service()


@pytest.fixture
def tab(desk: Desk) -> Callable[..., AppTest]:
    """Opens a browser tab: ``tab(report="abc")`` with query parameters."""

    def opened(**address: str) -> AppTest:
        at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=PATIENCE_S)
        for key, value in address.items():
            at.query_params[key] = value
        return at.run()

    return opened


@pytest.fixture(scope="session")
def samples(service: Any) -> list[Any]:
    return list(service.samples())


def finished(at: AppTest) -> AppTest:
    """Run the page, as its own polling would, until no analysis is running in it any more."""
    deadline = time.monotonic() + PATIENCE_S
    while address(at, "job") is not None and not at.error and time.monotonic() < deadline:
        time.sleep(0.1)
        at.run()
    return at


def outcome(desk: Desk, job: str) -> JobView:
    """The job once it does not run any more. It sleeps between looks: a loop that spins takes the interpreter from
    the model's thread at every operation, and an answer of half a second takes minutes."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        view = desk.jobs.view(job)
        assert view is not None
        if view.state != "running":
            return view
        assert time.monotonic() < deadline, "the analysis did not end"
        time.sleep(0.05)


def address(at: AppTest, key: str) -> str | None:
    """A parameter of the page's address."""
    value = at.query_params.get(key)
    return value[0] if isinstance(value, list) else value


def shown(at: AppTest) -> str:
    """Everything that the page says, one element a line."""
    kinds = (
        at.title,
        at.header,
        at.subheader,
        at.markdown,
        at.caption,
        at.info,
        at.warning,
        at.error,
        at.success,
        at.html,
    )
    return "\n".join(str(element.value) for kind in kinds for element in kind)
