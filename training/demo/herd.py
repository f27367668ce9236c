"""Bystanders: animals that go about their day away from the pair, in mounting and normal clips alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.demo.behaviour import Setting
from training.demo.camera import HEIGHT, WIDTH, Camera
from training.demo.tracks import STEP_S, Spell, Track, feed, grid, hump, lower, make, spells_of, standing, walk_gait

F64 = NDArray[np.float64]
WAYS = ("standing", "walking", "lying", "feeding", "lying_down", "getting_up")
_SHARE = (0.30, 0.2, 0.24, 0.14, 0.06, 0.06)


def middle(track: Track) -> F64:
    """Ground position (K, 2) of the body's middle, between pelvis and shoulder."""
    x, y, yaw = track.table[:, 0], track.table[:, 1], track.table[:, 2]
    return np.stack([x + 0.6 * np.cos(yaw), y + 0.6 * np.sin(yaw)], -1)


def bystanders(
    rng: np.random.Generator, pair: tuple[Track, ...], count: int, view: Camera, setting: Setting, fence: float | None
) -> list[Track]:
    """Up to ``count`` tracks that keep clear of the pair and of each other and are in the picture.

    Exactly as many draws are made whatever the pair does; only the places differ that collide with it.
    """
    taken = [middle(track) for track in pair]
    out: list[Track] = []
    for _ in range(max(count, 0)):
        seeds = rng.integers(0, 2**31, 40)
        for k, seed in enumerate(seeds):
            track = _candidate(np.random.default_rng([int(seed)]), view, setting, walks=k < 25)
            spot = middle(track)
            clear = min(float(np.min(np.hypot(*(spot - other).T))) for other in taken) if taken else 9.0
            if clear > 2.05 and _seen(spot, view, fence):
                out.append(track)
                taken.append(spot)
                break
    return out


def _seen(spot: F64, view: Camera, fence: float | None) -> bool:
    """In the picture most of the time, behind the fence, and never so near that it hides everything."""
    ahead = view.rotation[2, :2] / np.linalg.norm(view.rotation[2, :2])
    depth = (spot - view.position[:2]) @ ahead
    xy, _ = view.project(np.concatenate([spot, np.full((len(spot), 1), 0.8)], 1))
    inside = (xy[:, 0] > 20) & (xy[:, 0] < WIDTH - 20) & (xy[:, 1] > 12) & (xy[:, 1] < HEIGHT - 8)
    level = float(np.linalg.norm(view.position[:2]))
    nearest = max(2.6, 0.62 * level, (fence or 0.0) + 1.4)
    return bool(inside.mean() > 0.75 and depth.min() > nearest)


def _candidate(rng: np.random.Generator, view: Camera, s: Setting, *, walks: bool) -> Track:
    t = grid(s.duration_s)
    way = str(rng.choice(WAYS, p=_SHARE))
    if way == "walking" and not walks:
        way = "standing"
    level = float(np.linalg.norm(view.position[:2]))
    depth = rng.uniform(0.6 * level, level + 4.6)
    ahead = np.array(s.view)
    right = np.array([ahead[1], -ahead[0]])
    side = rng.uniform(-0.85, 0.85) * depth * WIDTH / 2 / view.focal
    at = view.position[:2] + ahead * depth + right * side
    yaw = float(rng.uniform(-np.pi, np.pi))
    c = standing(t, rng, at[0], at[1], yaw)
    rest, act = "standing", None
    start = float(rng.uniform(0.3, max(0.4, s.duration_s - 3.2)))
    if way == "walking":
        speed, begin = rng.uniform(0.35, 0.8), rng.uniform(-3.0, 0.45 * s.duration_s)
        stop = begin + rng.uniform(3.0, 6.0)
        far = speed * (np.clip(t, begin, stop) - begin)
        bend = rng.uniform(-0.12, 0.12)
        c["yaw"] = yaw + bend * far
        c["x"] = at[0] + np.cumsum(np.gradient(far) * np.cos(c["yaw"]))
        c["y"] = at[1] + np.cumsum(np.gradient(far) * np.sin(c["yaw"]))
    elif way == "lying":
        lower(c, 1.0)
        rest = "lying"
    elif way == "feeding":
        feed(c, t, 1.0)
        rest = "feeding"
    elif way in ("lying_down", "getting_up"):
        length = rng.uniform(2.4, 3.4)
        q = np.clip((t - start) / length, 0, 1)
        lower(c, q if way == "lying_down" else 1 - q)
        act = Spell(way.replace("_", " "), start, start + length)
    speed_now = walk_gait(c, rng.random())
    spells = spells_of(speed_now, s.duration_s, rest, act, "lying" if way == "lying_down" else None)
    if way == "getting_up":
        spells = [Spell("lying", x.start_s, x.end_s) if x.end_s <= start + STEP_S else x for x in spells]
    _ = hump
    return make(c, spells, s.duration_s)
