"""What the focal pair does: animal 0 acts, animal 1 is acted on. Mounting in its variants, and the look-alikes.

All kinds share one time line: animal 0 walks up (or is there already), acts from ``start_s`` to ``end_s``, and both
go on with their day. Geometry is relative to animal 1: a contact point on it and a gap to animal 0's pelvis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.demo.tracks import (
    Spell,
    Track,
    approach,
    drift,
    feed,
    grid,
    hump,
    lower,
    make,
    smooth,
    spells_of,
    standing,
    walk_gait,
)  # fmt: skip

F64 = NDArray[np.float64]
MOUNTING_KINDS = ("full", "brief", "failed", "hidden")
NORMAL_KINDS = (
    "standing_close", "passing_behind", "chin_resting", "head_pushing", "sniffing", "following",
    "lying_down", "getting_up", "walking_past", "feeding", "front_raised",
)  # fmt: skip
DIRECTIONS = ("rear", "side", "head")
_CONTACT = {"rear": 0.22, "side": 0.55, "head": 1.08}  # where on animal 1, m ahead of its pelvis
_WAIT = {"rear": 2.60, "side": 2.60, "head": 3.25}  # gap from contact to animal 0's pelvis before the act, m


@dataclass(frozen=True, slots=True)
class Setting:
    """What is drawn before and independently of the label. ``where`` (x, y) and ``yaw`` of animal 1; ``start_s`` and
    ``end_s`` of the act, which may begin before or end after the clip; ``view`` (2,) ground direction of the camera."""

    where: tuple[float, float]
    yaw: float
    start_s: float
    end_s: float
    duration_s: float
    view: tuple[float, float]
    near: bool
    walks_on: bool
    speed: float
    scales: tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """The pair's tracks, the act's interval within the clip and the direction it came from; ``kerb`` is
    (x, y, yaw, height) of the step that the act needs, if any."""

    tracks: tuple[Track, Track]
    act: Spell
    direction: str
    kerb: tuple[float, float, float, float] | None = None


def _turn(yaw: F64 | float, x: float, y: float) -> tuple[F64, F64]:
    return np.cos(yaw) * x - np.sin(yaw) * y, np.sin(yaw) * x + np.cos(yaw) * y


def _other(
    rng: np.random.Generator, t: F64, s: Setting, walk_from: float, pace: float, seconds: float
) -> dict[str, F64]:
    """Animal 1: stands, and walks straight ahead for a while from ``walk_from`` on."""
    c = standing(t, rng, s.where[0], s.where[1], s.yaw)
    way = pace * seconds * smooth_ramp(t, walk_from, seconds)
    c["x"], c["y"] = c["x"] + np.cos(s.yaw) * way, c["y"] + np.sin(s.yaw) * way
    return c


def smooth_ramp(t: F64, start: float, seconds: float) -> F64:
    """0 to 1 over ``seconds``, at even speed but for the ends."""
    s = np.clip((t - start) / seconds, 0, 1)
    return 0.5 * s + 0.5 * smooth(s)


def play(kind: str, setting: Setting, rng: np.random.Generator) -> Scene:
    """The pair's tracks for this kind."""
    t = grid(setting.duration_s)
    if kind in MOUNTING_KINDS:
        return _mount(kind, setting, rng, t)
    return _normal(kind, setting, rng, t)


def _station(
    c1: dict[str, F64], direction: str, sign: float, skew: float, gap: F64 | float, scale: float
) -> tuple[F64, F64, F64]:
    """Animal 0's pelvis and yaw (K,) for this gap from the contact point."""
    turn = {"rear": skew * 0.5, "side": -sign * (np.pi / 2 - abs(skew)), "head": np.pi + skew * 0.5}[direction]
    yaw = c1["yaw"] + turn
    dx, dy = _turn(c1["yaw"], _CONTACT[direction] * scale, 0.0)
    return c1["x"] + dx - gap * np.cos(yaw), c1["y"] + dy - gap * np.sin(yaw), yaw


