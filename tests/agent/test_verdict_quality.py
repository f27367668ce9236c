"""The finding on picture quality: scores decide, summed over the severities; text is read only where it is clear."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.verdict_quality import Found, advice_of, judge, probabilities, reason_of, text_found
from services.schema import GRADES, Finding, Grade, Quality


@pytest.mark.parametrize(
    ("answer", "kind", "severity"),
    [
        ("Edges are soft.\nStatus: Blur, severity 3", "blur", 3),
        ("**Status: Dark or covered, severity 1**", "dark_or_covered", 1),
        ("status: low resolution severity 2", "low_resolution", 2),
        ("Status: Clean", "clean", 0),
        ("Status: Noise", "noise", None),
        ("Status: Blur, severity 9", "blur", None),
        ("Status: Clean\nStatus: undecided", None, None),
        ("There is much noise.", None, None),
        ("Status: Blurry", None, None),
    ],
)
def test_only_the_last_status_line_counts(answer, kind, severity):
    found = text_found(answer)
    assert (found.kind, found.severity, found.scores) == (kind, severity, None)


@pytest.mark.parametrize("grade", GRADES)
def test_every_answer_is_read_back_from_its_own_words(grade: Grade):
    found = text_found(f"What is seen.\nStatus: {grade.words}")
    assert (found.kind, found.severity) == (grade.kind, grade.severity)


@given(st.lists(st.floats(-60, 0), min_size=len(GRADES), max_size=len(GRADES)))
def test_the_class_with_the_most_probability_wins_and_its_severity_lies_among_its_own(scores):
    found = judge(scores, Found("clean", 0))
    p = probabilities(scores)
    assert sum(p) == pytest.approx(1.0) and found.scores is not None
    assert found.scores[str(found.kind)] == max(found.scores.values())
    assert found.severity in ((0,) if found.kind == "clean" else (1, 2, 3, 4))


def test_many_likely_severities_outweigh_the_single_likeliest_answer():
    p = {Grade("clean", 0): 0.4, Grade("noise", 1): 0.3, Grade("noise", 2): 0.3}
    found = judge([math.log(p.get(grade, 1e-9)) for grade in GRADES], Found("clean", 0))
    assert found.kind == "noise" and found.severity in (1, 2) and found.rule == "model score"


def test_without_scores_the_text_decides():
    assert judge(None, text_found("Status: Blur, severity 2")) == Found("blur", 2)


def test_the_advice_is_the_answer_without_its_status():
    assert advice_of("Edges are soft.\nClean the lens.\nStatus: Blur, severity 2") == "Edges are soft. Clean the lens."


def test_a_reason_never_speaks_against_the_finding():
    """Words about something else than what the score says give way to what was measured, where that agrees."""
    noisy = Quality(0.4, (Finding("noise", 12.0, 6.0, "The picture is noisy; add light."),), grade=Grade("noise", 2))
    against, found = "The picture is sharp. Nothing has to be done.\nStatus: Clean", Found("noise", 2)
    assert reason_of(against, found, noisy) == "The picture is noisy; add light."
    assert reason_of(against, found, Quality(1.0)) == ""
    assert reason_of(against, Found("clean", 0), noisy) == "The picture is sharp. Nothing has to be done."
    assert reason_of("It is grainy.", found, Quality(1.0)) == "It is grainy."
