"""The verdict: what counts as one, and that scores decide."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import verdict
from services.schema import Calibration, Novelty, Quality

CLEAN, KNOWN = Quality(1.0), Novelty(0.0, None)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Two animals stand close.\nStatus: Normal", "normal"),
        ("status: mounting", "mounting"),
        ("**Status: Mounting**", "mounting"),
        ("Status： Normal", "normal"),
        ("Status: Normal at first.\nStatus: Mounting", "mounting"),
        ("Status: Mounting\nStatus: undecided", "unparsed"),
        ("This is Normal behaviour, not Mounting.", "unparsed"),
        ("The status is: Mounting", "unparsed"),
        ("Status: Mountingish", "unparsed"),
        ("", "unparsed"),
    ],
)
def test_only_the_last_status_line_counts(answer: str, expected: str) -> None:
    assert verdict.text_verdict(answer) == expected


@given(st.text().filter(lambda text: "status" not in text.lower()))
def test_text_without_a_status_is_never_guessed(text: str) -> None:
    assert verdict.text_verdict(text) == "unparsed"


@given(st.text(), st.sampled_from(["Mounting", "Normal"]))
def test_a_closing_status_line_is_always_read(text: str, word: str) -> None:
    assert verdict.text_verdict(f"{text}\nStatus: {word}") == word.lower()


@given(st.floats(-200, 0), st.floats(-200, 0))
def test_probability_is_the_softmax_of_the_two_scores(mounting: float, normal: float) -> None:
    top = max(mounting, normal)
    expected = math.exp(mounting - top) / (math.exp(mounting - top) + math.exp(normal - top))
    assert verdict.softmax_mounting((mounting, normal)) == pytest.approx(expected, abs=1e-12)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_more_votes_for_mounting_never_lower_its_probability(p: float, one: float, other: float) -> None:
    low, high = sorted((one, other))
    rule = Calibration(weight_vlm=0.7, weight_vote=1.3)
    assert verdict.combine(p, low, rule) <= verdict.combine(p, high, rule)


def test_the_score_decides_over_the_text() -> None:
    judged = verdict.judge((-9.0, -0.1), "mounting", None, Calibration(), quality=CLEAN, novelty=KNOWN)
    assert judged.verdict == "normal"
    assert judged.p_mounting is not None and judged.p_mounting < 0.01


def test_low_confidence_is_unclear_and_keeps_its_probability() -> None:
    judged = verdict.judge((-1.0, -1.0), "mounting", None, Calibration(), quality=CLEAN, novelty=KNOWN)
    assert (judged.verdict, judged.p_mounting) == ("unclear", 0.5)


def test_only_a_rule_that_was_not_sure_leaves_a_verdict_open() -> None:
    assert verdict.left_open("unclear", 0.6, "model score: confidence too low") == 0.6
    assert verdict.left_open("mounting", 0.99, "model score") is None
    assert verdict.left_open("unclear", 0.99, verdict.UNLIKE) is None
    assert verdict.left_open("unclear", None, "text only") is None


def test_without_scores_the_text_decides_without_a_probability() -> None:
    judged = verdict.judge(None, "mounting", 0.0, Calibration(), quality=CLEAN, novelty=KNOWN)
    assert (judged.verdict, judged.p_mounting, judged.rule) == ("mounting", None, "text only")
    assert verdict.judge(None, "unparsed", 1.0, Calibration(), quality=CLEAN, novelty=KNOWN).verdict == "unclear"


@pytest.mark.parametrize(
    ("quality", "novelty"), [(Quality(0.0, blocking=True), KNOWN), (CLEAN, Novelty(score=9.0, limit=3.0))]
)
def test_no_confidence_outweighs_useless_or_unknown_pictures(quality: Quality, novelty: Novelty) -> None:
    judged = verdict.judge((0.0, -50.0), "mounting", 1.0, Calibration(), quality=quality, novelty=novelty)
    assert judged.verdict == "unclear"


def test_the_reason_is_the_answer_without_its_status() -> None:
    assert verdict.reason_of("A cow rises.\nIt holds.\nStatus: Mounting") == "A cow rises. It holds."
