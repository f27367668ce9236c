"""The reasons that the mounting adapter is taught, and how its own are checked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.prompts import mounting_question
from services.annotations import answers_mounting
from services.schema import Hit
from services.settings import ROOT, profile
from training.demo.adapter import fine_tune, go_on_with_cases, taught_reason, when, when_with_cases
from training.demo.annotate import annotation
from training.demo.facts import facts
from training.demo.figures import _reason
from training.demo.harvest import Stored
from training.demo.plan import plan_clip
from training.demo.references import Neighbours, reason_of
from training.demo.stages import AGAIN

SPAN = re.compile(r"from \d+\.\d s to \d+\.\d s", re.IGNORECASE)


FEET = {"legs", "chest"}


def without_feet(reason: str) -> str:
    """The sentences in which neither is named, the last of three or of two."""
    sentences = [part.rstrip(".") for part in reason.split(". ")]
    return ". ".join(part for part in sentences if not FEET & set(part.split())) + "."


@pytest.fixture(scope="module")
def notes() -> list[dict[str, Any]]:
    plans = [plan_clip(seed) for seed in range(60)]
    return [
        {
            "seed": plan.seed,
            "times_s": np.linspace(0, plan.duration_s, 16).tolist(),
            "degradation": ["none", 0],
            "facts": facts(plan, np.array([1.0])),
            "annotation": annotation(plan, "x.mp4"),
        }
        for plan in plans
    ]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the trainer, which is left out, was called with."""
    called: dict[str, Any] = {}

    def train(config: Any, own: list[Any], *, references: list[Any], resume: bool) -> None:
        called.update(config=config, own=own, cases=references)

    monkeypatch.setattr("training.demo.adapter.train", train)
    return called


def test_only_of_a_mounting_the_times_are_taught(notes: list[dict[str, Any]]) -> None:
    beginnings = set()
    for note in notes:
        told = without_feet(reason_of(note))
        taught = taught_reason(note)
        if note["facts"]["label"] == "mounting":
            assert taught == told and SPAN.search(taught)
            continue
        assert taught.lower().split() == SPAN.sub("", told.lower()).replace(" .", ".").split()
        assert all(part[0].isupper() for part in taught.split(". "))
        beginnings.add(told[SPAN.search(told).start() - 2 :][:3])  # type: ignore[union-attr]
    assert len(beginnings) > 2, "at a sentence's beginning, in its middle and at its end"


def test_nothing_else_than_the_sentence_about_feet_is_left_out(notes: list[dict[str, Any]]) -> None:
    left_out = 0
    for note in notes:
        taught = taught_reason(note)
        assert not FEET & set(taught.replace(".", "").split())
        assert taught.count(".") - 2 * len(SPAN.findall(taught)) in (1, 2) and taught.endswith(".")
        left_out += bool(FEET & set(reason_of(note).split()))
    assert left_out > 10


def test_when_it_happens_is_asked_of_every_clip_and_is_no_answer_about_mounting(notes: list[dict[str, Any]]) -> None:
    for note in notes:
        asked, told = when(note)
        assert told.text.lower().rstrip(".") in reason_of(note).lower()
        assert not answers_mounting(asked, told)


def test_behind_cases_it_is_asked_in_the_words_of_serving(notes: list[dict[str, Any]]) -> None:
    asked_of = when_with_cases(notes)
    firsts = set()
    for note in notes:
        asked, told = asked_of(note)
        assert told == when(note)[1] and not answers_mounting(asked, told)
        *lines, last = asked.text.removeprefix("<video>\n").split("\n")
        said = re.findall(r'A (mounting|normal) case: "(.*?)"', lines[1])
        assert sorted(label for label, _ in said) == ["mounting", "normal"]
        firsts.add(said[0][0])
        hits = [Hit("", label, 0.0, text, "shipped", None, None) for label, text in said]
        assert lines == mounting_question("contrastive", hits).split("\n")[:-1] and last.endswith("?")
        assert not SPAN.search(lines[1])
    assert firsts == {"mounting", "normal"}


@pytest.mark.parametrize("number, context", [(0, ("mixed", 1.0)), (1, ("contrastive", 0.5))])
def test_the_later_runs_ask_every_clip_with_cases(
    number: int, context: tuple[str, float], notes: list[dict[str, Any]], trained: dict[str, Any], tmp_path: Path
) -> None:
    stored = Stored(tmp_path, np.zeros((60, 0)), None, {}, tuple(notes))
    clips = (stored, np.zeros((60, 0), np.float16))
    base, start = ROOT / profile("demo").base_model, tmp_path / "first"
    go_on_with_cases(
        profile("demo"), base, tmp_path / "adapter", clips, clips, seed=number, start=start, **AGAIN[number]
    )
    config = trained["config"]
    assert (config.context, config.context_share, config.start, config.seed) == (*context, start, number)
    assert [sample.reason for sample in trained["own"]] == [taught_reason(note) for note in notes]
    assert [case.reason for case in trained["cases"]] == [reason_of(note) for note in notes]
    assert [sample.conversations for sample in trained["own"]] == list(map(when_with_cases(notes, number), notes))


def test_cases_are_described_as_the_library_describes_them(
    notes: list[dict[str, Any]], trained: dict[str, Any], tmp_path: Path
) -> None:
    """Whatever else the adapter were trained on, serving would show it something that it never saw."""
    stored = Stored(tmp_path, np.zeros((60, 0)), None, {}, tuple(notes))
    features = np.zeros((60, 0), np.float16)
    base = Path(profile("demo").base_model)
    clips = [(stored, features)]
    fine_tune(profile("demo"), ROOT / base, tmp_path / "adapter", clips, clips, (stored, features))

    assert [case.reason for case in trained["cases"]] == [reason_of(note) for note in notes]
    assert [sample.reason for sample in trained["own"][:60]] == [taught_reason(note) for note in notes]
    assert len(trained["own"]) == 60 + 30
    neighbours = Neighbours(notes, np.eye(60, dtype=np.float32))
    (shown,) = neighbours.shown(np.eye(60, dtype=np.float32)[:1], "nearest")
    assert shown[0].description == reason_of(notes[0])


def said(one: dict[str, Any], start: float, end: float) -> str:
    return f"One cow. From {start:.1f} s to {end:.1f} s it mounts.\nStatus: Mounting"


def test_times_count_where_they_are_told_and_of_every_mounting(notes: list[dict[str, Any]]) -> None:
    mounting = next(one for one in notes if one["facts"]["label"] == "mounting")
    normal = next(one for one in notes if one["facts"]["label"] == "normal")
    start, end = mounting["facts"]["act"]
    assert _reason(said(mounting, start + 0.9, end - 0.9), mounting)["times within 1 s"]
    assert not _reason(said(mounting, start + 1.2, end), mounting)["times within 1 s"]
    assert not _reason("One cow mounts another.\nStatus: Mounting", mounting)["times within 1 s"]
    assert "times within 1 s" not in _reason("One cow stands.\nStatus: Normal", normal)
    start, end = normal["facts"]["act"]
    assert not _reason(said(normal, start + 1.2, end), normal)["times within 1 s"]


def test_a_number_counts_as_right_and_as_nearly_right(notes: list[dict[str, Any]]) -> None:
    note = next(one for one in notes if one["annotation"]["metadata"]["animals"] == 3)
    found = [_reason(f"{told} graze in daylight.", note) for told in ("Three cows", "Two cows", "Five cows", "Cows")]
    assert [row["animals"] for row in found] == [True, False, False, False]
    assert [row["animals within one"] for row in found] == [True, True, False, False]
