"""One analysis from clip to report, on the embedded models and real files."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path

import pytest

from agent import console
from agent.events import (
    Event,
    Failed,
    Finished,
    Inspected,
    QueuePlace,
    Retrieved,
    StepFinished,
    StepStarted,
    Token,
)
from agent.graph import analyze, build_graph
from services.model_service import ModelService
from services.schema import Report, Request, Window
from services.settings import ROOT
from tests.media import make_clip, pattern


def run(service: ModelService, path: Path | str, **options: object) -> list[Event]:
    return list(analyze(Request(str(path), **options), service, threading.Event()))  # type: ignore[arg-type]


def report_of(events: list[Event]) -> Report:
    assert isinstance(events[-1], Finished), events[-1]
    return events[-1].report


@pytest.fixture(scope="module")
def sample(service: ModelService) -> Path:
    return service.samples()[0].path


@pytest.fixture(scope="module")
def events(service: ModelService, sample: Path) -> list[Event]:
    return run(service, sample)


def test_the_steps_come_in_order_and_both_variants_speak(events: list[Event]) -> None:
    starts = [(event.step, event.variant) for event in events if isinstance(event, StepStarted)]
    assert [step for step, _ in starts] == ["inspect", "retrieve", "classify", "classify", "report"]
    assert {variant for step, variant in starts if step == "classify"} == {"base", "tuned"}
    assert sum(isinstance(event, StepFinished) for event in events) == 5
    assert sum(isinstance(event, Inspected) for event in events) == 1
    assert sum(isinstance(event, Retrieved) for event in events) == 1
    assert {event.place for event in events if isinstance(event, QueuePlace)} >= {0}
    assert sum(isinstance(event, Finished | Failed) for event in events) == 1


def test_streamed_tokens_are_the_answers_of_the_report(events: list[Event]) -> None:
    for variant in report_of(events).variants:
        streamed = [event for event in events if isinstance(event, Token) and event.variant == variant.name]
        assert "".join(event.text for event in streamed if event.channel == "answer").strip() == variant.answer
        assert len(streamed) >= 3


def test_the_pair_costs_one_decode_one_vision_pass_and_one_prefill(service: ModelService, sample: Path) -> None:
    engine = service.engine
    engine.forget_clips()
    engine.counts.vision = engine.counts.prefill = 0
    decoded: list[str] = []
    original = service.reader.open

    def counting(path: str, *arguments: object, **options: object) -> object:
        decoded.append(path)
        return original(path, *arguments, **options)  # type: ignore[arg-type]

    service.reader.open = counting  # type: ignore[method-assign,assignment]
    try:
        report_of(run(service, sample))
    finally:
        del service.reader.open
    assert (len(decoded), engine.counts.vision, engine.counts.prefill) == (1, 1, 1)


def test_the_query_is_never_its_own_neighbour(service: ModelService, sample: Path, tmp_path: Path) -> None:
    copy = tmp_path / "renamed.mp4"
    copy.write_bytes(sample.read_bytes())
    mine = service.add_reference(str(copy), "normal", "the very same clip")
    try:
        assert mine.id not in [hit.id for hit in report_of(run(service, sample)).neighbours]
        assert mine.id in [reference.id for reference in service.library.list()]
    finally:
        service.library.remove(mine.id)


def test_retrieval_modes_show_what_they_say(service: ModelService, sample: Path) -> None:
    shown = {
        mode: next(e for e in run(service, sample, variants=("tuned",), retrieval=mode) if isinstance(e, Retrieved))
        for mode in ("off", "nearest", "contrastive")
    }
    assert shown["off"].neighbourhood.shown == () and shown["off"].neighbourhood.vote is None
    assert len(shown["nearest"].neighbourhood.shown) == 1
    assert {hit.label for hit in shown["contrastive"].neighbourhood.shown} == {"mounting", "normal"}


def test_a_window_is_looked_at_and_stands_in_the_report(service: ModelService, sample: Path) -> None:
    report = report_of(run(service, sample, window=Window(1.0, 4.0)))
    assert 0.9 <= report.frame_times_s[0] <= 1.1 and 3.8 <= report.frame_times_s[-1] <= 4.0
    assert report.to_json()["clip"]["window"][0] == pytest.approx(1.0, abs=0.1)


def test_cancelling_ends_with_one_sentence_and_status_130(service: ModelService, sample: Path) -> None:
    cancelled = threading.Event()
    seen: list[Event] = []
    for event in analyze(Request(str(sample)), service, cancelled):
        seen.append(event)
        if isinstance(event, Token):
            cancelled.set()
    assert isinstance(seen[-1], Failed) and seen[-1].exit_status == 130
    assert sum(isinstance(event, Token) for event in seen) < 20


@pytest.mark.parametrize("kind", ["black", "frozen", "noise"])
def test_what_the_models_never_saw_is_unclear_and_says_why(service: ModelService, kind: str, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / f"{kind}.mp4", 60, width=448, height=256, fps=10, paint=pattern(kind))
    report = report_of(run(service, clip))
    assert report.verdict == "unclear"
    assert report.decided_by.rule in ("picture unusable", "unlike the training clips")
    assert len(report.warnings) >= 2
    told = "\n".join(console.lines(report))
    assert report.p_mounting is not None and "Verdict: Unclear\n" in told and "probability of mounting" not in told


@pytest.mark.parametrize("name", ["mount_day.mp4", "barn_day.mp4"])
def test_real_footage_is_unclear_under_the_demo_profile(service: ModelService, name: str) -> None:
    folder = os.environ.get("HERDLENS_FOOTAGE")
    if not folder:
        pytest.skip("HERDLENS_FOOTAGE names no folder with real footage")
    report = report_of(run(service, Path(folder) / name))
    assert report.verdict == "unclear" and all(variant.error is None for variant in report.variants)
    assert any("unlike" in warning for warning in report.warnings)


def test_the_readme_shows_the_compiled_graph() -> None:
    drawn = build_graph().get_graph().draw_mermaid().strip()
    shown = re.search(r"```mermaid\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert shown is not None and shown.group(1).strip() == drawn
