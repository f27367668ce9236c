"""What is said about a rendered picture's quality: what is seen, what to do, the status; from what was done."""

from __future__ import annotations

from services.dialog import STATUS
from services.quality_grade import CLASSES
from services.schema import GRADES, Grade

STRENGTHS = ("slightly", "clearly", "strongly", "severely")
SHARES = ("A small part", "A third", "Half", "Most")
_SEEN = {
    "clean": "The picture is sharp, clear and bright.",
    "blur": "The picture is {strength} blurred and edges are soft.",
    "noise": "The picture is {strength} noisy and plain parts are grainy.",
    "low_resolution": "The picture is {strength} too coarse and shows square steps.",
    "dark": "The picture is {strength} too dark.",
    "covered": "{share} of the picture is covered by something dark.",
}
_TO_DO = {
    "clean": "Nothing has to be done.",
    "blur": "Clean the lens and set its focus.",
    "noise": "Add light and check the camera's cable.",
    "low_resolution": "Set the camera to a higher resolution.",
    "dark": "Add light or infrared light.",
    "covered": "Clean the lens and clear the view.",
}
UNTIL_THEN = "Until then do not rely on this camera."
"""Added from severity 3 on."""


def grade(kind: str, level: int) -> Grade:
    """The quality task's answer for a degradation of ``degrade.degrade`` (``none`` and 0: clean)."""
    return GRADES[0] if kind == "none" else Grade(CLASSES[kind], level)


def reason(kind: str, level: int) -> str:
    """What is seen and what to do; one to three sentences."""
    name = "clean" if kind == "none" else kind
    words = {"strength": STRENGTHS[level - 1], "share": SHARES[level - 1]} if level else {}
    parts = [_SEEN[name].format(**words), _TO_DO[name]]
    return " ".join([*parts, UNTIL_THEN] if level >= 3 else parts)


def bare(kind: str, level: int) -> str:
    """The status alone: the form that scoring reads."""
    return f"{STATUS} {grade(kind, level).words}"


def full(kind: str, level: int) -> str:
    return f"{reason(kind, level)}\n{bare(kind, level)}"
