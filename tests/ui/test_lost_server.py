"""A model server that is gone costs one sentence; the clip stays, and one click analyses it when the server is back."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.schema import Request
from services.settings import load_settings
from tests.ui.conftest import PATIENCE_S, ROOT, address, finished, outcome
from ui import jobs
from ui.session import shared_desk
from ui.wording import Words

SAMPLE = ROOT / "assets/demo/samples/mounting_from_the_side.mp4"


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> int:
    """Where the app looks for its server; nothing answers there yet."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        found = int(free.getsockname()[1])
    monkeypatch.setenv("HERDLENS_DATA", str(tmp_path))
    monkeypatch.setenv("HERDLENS_PROFILE", "demo-server")
    monkeypatch.setenv("HERDLENS_SERVER_URL", f"http://127.0.0.1:{found}/v1")
    return found


@pytest.fixture
def lost(port: int) -> Any:
    """The desk, an upload and the job about it that found no server."""
    settings = load_settings()
    desk = shared_desk(settings, settings.profile)
    service = desk.service(PATIENCE_S)
    assert service is not None
    upload = service.history.store_upload(SAMPLE.read_bytes(), "barn.mp4")
    job = desk.jobs.start(Request(str(upload), variants=("base",)), "barn.mp4")
    outcome(desk, job)
    return desk, upload, job


@pytest.fixture
def answer(port: int) -> Iterator[Callable[[], None]]:
    """Starts a server at ``port``."""
    running: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        command = [sys.executable, "-m", "tests.services.chat.plain_server", "plain", str(port)]
        running.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE))
        assert running[-1].stdout is not None and running[-1].stdout.readline()

    yield start
    for process in running:
        process.kill()
        process.communicate()


def test_one_click_analyses_the_clip_when_the_server_is_back(lost: Any, answer: Callable[[], None]) -> None:
    from streamlit.testing.v1 import AppTest

    desk, _, job = lost
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=PATIENCE_S)
    at.query_params["job"] = job
    at.run()
    assert any("No model server answers" in error.value for error in at.error)
    answer()
    at = finished(at.button(key="retry_job").click().run())
    assert not at.exception and not at.error
    entry = desk.service(PATIENCE_S).history.get(address(at, "report"))
    assert entry.clip_name == "barn.mp4"
    assert at.header[0].value == Words()(f"verdict.{entry.report['verdict']}")


def test_the_upload_is_deleted_with_the_job_that_failed(lost: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    desk, upload, _ = lost
    assert upload.exists()
    monkeypatch.setattr(jobs, "KEEP_S", -1.0)
    other = desk.jobs.start(Request(str(SAMPLE), variants=("base",)), "sample")
    assert not upload.exists()
    outcome(desk, other)
