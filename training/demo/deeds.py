"""Questions about what cows do besides standing, walking and lying: feeding, sniffing, pushing and the like.

Mounting is never asked about here and never told of. What one cow does next to another is asked where that is something
else; whether and when a cow feeds, sniffs, … is asked of every clip and answered by what happened.
"""

from __future__ import annotations

import random
from typing import Any

from training.demo.annotate import deed, stretch
from training.demo.wording import Exercise, sentence, when, yes_or_no

Note = dict[str, Any]

DEEDS = {
    "feeding": "feed", "lying down": "lie down", "getting up": "get up", "sniffing": "sniff another cow",
    "chin resting": "rest its chin on another cow", "head pushing": "push another cow with its head",
    "following": "follow another cow", "front raised": "stand with its front feet on a step",
}  # fmt: skip
"""As annotated, and as asked. Standing close, passing and walking past are missing: other animals do them, too."""
BESIDE = "What does a cow do next to another?"


def deed_exercise(note: Note, times_s: list[float], rng: random.Random) -> Exercise:
    """One question about a whole clip; ``times_s`` are the times written before its groups."""
    draw = rng.random()
    if note["facts"]["label"] == "normal" and draw < 0.5:
        return _beside(note, rng)
    name = _asked(note, rng)
    if draw < 0.8:
        return Exercise(f"When does a cow {DEEDS[name]}?", when(_spells(note, name), "no cow does"))
    at = rng.choice(times_s)
    return Exercise(f"Does a cow {DEEDS[name]} at {at:.1f} s?", yes_or_no(_going_on(note, name, at)))


def moment_exercise(note: Note, at: float, rng: random.Random) -> Exercise:
    """One question about two neighbouring frames; ``at`` is the time between them."""
    facts = note["facts"]
    if facts["label"] == "normal" and facts["act"][0] <= at <= facts["act"][1] and rng.random() < 0.6:
        return Exercise(BESIDE, sentence(_deed(facts)))
    name = _asked(note, rng)
    return Exercise(f"Does a cow {DEEDS[name]}?", yes_or_no(_going_on(note, name, at)))


def _beside(note: Note, rng: random.Random) -> Exercise:
    facts = note["facts"]
    told = _deed(facts)
    if rng.random() < 0.4:
        return Exercise(BESIDE, sentence(told))
    span = stretch(*facts["act"])
    return Exercise(f"{BESIDE[:-1]}, and when?", sentence(f"{span} {told}" if rng.random() < 0.7 else f"{told} {span}"))


def _deed(facts: dict[str, Any]) -> str:
    return deed(facts["kind"], facts["direction"], facts["coats"], facts["hidden"])


def _asked(note: Note, rng: random.Random) -> str:
    """Mostly something that happens in the clip, if anything does."""
    present = sorted(name for name in DEEDS if _spells(note, name))
    return rng.choice(present) if present and rng.random() < 0.65 else rng.choice(sorted(DEEDS))


def _spells(note: Note, name: str) -> list[tuple[float, float]]:
    """(start, end) in s of every time that an animal does it."""
    told = note["annotation"]["metadata"]["behaviours"]
    return [(spell["start_s"], spell["end_s"]) for spell in told if spell["behaviour"] == name]


def _going_on(note: Note, name: str, at_s: float) -> bool:
    return any(start <= at_s < end for start, end in _spells(note, name))
