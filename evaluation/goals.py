"""The stated goals against what was measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evaluation.controls import chance_rows, default_runs, leaks
from evaluation.document import Run, Section, Table, count_of
from evaluation.metrics import confusion, proportion, scores
from evaluation.neighbours import FOLLOWING_LIMIT
from evaluation.ranking import mean
from evaluation.reliability import ece
from evaluation.summary import number, shown
from services.settings import profiles

ACCURACY, COVERAGE, ECE, ECE_CLIPS, NEAREST_RIGHT = 0.98, 0.85, 0.03, 2000, 0.85
CLIPS = 400
NEAREST = 5


def goals(found: Sequence[Run]) -> Section:
    """The stated goals against what was measured; what was not measured says so."""
    section = Section("Goals", ["Stated before measuring. 'met' and 'not met' go by the measured value itself."])
    rows = [
        *_verdict_goal(found), *_ece_goal(found), *_leak_goal(found), *_retrieval_goal(found), *_control_goal(found)
    ]  # fmt: skip
    section.tables.append(Table(("goal", "result", "measured", "on"), tuple(rows)))
    return section


def _the_default(found: Sequence[Run]) -> list[Run]:
    """Of the runs under the profile's own retrieval the one with most clips."""
    usual = [run for run in default_runs(found) if _is_usual(run)]
    return [max(usual, key=lambda run: len(run.result.clips))] if usual else []


def _is_usual(run: Run) -> bool:
    s = run.result.settings
    return s.profile in profiles() and profiles()[s.profile].retrieval == s.retrieval


def _verdict_goal(found: Sequence[Run]) -> list[tuple[str, ...]]:
    goal = f"final verdict: accuracy of answered ≥ {ACCURACY} at coverage ≥ {COVERAGE}, {CLIPS} clips or more"
    rows: list[tuple[str, ...]] = []
    for run in _the_default(found):
        view = run.views[0]
        s = scores(confusion(view.truth, view.answers))
        good = s.accuracy_answered.value >= ACCURACY and s.coverage.value >= COVERAGE
        measured = f"{shown(s.accuracy_answered)} at coverage {shown(s.coverage)}"
        rows.append((goal, _word(good, len(view.rows) >= CLIPS), measured, f"{view.title}, {count_of(view)}"))
    return rows or [(goal, "not measured", "–", "–")]


def _ece_goal(found: Sequence[Run]) -> list[tuple[str, ...]]:
    goal = f"ECE ≤ {ECE} (10 equal-mass bins, {ECE_CLIPS} clips or more)"
    rows: list[tuple[str, ...]] = []
    for run in _the_default(found):
        truth, p = run.views[0].scored()
        if len(p):
            value = ece(truth, p)
            rows.append(
                (goal, _word(value <= ECE, len(p) >= ECE_CLIPS), number(value), f"{run.views[0].title}, n={len(p)}")
            )
    return rows or [(goal, "not measured", "–", "–")]


def _leak_goal(found: Sequence[Run]) -> list[tuple[str, ...]]:
    goal = f"verdicts that follow swapped labels ≤ {FOLLOWING_LIMIT}"
    rows: list[tuple[str, ...]] = [
        (goal, _word(entry.within_limit, True), shown(entry.followed), f"{entry.variant}, n={entry.followed.n}")
        for entry in leaks(found)[:1]  # the variant that speaks for the clip
    ]
    return rows or [(goal, "not measured", "–", "–")]


def _retrieval_goal(found: Sequence[Run]) -> list[tuple[str, ...]]:
    """By the five references nearest to each clip, of those that voted."""
    goal = f"label that most of the {NEAREST} nearest references have, as shipped: right ≥ {NEAREST_RIGHT}"
    rows: list[tuple[str, ...]] = []
    for run in _the_default(found):
        near = [clip for clip in run.result.clips if len(clip.voters) >= NEAREST]
        if not near:
            continue
        same = np.array([[case.label == clip.truth for case in clip.voters[:NEAREST]] for clip in near])
        right = proportion(int((same.mean(1) > 0.5).sum()), len(near))
        measured = f"{shown(right)}, precision@{NEAREST} {shown(mean(same.mean(1)))}"
        rows.append((goal, _word(right.value >= NEAREST_RIGHT, True), measured, f"{run.name}, n={len(near)}"))
    return rows or [(goal, "not measured", "–", "–")]


def _control_goal(found: Sequence[Run]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        (f"{name} at chance", good, f"balanced accuracy {balanced}, AUC {area}", f"{title}, n={clips}")
        for name, title, clips, balanced, area, good in chance_rows(found)
    ]
    return rows or [("controls at chance", "not measured", "–", "–")]


def _word(good: bool, enough: bool) -> str:
    return ("met" if good else "not met") + ("" if enough else " (on too few clips)")
