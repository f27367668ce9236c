"""The form of a question with its answer, and the few phrases that all of the base's texts share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from training.demo.annotate import NUMBERS, stretch


@dataclass(frozen=True, slots=True)
class Exercise:
    """``question`` stands after the video, ``answer`` is what the model learns to write."""

    question: str
    answer: str


def number(count: int, verb: str) -> str:
    """``no cow lies``, ``one cow lies``, ``two cows lie``"""
    return f"{cows(count)} {verb}{'s' if count < 2 else ''}"


def cows(count: int) -> str:
    """``no cow``, ``one cow``, ``two cows``: the words of the annotations."""
    return f"{NUMBERS[count]} cow{'s' if count > 1 else ''}"


def sentence(*parts: str) -> str:
    """The parts, joined by commas, as one sentence."""
    text = ", ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def yes_or_no(flag: bool) -> str:
    """``Yes.`` or ``No.``"""
    return "Yes." if flag else "No."


def when(spells: Sequence[Sequence[float]], otherwise: str) -> str:
    """The longest of these stretches (start, end) in s as a sentence, ``otherwise`` where there is none."""
    longest = max(spells, key=lambda spell: spell[1] - spell[0], default=None)
    return sentence(otherwise if longest is None else stretch(longest[0], longest[1]))
