"""What is true of a clip, in a form that questions are written from: read off the plan, never off the pictures.

Behaviours that come near to mounting, mounting itself included, are all plain *standing* here, so that what the base
learns to say is equally true of the look-alikes and cannot give the label away in other words.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.demo.plan import ClipPlan

F64 = NDArray[np.float64]
STATES = ("standing", "walking", "lying")
CLOSE_M = 2.8
"""Two animals are close when the middles of their bodies lie within about a cow's length of each other."""

_AS_LYING = ("lying",)
_AS_WALKING = ("walking", "following", "walking past", "passing behind")


def facts(plan: ClipPlan, times_s: F64) -> dict[str, Any]:
    """JSON-ready. ``states`` [animal][time] index into STATES; ``at`` [animal][time] (x, y) in the picture, 0…1;
    ``close`` [time] whether any two animals are; ``walks``, ``lies`` [animal] the longest spell (start, end) in s or
    None."""
    spots = np.stack([_middles(animal.track.at(times_s)) for animal in plan.animals])
    pixels = [plan.camera.project(np.concatenate([spot, np.full((len(spot), 1), 0.8)], 1))[0] for spot in spots]
    apart = np.linalg.norm(spots[:, None] - spots[None], axis=-1)
    apart[np.arange(len(spots)), np.arange(len(spots))] = np.inf
    spells = [animal.track.spells for animal in plan.animals]
    return {
        "light": plan.light,
        "animals": len(plan.animals),
        "coats": [animal.coat for animal in plan.animals],
        "states": [[_state_at(own, t) for t in times_s] for own in spells],
        "at": [np.round(xy / (448.0, 256.0), 3).tolist() for xy in pixels],
        "close": [bool(value) for value in (apart.min((0, 1)) < CLOSE_M)],
        "walks": [_longest(own, _AS_WALKING) for own in spells],
        "lies": [_longest(own, _AS_LYING) for own in spells],
        "kind": plan.kind,
        "label": plan.label,
        "direction": plan.direction,
        "act": [plan.act.start_s, plan.act.end_s],
        "timing": plan.timing,
        "difficulty": plan.difficulty,
        "hidden": plan.hidden,
        "view": plan.camera.name,
        "duration_s": plan.duration_s,
    }


def _middles(table: F64) -> F64:
    x, y, yaw = table[:, 0], table[:, 1], table[:, 2]
    return np.stack([x + 0.6 * np.cos(yaw), y + 0.6 * np.sin(yaw)], -1)


def _state_at(spells: Any, t: float) -> int:
    name = next((s.behaviour for s in spells if s.start_s <= t < s.end_s), "standing")
    return 2 if name in _AS_LYING else 1 if name in _AS_WALKING else 0


def _longest(spells: Any, names: tuple[str, ...]) -> list[float] | None:
    merged: list[list[float]] = []
    for spell in spells:
        if spell.behaviour not in names:
            continue
        if merged and spell.start_s - merged[-1][1] < 0.3:
            merged[-1][1] = float(spell.end_s)
        else:
            merged.append([float(spell.start_s), float(spell.end_s)])
    return max(merged, key=lambda s: s[1] - s[0], default=None)


def lying(facts: dict[str, Any]) -> int:
    """How many animals lie at some time."""
    return sum(spell is not None for spell in facts["lies"])


def walking(facts: dict[str, Any]) -> int:
    """How many animals walk at some time."""
    return sum(spell is not None for spell in facts["walks"])
