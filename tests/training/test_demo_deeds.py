"""What the base is asked about what cows do: true of the clip, and never about mounting."""

from __future__ import annotations

import random
import re
from typing import Any

import numpy as np
import pytest

from training.demo.annotate import annotation
from training.demo.behaviour import NORMAL_KINDS
from training.demo.deeds import BESIDE, DEEDS, deed_exercise, moment_exercise
from training.demo.facts import facts
from training.demo.language import group_times
from training.demo.plan import plan_clip
from training.demo.wording import Exercise


def _note(seed: int, **chosen: Any) -> dict[str, Any]:
    plan = plan_clip(seed, **chosen)
    times = np.round(np.linspace(0.0, plan.duration_s - 0.1, 16), 3)
    return {
        "facts": facts(plan, (times[::2] + times[1::2]) / 2),
        "annotation": annotation(plan, "clip.mp4"),
        "times_s": times.tolist(),
    }


def _asked(note: dict[str, Any], chance: random.Random, count: int = 40) -> list[Exercise]:
    return [deed_exercise(note, group_times(note), chance) for _ in range(count)] + [
        moment_exercise(note, group_times(note)[chance.randrange(8)], chance) for _ in range(count)
    ]


@pytest.fixture(scope="module")
def mountings() -> list[dict[str, Any]]:
    return [_note(seed, mounting=True) for seed in range(8)]


@pytest.fixture(scope="module")
def alike() -> dict[str, dict[str, Any]]:
    """A clip of each look-alike."""
    return {kind: _note(100 + number, kind=kind) for number, kind in enumerate(NORMAL_KINDS)}


def test_of_mounting_nothing_is_asked_or_told(
    mountings: list[dict[str, Any]], alike: dict[str, dict[str, Any]]
) -> None:
    chance = random.Random(0)
    for note in [*mountings, *alike.values()]:
        for exercise in _asked(note, chance):
            assert "mount" not in (exercise.question + exercise.answer).lower()
            assert note["facts"]["label"] == "normal" or not exercise.question.startswith(BESIDE[:-1])


def test_what_a_cow_does_beside_another_is_what_the_reason_says(alike: dict[str, dict[str, Any]]) -> None:
    """In the words of the annotation's reason, with its times where they are asked for."""
    chance = random.Random(1)
    for kind, note in alike.items():
        told = note["annotation"]["conversations"][1]["value"].lower()
        found = [exercise for exercise in _asked(note, chance) if exercise.question.startswith(BESIDE[:-1])]
        assert found, kind
        for exercise in found:
            said = exercise.answer.lower().rstrip(".")
            times = re.search(r"from \d+\.\d s to \d+\.\d s", said)
            assert bool(times) == exercise.question.endswith("and when?")
            assert not times or times[0] in told
            assert re.sub(r" ?from \d+\.\d s to \d+\.\d s ?", "", said) in told


def test_when_and_whether_are_answered_by_what_happened(
    mountings: list[dict[str, Any]], alike: dict[str, dict[str, Any]]
) -> None:
    chance, seen = random.Random(2), {"no cow": 0, "from": 0, "Yes.": 0, "No.": 0}
    for note in [*mountings, *alike.values()]:
        spells = note["annotation"]["metadata"]["behaviours"]
        for exercise in _asked(note, chance):
            name = next((name for name, verb in DEEDS.items() if verb in exercise.question), None)
            if name is None:
                continue
            own = [(s["start_s"], s["end_s"]) for s in spells if s["behaviour"] == name]
            if exercise.question.startswith("When"):
                times = [float(t) for t in re.findall(r"\d+\.\d", exercise.answer)]
                seen["from" if times else "no cow"] += 1
                assert bool(times) == bool(own)
                assert not times or any(max(abs(times[0] - a), abs(times[1] - b)) <= 0.26 for a, b in own)
            elif at := re.search(r"at (\d+\.\d) s", exercise.question):
                seen[exercise.answer] += 1
                going_on = [a <= float(at[1]) < b for a, b in own]
                near = [min(abs(float(at[1]) - a), abs(float(at[1]) - b)) < 0.06 for a, b in own]
                assert any(near) or exercise.answer == ("Yes." if any(going_on) else "No.")
    assert all(count >= 5 for count in seen.values()), seen
