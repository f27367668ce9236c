"""Measures on the posed bodies what makes a mounting: both forelegs lifted, chest over the other animal's back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.demo.plan import ClipPlan
from training.demo.surface import numbers, posed_herd, stage

STEP_S = 0.1
LIFTED_M = 0.2  # both front hooves higher than this
LEAST_S = 0.3  # for at least this long
_SEEN_PX = 120


@dataclass(frozen=True, slots=True)
class Criteria:
    """``lifted``: some animal has both front feet off the floor; ``on_back``: some animal's chest lies over another's
    back; ``same_pair``: one animal does both at once. Each for at least 0.3 s within the clip."""

    lifted: bool
    on_back: bool
    same_pair: bool


def _long_enough(flags: NDArray[np.bool_]) -> bool:
    need = round(LEAST_S / STEP_S)
    run = np.convolve(flags.astype(int), np.ones(need, int), mode="valid") if len(flags) >= need else np.zeros(1)
    return bool((run == need).any())


def criteria(plan: ClipPlan) -> Criteria:
    """The three criteria, from the joints and hooves alone (the label is not read)."""
    times = np.arange(0.0, plan.duration_s, STEP_S)
    posed, table = posed_herd(plan, times)
    frames, count = len(times), len(plan.animals)
    hooves = posed.hooves.reshape(frames, count, 4, 3)
    chest, back = posed.chest.reshape(frames, count, 3), posed.back.reshape(frames, count)
    up = hooves[:, :, :2, 2].min(-1) > LIFTED_M
    lifted = any(_long_enough(up[:, a]) for a in range(count))
    on_back = same = False
    for a in range(count):
        for b in range(count):
            if a == b:
                continue
            d = chest[:, a, :2] - table[:, b, :2]
            yaw = table[:, b, 2]
            along = d[:, 0] * np.cos(yaw) + d[:, 1] * np.sin(yaw)
            across = -d[:, 0] * np.sin(yaw) + d[:, 1] * np.cos(yaw)
            over = (along > -0.4) & (along < 1.5) & (np.abs(across) < 0.42) & (back[:, b] > 0.9)
            on = over & (chest[:, a, 2] > back[:, b] - 0.3) & (chest[:, a, 2] < back[:, b] + 0.55)
            on_back = on_back or _long_enough(on)
            same = same or _long_enough(on & up[:, a])
    return Criteria(lifted, on_back, same)


def visible(plan: ClipPlan) -> tuple[bool, ...]:
    """For each animal whether the picture shows it: at least 120 px at one of three times."""
    scene = stage(plan, np.array([0.1, 0.5, 0.9]) * plan.duration_s)
    owner = np.concatenate([[255], scene.owner])
    most = np.zeros(256, np.int64)
    for i in range(3):
        most = np.maximum(most, np.bincount(owner[numbers(scene, i).ravel()], minlength=256))
    return tuple(bool(most[a] >= _SEEN_PX) for a in range(len(plan.animals)))
