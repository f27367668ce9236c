"""What is asked. Training, evaluation and serving use exactly these words.

The definition names what counts (any cattle, either sex, short and failed attempts) and what looks alike: without
it the source's model argued true cases away because "both animals are cows". Descriptions of
reference clips are data: quoted, one line, shortened, and stripped of anything that a chat template or the verdict's
parser could take for structure, and of times, which say nothing about another video and were copied into its answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from services.schema import Hit, RetrievalMode

TASK = (
    "Watch the cattle in this video. Mounting means that one animal rises and puts its front legs or chest on another "
    "animal. Cattle of either sex count, and short or failed attempts count. Standing close, walking past, resting the "
    "chin, pushing with the head, sniffing, lying down and getting up are normal."
)
CLOSING = "Explain what you see, then end with Status: Mounting or Status: Normal."
COMPARE = "These cases are other videos. Judge this video by its own pictures."

DESCRIPTION_LIMIT = 320
"""Characters of a reference description that are shown; longer ones end in an ellipsis."""

_MARKUP = re.compile(r"<[^<>]{0,80}>")
_TIME = r"(?:\d+(?::\d+)+|\d+(?:\.\d+)?\s?s(?:ec(?:onds?)?)?)\b"
_SPAN = re.compile(rf"\s*\b(from|between)\s+{_TIME}\s+(?:to|and)\s+{_TIME}(\s+\w)?", re.IGNORECASE)
_STATUS = re.compile(r"\b(status|answer)\s*[:：]", re.IGNORECASE)


def quoted(description: str) -> str:
    """One harmless line of ``description``: no markup, no quotes, no ``Status:``, no stretch of time, at most
    DESCRIPTION_LIMIT long."""
    text = _STATUS.sub(r"\1", _MARKUP.sub(" ", description))
    text = " ".join(without_times(text).replace('"', "'").replace("<", " ").replace(">", " ").split())
    return text if len(text) <= DESCRIPTION_LIMIT else text[: DESCRIPTION_LIMIT - 1].rstrip() + "…"


def without_times(text: str) -> str:
    """``text`` without its stretches of time; what follows one begins the sentence where the span did."""

    def rest(span: re.Match[str]) -> str:
        after = span[2] or ""
        return after.upper() if span[1][0].isupper() else after

    return _SPAN.sub(rest, text)


def context(mode: RetrievalMode, shown: Sequence[Hit]) -> str:
    """The paragraph about reference clips: two named cases for ``contrastive`` (labels named by us), one similar
    video without its label for ``nearest`` (as the source does), nothing for ``off`` or when nothing was found."""
    if mode == "off" or not shown:
        return ""
    if mode == "nearest":
        return similar(shown[0].description)
    return compared((hit.label, hit.description) for hit in shown)


def similar(description: str) -> str:
    """One video without its label."""
    return f'A similar earlier video was described like this: "{quoted(description)}" {COMPARE}'


def compared(cases: Iterable[tuple[str, str]]) -> str:
    """Cases of (label, description), in this order."""
    return " ".join([*(f'A {label} case: "{quoted(description)}"' for label, description in cases), COMPARE])


def mounting_question(mode: RetrievalMode = "off", shown: Sequence[Hit] = ()) -> str:
    """The whole question that stands after the video."""
    return "\n".join(part for part in (TASK, context(mode, shown), CLOSING) if part)


QUALITY_TASK = (
    "These pictures come from one barn camera: first the whole picture, then parts of it in full resolution. Say what "
    "spoils it most: blur, noise, low resolution, dark or covered, or nothing, and how much, from severity 1 (slight) "
    "to 4 (severe)."
)
QUALITY_CLOSING = "Explain what you see and what to do, then end with Status: and the finding."


def quality_question() -> str:
    """The whole question that stands after the pictures."""
    return f"{QUALITY_TASK}\n{QUALITY_CLOSING}"
