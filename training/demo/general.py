"""What the base answers to general questions, by the likelihood of each possible answer; and its captions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from training.demo.annotate import LIGHTS, NUMBERS
from training.demo.facts import lying, walking
from training.demo.language import group_times
from training.demo.scoring import Asked, Loaded, answers
from training.demo.wording import cows, number, sentence

Facts = dict[str, Any]

QUESTIONS: dict[str, tuple[str, list[str], Callable[[Facts], int]]] = {
    "light": (
        "Is it daylight or infrared night?",
        [sentence(LIGHTS["day"]), sentence(LIGHTS["night"])],
        lambda f: int(f["light"] == "night"),
    ),
    "count": (
        "How many cows are in this video?",
        [sentence(cows(n)) for n in range(1, len(NUMBERS))],
        lambda f: int(f["animals"]) - 1,
    ),
    "lying": (
        "How many cows lie in this video?",
        [sentence(number(n, "lie")) for n in range(len(NUMBERS))],
        lying,
    ),
    "walking": (
        "How many cows walk in this video?",
        [sentence(number(n, "walk")) for n in range(len(NUMBERS))],
        walking,
    ),
    "close": ("Do two cows come close?", ["No.", "Yes."], lambda f: int(any(f["close"]))),
}
"""Question, possible answers, index of the true one."""


def asked(
    loaded: Loaded, notes: Sequence[dict[str, Any]], features: NDArray[np.float16], batch: int = 4
) -> dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Per question (answered, true), each (N,) index of an answer."""
    questions: list[Asked] = [(question, tuple(options)) for question, options, _ in QUESTIONS.values()]
    found = []
    with torch.inference_mode():
        for first in range(0, len(notes), batch):
            part = range(first, min(first + batch, len(notes)))
            times = [group_times(notes[i]) for i in part]
            found.append(answers(loaded, times, [questions] * len(part), np.asarray(features[first : part.stop])))
    table = torch.cat(found).numpy()
    out: dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
    start = 0
    for name, (_, options, truth) in QUESTIONS.items():
        answered = table[:, start : start + len(options)].argmax(1).astype(np.int64)
        out[name] = answered, np.array([truth(note["facts"]) for note in notes], np.int64)
        start += len(options)
    return out
