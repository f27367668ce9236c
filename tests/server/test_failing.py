"""A real server that is killed, stopped or poor in features: one sentence, exit status 3, and no clip is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.events import Failed, Finished
from agent.graph import analyze
from services.chat.server_session import NO_SCORES, NO_TIMES
from services.errors import ModelError
from services.schema import Request
from services.settings import ROOT
from tests.server.conftest import served_by
from tests.server.running_server import INSTALLED, MISSING, RunningServer
from tests.server.test_equality import SAMPLES
from tests.server.test_served_answers import asked, reported


@pytest.fixture(scope="module")
def poor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server as others start it: it takes no frame times from clients. (vLLM gives log-probabilities of chosen tokens
    whatever its options; servers without them are in ``tests/services/chat/test_other_servers.py``.)"""
    if not INSTALLED:
        pytest.fail(MISSING)
    running = RunningServer(
        tmp_path_factory.mktemp("poor"),
        "--no-trust-request-mm-kwargs",
        *("--limit-mm-per-prompt", '{"image": 16, "video": 1}'),
    )
    running.start()
    yield running
    running.kill()


@pytest.fixture(scope="module")
def service_of_poor(poor: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return served_by(poor, tmp_path_factory.mktemp("data"))


def test_what_a_server_lacks_is_told_in_the_report(service_of_poor: Any) -> None:
    report = reported(service_of_poor, SAMPLES[0], "base", retrieval="off")
    assert NO_TIMES in report.warnings and NO_SCORES not in report.warnings
    assert report.p_mounting is not None and report.decided_by.rule.startswith("model score")


def test_a_server_that_hangs_costs_one_sentence_and_answers_again_later(poor: RunningServer, tmp_path: Path) -> None:
    service = served_by(poor, tmp_path)
    messages = asked(service, SAMPLES[1])
    assert service.chat.invoke(messages).content
    hurried = served_by(poor, tmp_path, server_timeout_s=3.0)
    poor.send(signal.SIGSTOP)
    try:
        with pytest.raises(ModelError, match="no sign of life for 3 seconds"):
            hurried.chat.invoke(asked(hurried, SAMPLES[1]))
    finally:
        poor.send(signal.SIGCONT)
    assert service.chat.invoke(messages).content


def test_a_server_killed_in_mid_request_costs_one_sentence_and_no_clip(poor: RunningServer, tmp_path: Path) -> None:
    service = served_by(poor, tmp_path)
    request = Request(str(SAMPLES[2]), variants=("base",), retrieval="off")
    messages = asked(service, SAMPLES[2])
    with pytest.raises(ModelError, match=r"make serve") as told:
        for chunk in service.chat.stream(messages):
            if chunk.content:
                poor.kill()
    assert "\n" not in str(told.value) and "Traceback" not in str(told.value)

    (failed,) = [e for e in analyze(request, service, threading.Event()) if isinstance(e, Failed)]
    assert failed.exit_status == 3 and "No model server answers" in failed.message

    environment = os.environ | poor.environment
    command = [sys.executable, "-m", "agent", "analyze", str(SAMPLES[2]), "--variant", "base"]
    said = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    assert (said.returncode, len(said.stderr.splitlines())) == (3, 1), said.stderr

    poor.start()
    assert any(isinstance(event, Finished) for event in analyze(request, service, threading.Event()))
