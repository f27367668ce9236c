"""Model text and scores to a finding on picture quality. Pure functions; no model, no file.

The rule is that of the mounting verdict: the score decides, never the text. Every answer of ``GRADES`` is a complete
continuation of ``Status:``; its probability is the softmax over the summed log-probabilities. The degradation with the
largest sum over its severities wins, its severity is the mean of them, weighted by probability and rounded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from services.schema import DEGRADATION_WORDS, GRADES, Degradation, Quality

_KINDS: dict[str, Degradation] = {word.lower(): kind for kind, word in DEGRADATION_WORDS.items()}
_STATUS = re.compile(
    rf"^[\s>*_#-]*status\s*[:：]\s*[*_\"']*\s*({'|'.join(map(re.escape, _KINDS))})\b(?:,?\s*severity\s*([1-4])\b)?",
    re.IGNORECASE | re.MULTILINE,
)
_ANY_STATUS = re.compile(r"\bstatus\s*[:：]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Found:
    """What one variant finds. ``kind`` None: nothing could be read from it; ``severity`` 0 for clean, None where the
    text names none; ``scores``: probability of each degradation, None without scores; ``rule`` that decided."""

    kind: Degradation | None
    severity: int | None = None
    scores: dict[str, float] | None = None
    rule: str = "text only"


def text_found(answer: str) -> Found:
    """What the last ``Status:`` of the answer says; nothing when there is none or it says something else.

    >>> text_found("Edges are soft.\\nStatus: Blur, severity 2").severity
    2
    >>> text_found("There is no noise.").kind is None
    True
    """
    matches = list(_STATUS.finditer(answer))
    anywhere = list(_ANY_STATUS.finditer(answer))
    if not matches or anywhere[-1].start() > matches[-1].end():
        return Found(None)
    kind = _KINDS[matches[-1].group(1).lower()]
    if kind == "clean":
        return Found(kind, 0)
    severity = matches[-1].group(2)
    return Found(kind, int(severity) if severity else None)


def advice_of(answer: str) -> str:
    """The answer without its closing ``Status:`` line: what is seen and what to do, one paragraph."""
    matches = list(_STATUS.finditer(answer))
    text = answer[: matches[-1].start()] if matches else answer
    return " ".join(text.split())


def reason_of(answer: str, decided: Found, measured: Quality) -> str:
    """What the deciding model wrote. Where it writes of something else than its score says, what was measured, if that
    agrees with the score, else nothing: a reason that speaks against the finding would mislead."""
    said = text_found(answer).kind
    if said is None or said == decided.kind:
        return advice_of(answer)
    return " ".join(finding.text for finding in measured.findings) if measured.grade.kind == decided.kind else ""


def probabilities(scores: Sequence[float]) -> list[float]:
    """Softmax over the summed log-probabilities of the complete continuations, in the order of ``GRADES``."""
    top = max(scores)
    weights = [math.exp(score - top) for score in scores]
    return [weight / sum(weights) for weight in weights]


def judge(scores: Sequence[float] | None, text: Found) -> Found:
    """The finding of one variant; without scores (a server that gives no log-probabilities) that of its text."""
    if scores is None:
        return text
    by_grade = dict(zip(GRADES, probabilities(scores), strict=True))
    by_kind = {kind: sum(p for grade, p in by_grade.items() if grade.kind == kind) for kind in DEGRADATION_WORDS}
    kind = max(by_kind, key=lambda name: by_kind[name])
    mean = sum(p * grade.severity for grade, p in by_grade.items() if grade.kind == kind) / by_kind[kind]
    return Found(kind, round(mean), {str(name): p for name, p in by_kind.items()}, "model score")
