"""Questions about what cows do besides standing, walking and lying: feeding, sniffing, pushing and the like.

Mounting is never asked about and never told of. What one cow does next to another is asked where that is something
else; whether and when a cow feeds, sniffs, … is asked of every clip and answered by what happened.
"""

from __future__ import annotations

import random
from typing import Any

from training.demo.annotate import deed, stretch
from training.demo.wording import Exercise, sentence

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
        return Exercise(f"When does a cow {DEEDS[name]}?", sentence(_when(note, name)))
    at = rng.choice(times_s)
    return Exercise(f"Does a cow {DEEDS[name]} at {at:.1f} s?", _yes(_going_on(note, name, at)))


def moment_exercise(note: Note, group: int, rng: random.Random) -> Exercise:
    """One question about two neighbouring frames."""
    at = sum(note["times_s"][2 * group : 2 * group + 2]) / 2
    facts = note["facts"]
    if facts["label"] == "normal" and facts["act"][0] <= at <= facts["act"][1] and rng.random() < 0.6:
        return Exercise(BESIDE, sentence(_deed(facts)))
    name = _asked(note, rng)
    return Exercise(f"Does a cow {DEEDS[name]}?", _yes(_going_on(note, name, at)))


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
    present = sorted({spell["behaviour"] for spell in _spells(note)} & set(DEEDS))
    return rng.choice(present) if present and rng.random() < 0.65 else rng.choice(sorted(DEEDS))


def _spells(note: Note) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = note["annotation"]["metadata"]["behaviours"]
    return found


def _when(note: Note, name: str) -> str:
    """The longest stretch."""
    own = [(s["start_s"], s["end_s"]) for s in _spells(note) if s["behaviour"] == name]
    if not own:
        return "no cow does"
    return stretch(*max(own, key=lambda s: s[1] - s[0]))


def _going_on(note: Note, name: str, at_s: float) -> bool:
    return any(s["behaviour"] == name and s["start_s"] <= at_s < s["end_s"] for s in _spells(note))


def _yes(flag: bool) -> str:
    return "Yes." if flag else "No."
