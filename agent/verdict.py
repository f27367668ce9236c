"""Model text and scores to a verdict. Pure functions; no model, no file.

The score decides, never the text: p_vlm is the softmax over the summed log-probabilities of the two complete
continuations of ``Status:``; the calibrated probability joins it with the neighbours' vote; confidence below the
calibrated thresholds, pictures unlike the training data and useless pictures are *unclear*.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from services.schema import Calibration, Novelty, Quality, TextVerdict, Verdict

EPSILON = 1e-6
"""Probabilities are kept this far from 0 and 1 before their logit is taken."""

_STATUS_LINE = re.compile(r"^[\s>*_#-]*status\s*[:：]\s*[*_\"']*\s*(mounting|normal)\b", re.IGNORECASE | re.MULTILINE)
_ANY_STATUS = re.compile(r"\bstatus\s*[:：]", re.IGNORECASE)


def text_verdict(answer: str) -> TextVerdict:
    """What the last ``Status:`` of the answer says; ``unparsed`` when there is none or it says something else.

    >>> text_verdict("Status: Normal at first.\\nStatus: Mounting")
    'mounting'
    >>> text_verdict("Nothing about this is Normal.")
    'unparsed'
    """
    matches = list(_STATUS_LINE.finditer(answer))
    anywhere = list(_ANY_STATUS.finditer(answer))
    if not matches or anywhere[-1].start() > matches[-1].end():
        return "unparsed"
    return "mounting" if matches[-1].group(1).lower() == "mounting" else "normal"


def reason_of(answer: str) -> str:
    """The answer without its closing ``Status:`` line: one paragraph for a person to read."""
    matches = list(_STATUS_LINE.finditer(answer))
    text = answer[: matches[-1].start()] if matches else answer
    return " ".join(text.split())


def softmax_mounting(scores: tuple[float, ...]) -> float:
    """p(mounting) from the summed log-probabilities (mounting, normal) of the two complete continuations."""
    return 1.0 / (1.0 + math.exp(max(-700.0, min(700.0, scores[1] - scores[0]))))


def logit(p: float) -> float:
    p = min(max(p, EPSILON), 1.0 - EPSILON)
    return math.log(p / (1.0 - p))


def combine(p_vlm: float, vote: float | None, calibration: Calibration) -> float:
    """Calibrated p(mounting): logistic in logit(p_vlm) and the centred vote (see ``Calibration``)."""
    z = calibration.bias + calibration.weight_vlm * logit(p_vlm)
    if vote is not None:
        z += calibration.weight_vote * (2.0 * vote - 1.0)
    return 1.0 / (1.0 + math.exp(max(-700.0, min(700.0, -z))))


UNUSABLE, UNLIKE = "picture unusable", "unlike the training clips"
BEYOND_PROBABILITY = (UNUSABLE, UNLIKE)
"""Rules that no probability outweighs: what is shown beside them must not read as if it counted."""


def counting(p: float | None, rule: str) -> float | None:
    """``p`` where it may stand beside a verdict that ``rule`` gave; None where it would read as if it counted."""
    return None if rule in BEYOND_PROBABILITY else p


def left_open(verdict: str, p: float | None, rule: str) -> float | None:
    """The calibrated probability with which ``rule`` left a verdict open; None where it gave one, or where something
    else decided."""
    return counting(p, rule) if verdict == "unclear" else None


def percent(p: float) -> str:
    """A probability as whole per cent, never rounded to certainty.

    >>> percent(0.9999), percent(0.974), percent(0.0002)
    ('> 99 %', '97 %', '< 1 %')
    """
    if p > 0.99:
        return "> 99 %"
    return "< 1 %" if p < 0.01 else f"{p * 100:.0f} %"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with the calibrated probability (None without a score) and the rule that gave it."""

    verdict: Verdict
    p_mounting: float | None
    rule: str


def judge(
    scores: tuple[float, ...] | None,
    text: TextVerdict,
    vote: float | None,
    calibration: Calibration,
    *,
    quality: Quality,
    novelty: Novelty,
) -> Judgement:
    """The verdict of one variant. Blocking picture quality and novelty come first: no probability outweighs them.
    Without scores (a server that gives no log-probabilities) the text decides alone, without a probability."""
    if scores is None:
        p = None
        verdict: Verdict = "unclear" if text == "unparsed" else text
        rule = "text only"
    else:
        p = combine(softmax_mounting(scores), vote, calibration)
        rule = "model score" if vote is None else "model score + neighbour vote"
        if p >= calibration.mounting_above:
            verdict = "mounting"
        elif p <= calibration.normal_below:
            verdict = "normal"
        else:
            verdict, rule = "unclear", f"{rule}: confidence too low"
    if quality.blocking:
        return Judgement("unclear", p, UNUSABLE)
    if novelty.outside:
        return Judgement("unclear", p, UNLIKE)
    return Judgement(verdict, p, rule)