def _walk_up(c0: dict[str, F64], t: F64, s: Setting, rng: np.random.Generator, side: float) -> None:
    """Lets animal 0 come to where it stands at the act's start, along a curve, if it is not near from the start."""
    distance, swerve = rng.uniform(1.4, 3.2), rng.uniform(0.1, 0.9) * side
    pause = rng.uniform(0.05, 0.5)
    if s.near:
        return
    begin = s.start_s - pause
    k = int(np.clip(round(max(begin, 0.0) / 0.05), 0, len(t) - 1))
    end, yaw = np.array([c0["x"][k], c0["y"][k]]), float(c0["yaw"][k])
    back = _turn(yaw, -distance, swerve)
    x, y, way = approach(t, end + np.array(back), end, yaw, begin, s.speed)
    before = t < begin
    c0["x"], c0["y"] = np.where(before, x, c0["x"]), np.where(before, y, c0["y"])
    c0["yaw"] = np.where(before, way, c0["yaw"])


def _mount(kind: str, s: Setting, rng: np.random.Generator, t: F64) -> Scene:
    direction = str(rng.choice(DIRECTIONS, p=(0.62, 0.2, 0.18)))
    sign, skew = float(rng.choice((-1.0, 1.0))), float(rng.uniform(-0.3, 0.3))
    start, end = s.start_s, s.end_s
    up, down = (0.55, 0.5) if end - start < 2.5 else (rng.uniform(0.7, 1.0), rng.uniform(0.6, 0.9))
    steep, gap_on = rng.uniform(0.62, 0.76), rng.uniform(0.90, 1.02)
    slips = bool(rng.random() < 0.5)
    walk_from, free = end + 0.3, end
    if kind == "failed":
        start = max(start, 0.1)
        end = max(end, start + 1.4)
        free = start + up + 0.25
        walk_from = free if not slips else end + 0.3
    pace = rng.uniform(0.55, 0.8) if s.walks_on or (kind == "failed" and not slips) else 0.0
    c1 = _other(rng, t, s, walk_from, pace, 3.0)
    held = {k: v.copy() for k, v in c1.items()}
    if kind == "failed":  # once it loses hold it no longer goes with the other animal
        k = int(np.clip(np.searchsorted(t, free), 0, len(t) - 1))
        for name in ("x", "y"):
            held[name][k:] = held[name][k]
    else:
        k = int(np.clip(np.searchsorted(t, end), 0, len(t) - 1))
        for name in ("x", "y"):
            held[name][k:] = held[name][k]
    lift = hump(t, start, end, up, down)
    on = hump(t, start - 0.25, end + 0.35, up + 0.2, down + 0.3)
    hold = hump(t, start + up, end - down, 0.3, 0.3)
    rate = rng.uniform(1.3, 2.0)
    thrust = hold * np.sin(2 * np.pi * rate * t)
    wait = _WAIT[direction] + rng.uniform(-0.15, 0.15)
    gap = wait + (gap_on * s.scales[0] - wait) * on - 0.05 * thrust
    x, y, yaw = _station(held, direction, sign, skew, gap, s.scales[1])
    c0 = standing(t, rng, x, y, yaw)
    c0["pitch"] = steep * lift + 0.025 * thrust
    c0["height"] = 1 + 0.06 * lift + 0.0 * t
    c0["clasp"] = smooth((lift - 0.12) / 0.4)
    c0["neck_pitch"] = c0["neck_pitch"] * (1 - lift) + 0.55 * lift
    c0["neck_yaw"] *= 1 - 0.7 * lift
    c0["head_pitch"] = c0["head_pitch"] * (1 - lift) - 0.45 * lift
    if kind == "failed" and slips:
        slide = smooth((t - free) / 0.6) * (1 - 0.3 * smooth((t - end) / 1.0))
        sx, sy = _turn(yaw, 0.0, 1.0)
        c0["x"], c0["y"] = c0["x"] + sign * 0.55 * slide * sx, c0["y"] + sign * 0.55 * slide * sy
        c0["roll"] = -sign * 0.28 * hump(t, free, end, 0.4, 0.4)
    c1["neck_pitch"] += 0.15 * lift - (0.9 * lift if direction == "head" else 0.0)
    c1["neck_yaw"] = c1["neck_yaw"] * (1 - 0.5 * lift) + (0.5 * sign * on if direction == "head" else 0.0)
    c1["height"] = c1["height"] - 0.02 * lift
    c1["x"] = c1["x"] + 0.02 * thrust * np.cos(s.yaw)
    c1["y"] = c1["y"] + 0.02 * thrust * np.sin(s.yaw)
    _walk_up(c0, t, s, rng, sign)
    act = Spell("mounting", max(0.0, start + 0.3 * up), min(s.duration_s, end - 0.25 * down))
    v0, v1 = walk_gait(c0, rng.random()), walk_gait(c1, rng.random())
    calm = 1 - smooth(lift / 0.3)
    c0["stride"] *= calm
    under = Spell("being mounted", act.start_s, act.end_s)
    tracks = (
        make(c0, spells_of(v0, s.duration_s, "standing", act), s.duration_s),
        make(c1, spells_of(v1, s.duration_s, "standing", under), s.duration_s),
    )
    return Scene(tracks, Spell("mounting", round(act.start_s, 2), round(act.end_s, 2)), direction)


