"""Plans a clip: barn, camera, herd, and who does what when. All of it follows from the seed.

Everything but the act itself is drawn from a generator that never sees the label, so that neither light, viewpoint,
herd, length, place nor time of the act tells mounting from normal. Of the seeds 2k and 2k + 1 exactly one is mounting.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from services.errors import InputError
from training.demo import camera as cameras
from training.demo import herd
from training.demo.behaviour import MOUNTING_KINDS, NORMAL_KINDS, Setting, play
from training.demo.camera import Camera
from training.demo.coats import COATS
from training.demo.cow import Build
from training.demo.tracks import Spell, Track

Viewpoints = Literal["train", "new"]
Style = Literal["first", "second"]
DIFFICULTIES = ("easy", "medium", "hard")
FLOORS = ("straw", "concrete", "slats", "sand")
WALLS = ("boards", "blocks", "metal")
KINDS = MOUNTING_KINDS + NORMAL_KINDS
_ALONE = ("feeding", "lying_down", "getting_up", "front_raised")
_COAT_SHARE = (0.38, 0.14, 0.14, 0.12, 0.1, 0.12)


@dataclass(frozen=True, slots=True)
class Animal:
    """One animal: looks and motion. Number 0 acts, number 1 is the one it acts on, the others are bystanders."""

    coat: str
    build: Build
    track: Track
    seed: int


@dataclass(frozen=True, slots=True)
class Barn:
    """The unmoving picture. ``sun`` unit direction to the light; ``gain`` exposure; ``fence`` depth in front of the
    animals (m from the camera on the ground) or None; ``post`` and ``panel``: things that hide a part of the pair, as
    (x, y, half width m, height m); ``kerb`` (x, y, yaw, height)."""

    floor: str
    wall: str
    room: tuple[float, float, float, float, float]
    sun: tuple[float, float, float]
    tint: tuple[float, float, float]
    gain: float
    seed: int
    fence: float | None
    rails: tuple[float, ...]
    post: tuple[float, float, float, float] | None
    panel: tuple[float, float, float, float] | None
    kerb: tuple[float, float, float, float] | None


@dataclass(frozen=True, slots=True, eq=False)
class ClipPlan:
    """Everything that happens in one clip. ``act`` is the decisive behaviour's stretch within the clip (s); ``noise``
    in grey levels, ``blur`` and ``vignette`` are the default camera's."""

    seed: int
    mounting: bool
    kind: str
    direction: str
    act: Spell
    timing: str
    duration_s: float
    light: str
    viewpoints: Viewpoints
    style: Style
    difficulty: str
    hidden: bool
    camera: Camera
    barn: Barn
    animals: tuple[Animal, ...]
    noise: float
    blur: float
    vignette: float

    @property
    def label(self) -> Literal["mounting", "normal"]:
        return "mounting" if self.mounting else "normal"


