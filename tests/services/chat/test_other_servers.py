"""OpenAI-compatible servers that are no vLLM, each a real process: what they lack is said, and nothing breaks."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.events import Failed, Finished
from agent.graph import analyze
from services.chat.server_session import NO_SCORES, NO_TIMES
from services.errors import Cancelled
from services.schema import Request
from services.settings import ROOT, Settings, profile
from tests.agent.test_cli import SAMPLES, agent

CLIP = SAMPLES / "mounting_from_the_side.mp4"
Start = Callable[..., Any]


@pytest.fixture
def served_by(tmp_path: Path) -> Iterator[Start]:
    """Starts ``plain_server`` of a kind and gives a service that asks it; all are ended afterwards."""
    from services.model_service import ModelService

    running: list[subprocess.Popen[str]] = []
    services: list[ModelService] = []

    def start(kind: str, **settings: Any) -> ModelService:
        command = [sys.executable, "-m", "tests.services.chat.plain_server", kind]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        running.append(process)
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        services.append(ModelService(Settings(data=tmp_path, server_url=url, **settings), profile("demo-server")))
        return services[-1]

    yield start
    for service in services:
        service.close()
    for process in running:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def outcome(service: Any, *variants: str, stop: threading.Event | None = None) -> Any:
    """The report, or the sentence of the failure with its exit status."""
    request = Request(str(CLIP), variants=variants or ("base",), retrieval="off")
    (end,) = [e for e in analyze(request, service, stop or threading.Event()) if isinstance(e, Finished | Failed)]
    return end.report if isinstance(end, Finished) else (end.exit_status, end.message)


@pytest.mark.parametrize("kind", ["plain", "strict", "failing", "foreign"])
def test_without_log_probabilities_the_text_decides_and_the_report_says_so(served_by: Start, kind: str) -> None:
    report = outcome(served_by(kind))
    assert {NO_SCORES, NO_TIMES} <= set(report.warnings)
    assert (report.verdict, report.p_mounting, report.decided_by.rule) == ("mounting", None, "text only")


def test_a_text_without_a_verdict_is_unclear(served_by: Start) -> None:
    report = outcome(served_by("unparsed"))
    assert (report.verdict, report.variants[0].text_verdict) == ("unclear", "unparsed")


def test_an_adapter_that_it_does_not_serve_is_one_failed_variant(served_by: Start) -> None:
    report = outcome(served_by("plain"), "base", "tuned")
    base, tuned = report.variants
    assert (base.error, report.decided_by.variant) == (None, "base")
    assert tuned.error is not None and "does not serve the adapter 'mounting'" in tuned.error


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("blind", "takes no pictures"),
        ("memory", "CUDA out of memory"),
        ("cut", "broke off in the middle of an answer"),
        ("full", "is overloaded"),
        ("page", "is no OpenAI-compatible server"),
    ],
)
def test_what_it_cannot_do_is_one_sentence_and_status_three(served_by: Start, kind: str, words: str) -> None:
    status, sentence = outcome(served_by(kind))
    assert status == 3 and words in sentence and "\n" not in sentence


def test_a_slow_server_is_waited_for_as_long_as_it_writes(served_by: Start) -> None:
    assert outcome(served_by("slow", server_timeout_s=2.0)).verdict == "mounting"


def test_a_cancel_ends_a_slow_answer(served_by: Start) -> None:
    service = served_by("slow")
    outcome(service)
    stop = threading.Event()
    threading.Timer(1.0, stop.set).start()
    started = time.monotonic()
    assert outcome(service, stop=stop)[0] == Cancelled.exit_status
    assert time.monotonic() - started < 3.0


def test_the_command_line_says_so_in_one_line(served_by: Start, tmp_path: Path) -> None:
    url = served_by("memory").settings.server_url
    variables = {"HERDLENS_PROFILE": "demo-server", "HERDLENS_SERVER_URL": url}
    result = agent("analyze", str(CLIP), "--variant", "base", data=tmp_path, **variables)
    assert (result.returncode, result.stdout, len(result.stderr.splitlines())) == (3, "", 1), result.stderr