def _normal(kind: str, s: Setting, rng: np.random.Generator, t: F64) -> Scene:
    allowed = {
        "chin_resting": ("rear", "side"), "head_pushing": ("head", "side"), "following": ("rear",),
        "front_raised": ("rear", "side"),
    }.get(kind, DIRECTIONS)  # fmt: skip
    direction = str(rng.choice(allowed))
    if kind in ("chin_resting", "sniffing", "standing_close") and rng.random() < 0.5:
        direction = "rear"
    sign, skew = float(rng.choice((-1.0, 1.0))), float(rng.uniform(-0.3, 0.3))
    start, end = s.start_s, s.end_s
    if kind in ("lying_down", "getting_up") and end - start < 2.6:
        end = start + 2.6
    follow = kind == "following"
    pace = rng.uniform(0.5, 0.8)
    walk_from, seconds = (start, end - start + 0.3) if follow else (end + 0.3, 3.0)
    c1 = _other(rng, t, s, walk_from, pace if follow or s.walks_on else 0.0, seconds)
    amount = hump(t, start, end, 0.5, 0.5)
    held = {k: v.copy() for k, v in c1.items()}
    if not follow:
        k = int(np.clip(np.searchsorted(t, end + 0.3), 0, len(t) - 1))
        for name in ("x", "y"):
            held[name][k:] = held[name][k]
    wait = _WAIT[direction] + rng.uniform(-0.15, 0.15)
    gap: F64 | float = wait
    kerb = None
    if kind == "chin_resting":
        gap = wait + ({"rear": 1.98, "side": 1.93}[direction] * s.scales[0] - wait) * amount
    elif kind == "sniffing":
        gap = wait + ({"rear": 2.66, "side": 2.46, "head": 3.4}[direction] * s.scales[0] - wait) * amount
    elif kind == "head_pushing":
        shove = 0.12 * np.sin(2 * np.pi * rng.uniform(0.5, 0.9) * t)
        gap = wait + ({"head": 2.98, "side": 2.36}[direction] - wait) * amount + shove * amount
    elif follow:
        gap = wait + 0.2
    parallel = kind in ("lying_down", "getting_up", "feeding") or (kind == "standing_close" and rng.random() < 0.4)
    if kind in ("walking_past", "passing_behind"):
        c0 = standing(t, rng, *_pass(kind, s, rng, t))
    elif parallel:
        turned = np.pi if rng.random() < 0.25 else 0.0
        dx, dy = _turn(s.yaw, rng.uniform(-0.5, 0.5) + (1.1 if turned else 0.0), sign * rng.uniform(0.95, 1.35))
        yaw = s.yaw + turned + 0.5 * skew
        c0 = standing(t, rng, s.where[0] + dx, s.where[1] + dy, yaw)
    else:
        x, y, yaw_at = _station(held, direction, sign, skew, gap, s.scales[1])
        c0 = standing(t, rng, x, y, yaw_at)
    if follow:
        c0["neck_pitch"] = 0.1 + drift(t, rng, 0.15)
    elif kind == "chin_resting":
        c0["neck_pitch"] = c0["neck_pitch"] * (1 - amount) + 0.72 * amount
        c0["head_pitch"] = c0["head_pitch"] * (1 - amount) - 0.08 * amount
        c0["neck_yaw"] *= 1 - 0.8 * amount
    elif kind == "sniffing":
        c0["neck_pitch"] = c0["neck_pitch"] * (1 - amount) + (-0.12 + drift(t, rng, 0.15)) * amount
        c0["head_pitch"] = c0["head_pitch"] * (1 - amount) + (-0.15 + drift(t, rng, 0.15)) * amount
        c0["neck_yaw"] *= 1 - 0.8 * amount
    elif kind == "head_pushing":
        for c in (c0, c1) if direction == "head" else (c0,):
            c["neck_pitch"] = c["neck_pitch"] * (1 - amount) - 0.30 * amount
            c["head_pitch"] = c["head_pitch"] * (1 - amount) - 1.0 * amount
            c["neck_yaw"] *= 1 - 0.9 * amount
        back = 0.06 * amount * np.sin(2 * np.pi * 0.7 * t)
        c1["x"], c1["y"] = c1["x"] + back * np.cos(s.yaw), c1["y"] + back * np.sin(s.yaw)
    elif kind == "feeding":
        feed(c0, t, amount)
        feed(c1, t, hump(t, start + rng.uniform(-0.8, 0.8), end + rng.uniform(-0.5, 0.8), 0.6, 0.6))
    elif kind == "lying_down":
        lower(c0, smooth((t - start) / (end - start)) * 0.35 + 0.65 * np.clip((t - start) / (end - start), 0, 1))
    elif kind == "getting_up":
        lower(c0, 1 - np.clip((t - start) / (end - start), 0, 1))
    elif kind == "front_raised":
        high = rng.uniform(0.26, 0.36)
        rise = hump(t, start, end, 0.7, 0.7)
        c0["step"] = high * rise
        c0["pitch"] = np.arcsin(0.85 * high / 1.12) * rise
        k = int(np.clip(np.searchsorted(t, max(start, 0.0)), 0, len(t) - 1))
        ahead = _turn(float(c0["yaw"][k]), 1.22 * s.scales[0], 0.0)
        kerb = (float(c0["x"][k] + ahead[0]), float(c0["y"][k] + ahead[1]), float(c0["yaw"][k]), high)
    if kind not in ("walking_past", "passing_behind", "getting_up"):
        _walk_up(c0, t, s, rng, sign)
    v0, v1 = walk_gait(c0, rng.random()), walk_gait(c1, rng.random())
    words = kind.replace("_", " ")
    act = Spell(words, max(0.0, start), min(s.duration_s, end))
    after = {"lying_down": "lying"}.get(kind)
    spells0 = spells_of(v0, s.duration_s, "standing", act, after)
    if kind == "getting_up":
        spells0 = [Spell("lying", x.start_s, x.end_s) if x.end_s <= start + 0.05 else x for x in spells0]
    both = {"feeding": "feeding", "head_pushing": "head pushing"} if direction == "head" or kind == "feeding" else {}
    partner = Spell(both[kind], act.start_s, act.end_s) if kind in both else None
    tracks = (
        make(c0, spells0, s.duration_s),
        make(c1, spells_of(v1, s.duration_s, "standing", partner), s.duration_s),
    )
    return Scene(tracks, Spell(words, round(act.start_s, 2), round(act.end_s, 2)), direction, kerb)