def is_mounting(seed: int) -> bool:
    """The label of a seed when none is asked for: one of each pair 2k, 2k + 1."""
    return bool((int(np.random.default_rng([seed // 2, 5]).integers(2)) + seed) % 2)


def plan_clip(
    seed: int,
    *,
    mounting: bool | None = None,
    kind: str | None = None,
    viewpoints: Viewpoints = "train",
    style: Style = "first",
    difficulty: str | None = None,
) -> ClipPlan:
    """The clip of this seed; ``mounting``, ``kind`` and ``difficulty`` override what the seed would draw.

    Raises `InputError` for an unknown name or a kind that contradicts ``mounting``.
    """
    _check(seed, mounting, kind, viewpoints, style, difficulty)
    if mounting is None:
        mounting = kind in MOUNTING_KINDS if kind else is_mounting(seed)
    world = np.random.default_rng([seed, 1])
    event = np.random.default_rng([seed, 2])
    level = str(world.choice(DIFFICULTIES, p=(0.35, 0.4, 0.25)))
    level = difficulty or level
    hard = DIFFICULTIES.index(level)
    light = "night" if world.random() < 0.42 else "day"
    duration = round(float(world.uniform(6.0, 10.0)), 2)
    count = int(
        world.choice(
            (2, 3, 4, 5, 6),
            p=((0.4, 0.35, 0.2, 0.05, 0.0), (0.22, 0.26, 0.26, 0.16, 0.1), (0.12, 0.2, 0.26, 0.24, 0.18))[hard],
        )
    )
    width = float(world.uniform(5.2, 6.4) + 0.35 * hard + 0.22 * max(count - 3, 0))
    view = cameras.place(
        world, viewpoints, np.array([0.0, 0.0, 1.05]), width, float(world.uniform(0.15, (0.5, 0.9, 1.5)[hard]))
    )
    hides = bool(world.random() < (0.0, 0.15, 0.4)[hard])
    kerb_seen = bool(world.random() < 0.2)
    setting = _setting(world, view, duration)
    timing = "whole"
    if setting.start_s < 0:
        timing = "under way at the start"
    elif setting.end_s > duration:
        timing = "under way at the end"
    builds = [_build(world, style) for _ in range(6)]
    coats = [str(c) for c in world.choice(COATS, 6, p=_COAT_SHARE)]
    if world.random() < 0.3:
        coats = [coats[0]] * 6
    room = _room(world, view)
    fence, rails, post, panel = _obstacles(world, view, hides or kind == "hidden", hard)
    noise = world.uniform(1.5, (3.0, 4.0, 5.5)[hard]) + (2.5 if light == "night" else 0.0)
    blur, vignette = world.uniform(0.5, (0.65, 0.8, 1.0)[hard]), world.uniform(0.05, 0.2)
    sun_az, sun_el = world.uniform(0, 6.28), world.uniform(0.7, 1.25)
    sun = (float(np.cos(sun_az) * np.cos(sun_el)), float(np.sin(sun_az) * np.cos(sun_el)), float(np.sin(sun_el)))
    warm = world.uniform(-1, 1)
    floor, wall, gain = str(world.choice(FLOORS)), str(world.choice(WALLS)), float(world.uniform(0.95, 1.3))
    away = world.uniform(1.6, 2.6) * _around(world.uniform(0, 6.28))
    kerb_at = (float(away[0]), float(away[1]), float(world.uniform(0, 3.1)), 0.3)

    if kind is None:
        kind = _draw_kind(event, mounting, hides, setting)
    alone = not mounting and kind in _ALONE and event.random() < 0.12
    setting = _with_scales(setting, builds)
    scene = play(kind, setting, event)
    others = [] if alone else herd.bystanders(world, scene.tracks, count - 2, view, setting, fence)
    tracks = [scene.tracks[0], *([] if alone else [scene.tracks[1]]), *others]
    animals = tuple(Animal(coats[i], builds[i], track, seed * 8 + i) for i, track in enumerate(tracks))
    barn = Barn(
        floor=floor, wall=wall, gain=gain, room=room, sun=sun, tint=(1 + 0.05 * warm, 1.0, 1 - 0.06 * warm), seed=seed,
        fence=fence, rails=rails, post=post, panel=panel, kerb=scene.kerb or (kerb_at if kerb_seen else None),
    )  # fmt: skip
    return ClipPlan(
        seed, mounting, kind, scene.direction, scene.act, timing, duration, light, viewpoints, style, level,
        hides or kind == "hidden", view, barn, animals, float(noise), float(blur), float(vignette),
    )  # fmt: skip


def _check(
    seed: int, mounting: bool | None, kind: str | None, viewpoints: str, style: str, difficulty: str | None
) -> None:
    for value, allowed, name in (
        (viewpoints, cameras.GROUPS, "viewpoints"), (style, ("first", "second"), "style"),
        (difficulty or "easy", DIFFICULTIES, "difficulty"), (kind or "full", KINDS, "kind"),
    ):  # fmt: skip
        if value not in allowed:
            raise InputError(f"There is no {name} {value!r}; choose one of {', '.join(allowed)}.")
    if seed < 0:
        raise InputError(f"The seed must not be negative, but is {seed}.")
    if kind is not None and mounting is not None and (kind in MOUNTING_KINDS) != mounting:
        raise InputError(f"The kind {kind!r} cannot have mounting={mounting}.")


def _around(angle: float) -> NDArray[np.float64]:
    return np.array([np.cos(angle), np.sin(angle)])


def _setting(rng: np.random.Generator, view: Camera, duration: float) -> Setting:
    """Where and when the act takes place."""
    short = rng.random() < 0.45
    length = float(rng.uniform(1.3, 2.1) if short else rng.uniform(2.8, 4.6))
    when = rng.random()
    start = float(rng.uniform(0.5, duration - length - 0.4))
    if when < 0.13 and not short:
        start = -float(rng.uniform(0.7, length - 1.7))
    elif when > 0.87 and not short:
        start = duration - float(rng.uniform(1.7, length - 0.5))
    yaw = float(rng.uniform(-np.pi, np.pi))
    ahead = view.rotation[2, :2] / np.linalg.norm(view.rotation[2, :2])
    where = -0.25 * np.array([np.cos(yaw), np.sin(yaw)]) + rng.uniform(-0.35, 0.35, 2)
    return Setting(
        (float(where[0]), float(where[1])), yaw, start, start + length, duration, (float(ahead[0]), float(ahead[1])),
        bool(rng.random() < 0.3), bool(rng.random() < 0.35), float(rng.uniform(0.7, 1.15)), (1.0, 1.0),
    )  # fmt: skip


def _with_scales(s: Setting, builds: list[Build]) -> Setting:
    return replace(s, scales=(builds[0].scale, builds[1].scale))


def _build(rng: np.random.Generator, style: str) -> Build:
    scale, girth, legs, head = (
        rng.uniform(0.93, 1.07),
        rng.uniform(0.98, 1.13),
        rng.uniform(0.91, 1.0),
        rng.uniform(1.0, 1.1),
    )
    udder = float(rng.choice((0.1, 0.7, 1.0)))
    if style == "second":
        return Build(float(scale), float(0.78 * girth), float(1.12 * legs), float(1.45 * head), 0.1)
    return Build(float(scale), float(girth), float(legs), float(head), udder)


def _room(rng: np.random.Generator, view: Camera) -> tuple[float, float, float, float, float]:
    """x0, x1, y0, y1 and height of the room; camera and pen lie inside."""
    x, y = view.position[:2]
    pad = rng.uniform(0.6, 2.0, 4)
    reach = 5.2
    return (
        float(min(-reach, x) - pad[0]), float(max(reach, x) + pad[1]), float(min(-reach, y) - pad[2]),
        float(max(reach, y) + pad[3]), float(max(3.6, view.position[2] + 0.6)),
    )  # fmt: skip


Thing = tuple[float, float, float, float]


def _obstacles(
    rng: np.random.Generator, view: Camera, hides: bool, hard: int
) -> tuple[float | None, tuple[float, ...], Thing | None, Thing | None]:
    """Fence in front of the animals, and what hides the pair in part: a post or a solid panel."""
    level = float(np.linalg.norm(view.position[:2]))
    has = rng.random() < (0.25, 0.5, 0.8)[hard]
    fence = float(level * rng.uniform(0.34, 0.46)) if has else None
    rails = ((0.55, 1.1), (0.4, 0.8, 1.2), (0.5, 0.95, 1.4))[int(rng.integers(3))]
    post, share = bool(rng.random() < 0.5), rng.uniform(0.5, 0.62)
    shift, half = rng.uniform(-0.75, 0.75), rng.uniform(0.10, 0.17)
    eye = rng.uniform(0.5, 0.75)
    if not hides:
        return fence, rails, None, None
    ahead = view.rotation[2, :2] / np.linalg.norm(view.rotation[2, :2])
    right = np.array([ahead[1], -ahead[0]])
    at = view.position[:2] + share * (0.0 - view.position[:2]) + right * shift * (1.0 if post else 0.6)
    if post:
        return fence, rails, (float(at[0]), float(at[1]), float(half), 6.0), None
    top = view.position[2] + share * (eye - view.position[2])
    return fence, rails, None, (float(at[0]), float(at[1]), float(rng.uniform(0.55, 0.95)), float(max(top, 0.4)))


def _draw_kind(rng: np.random.Generator, mounting: bool, hides: bool, s: Setting) -> str:
    if not mounting:
        return str(rng.choice(NORMAL_KINDS))
    if hides:
        return "hidden"
    if s.end_s - s.start_s < 2.5:
        return str(rng.choice(("brief", "failed")))
    return "full"