def _pass(kind: str, s: Setting, rng: np.random.Generator, t: F64) -> tuple[F64, F64, float]:
    """A straight walk past animal 1, closest in mid-act; behind it as the camera sees it, or along its side."""
    middle = float(np.clip(0.5 * (s.start_s + s.end_s), 0.8, s.duration_s - 0.8))
    cx, cy = _turn(s.yaw, 0.55, 0.0)
    centre = np.array([s.where[0] + cx, s.where[1] + cy])
    if kind == "passing_behind":
        view = np.array(s.view)
        across = np.array([view[1], -view[0]]) * rng.choice((-1.0, 1.0))
        along = abs(np.cos(s.yaw) * view[0] + np.sin(s.yaw) * view[1])
        centre = centre + view * (0.78 + 1.2 * along + rng.uniform(0.0, 0.25))
    else:
        across = np.array([np.cos(s.yaw), np.sin(s.yaw)]) * rng.choice((-1.0, 1.0))
        centre = centre + np.array([-across[1], across[0]]) * rng.choice((-1.0, 1.0)) * rng.uniform(0.95, 1.25)
    yaw = float(np.arctan2(across[1], across[0]))
    way = (t - middle) * s.speed - 0.55
    return centre[0] + across[0] * way, centre[1] + across[1] * way, yaw
