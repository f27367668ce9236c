"""One animal's motion over a clip: pose channels on a fixed time grid, and the shapes they are made of.

The grid starts at 0 s with a step of 0.05 s; between its points channels are linear. Angles are unwrapped.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.demo.cow import AXIS_HEIGHT, CHANNELS, SHOULDER_X, STRIDE_LENGTH

F64 = NDArray[np.float64]
STEP_S = 0.05
LYING_HEIGHT = 0.41  # axis of a lying animal above ground, m


@dataclass(frozen=True, slots=True)
class Spell:
    """A stretch of one behaviour, seconds within the clip."""

    behaviour: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """``table`` (K, 16) channels of `cow.CHANNELS` on the grid; ``spells`` cover the clip without overlap."""

    table: F64
    spells: tuple[Spell, ...]

    def at(self, times_s: F64) -> F64:
        """Channels (T, 16) at these times, held beyond the ends."""
        k = np.clip(np.asarray(times_s, np.float64) / STEP_S, 0, len(self.table) - 1.001)
        i = k.astype(int)
        w = (k - i)[:, None]
        return self.table[i] * (1 - w) + self.table[i + 1] * w


def grid(duration_s: float) -> F64:
    return np.arange(0.0, duration_s + 2 * STEP_S, STEP_S)


def smooth(x: F64 | float) -> F64:
    """Smooth step from 0 at x <= 0 to 1 at x >= 1."""
    x = np.clip(np.asarray(x, np.float64), 0.0, 1.0)
    return x * x * (3 - 2 * x)


def hump(t: F64, start: float, end: float, up: float, down: float) -> F64:
    """0 before ``start``, 1 between ``start + up`` and ``end - down``, 0 after ``end``."""
    return smooth((t - start) / max(up, 1e-3)) * (1 - smooth((t - end + down) / max(down, 1e-3)))


def drift(t: F64, rng: np.random.Generator, size: float) -> F64:
    """Slow idle movement about 0."""
    f, p = rng.uniform(0.12, 0.6, 3), rng.uniform(0, 6.28, 3)
    return size * np.sin(2 * np.pi * f[:, None] * t + p[:, None]).mean(0)


def standing(t: F64, rng: np.random.Generator, x: F64 | float, y: F64 | float, yaw: F64 | float) -> dict[str, F64]:
    """Channels of an animal that stands idly at x, y with this yaw (scalars or (K,))."""
    one = np.ones_like(t)
    c = {name: np.zeros_like(t) for name in CHANNELS}
    c.update(x=one * x, y=one * y, yaw=one * yaw, height=one.copy())
    c["neck_pitch"] = rng.uniform(0.15, 0.7) + drift(t, rng, 0.22)
    c["neck_yaw"] = rng.uniform(-0.35, 0.35) + drift(t, rng, 0.4)
    c["head_pitch"] = rng.uniform(-0.75, -0.3) + drift(t, rng, 0.15)
    c["tail"] = drift(t, rng, 0.6)
    return c


def lower(c: dict[str, F64], q: F64 | float, legs: float = 1.0) -> None:
    """Lies the animal down: q 0 stands, 1 lies. Down knees first, so in reverse it gets up rump first."""
    q = np.ones_like(c["x"]) * q
    front, hind = smooth(q / 0.6), smooth((q - 0.4) / 0.6)
    stand = AXIS_HEIGHT * legs
    low = LYING_HEIGHT
    shoulder, pelvis = stand + (low - stand) * front, stand + (low - stand) * hind
    c["height"] = c["height"] * pelvis / stand
    c["pitch"] = c["pitch"] + np.arctan2(shoulder - pelvis, SHOULDER_X)
    c["tuck_front"], c["tuck_hind"] = front, hind
    c["roll"] = c["roll"] + 0.10 * q


def feed(c: dict[str, F64], t: F64, amount: F64 | float) -> None:
    """Lowers the head to the ground."""
    a = np.ones_like(t) * amount
    c["neck_pitch"] = c["neck_pitch"] * (1 - a) + a * (-0.95 + 0.05 * np.sin(2.4 * t))
    c["head_pitch"] = c["head_pitch"] * (1 - a) + a * (-1.2 + 0.10 * np.sin(5.0 * t))
    c["neck_yaw"] = c["neck_yaw"] * (1 - 0.4 * a)


def walk_gait(c: dict[str, F64], phase: float) -> F64:
    """Steps that fit the movement over ground; returns the speed (K,) in m/s."""
    dx, dy = np.gradient(c["x"], STEP_S), np.gradient(c["y"], STEP_S)
    ahead = dx * np.cos(c["yaw"]) + dy * np.sin(c["yaw"])
    speed = np.hypot(dx, dy)
    signed = np.where(ahead < 0, -speed, speed)
    c["gait"] = phase + np.cumsum(signed) * STEP_S / STRIDE_LENGTH
    kernel = np.ones(7) / 7
    soft = np.convolve(np.pad(speed, 3, mode="edge"), kernel, mode="valid")
    c["stride"] = smooth(soft / 0.45)
    return soft


def approach(t: F64, start: F64, end: F64, end_yaw: float, arrive: float, speed: float) -> tuple[F64, F64, F64]:
    """A curved walk from ``start`` to ``end`` (2,), there at ``arrive`` with ``end_yaw``: x, y, yaw (K,)."""
    chord = float(np.hypot(*(end - start)))
    seconds = max(1.15 * chord / speed, 0.3)
    s = np.clip((t - (arrive - seconds)) / seconds, 0.0, 1.0)
    s = s + 0.12 * np.sin(np.pi * s) * (1 - s) * s  # slows down at the end
    m1 = chord * np.array([np.cos(end_yaw), np.sin(end_yaw)])
    m0 = 1.0 * (end - start) * 1.5 - 0.5 * m1
    a, b = (2 * s**3 - 3 * s**2 + 1)[:, None], (s**3 - 2 * s**2 + s)[:, None]
    d, e = (-2 * s**3 + 3 * s**2)[:, None], (s**3 - s**2)[:, None]
    p = a * start + b * m0 + d * end + e * m1
    v = (
        (6 * s**2 - 6 * s)[:, None] * (start - end)
        + (3 * s**2 - 4 * s + 1)[:, None] * m0
        + (3 * s**2 - 2 * s)[:, None] * m1
    )
    yaw = np.unwrap(np.arctan2(v[:, 1], v[:, 0]))
    yaw = yaw + 2 * np.pi * np.round((end_yaw - yaw[-1]) / (2 * np.pi))
    return p[:, 0], p[:, 1], yaw


def make(c: dict[str, F64], spells: list[Spell], duration_s: float) -> Track:
    """Channels and behaviour to a track; spells are cut to the clip, empty ones dropped."""
    cut = []
    for spell in spells:
        a, b = max(0.0, spell.start_s), min(duration_s, spell.end_s)
        if b - a >= 0.2:
            cut.append(Spell(spell.behaviour, round(a, 2), round(b, 2)))
    return Track(np.stack([c[name] for name in CHANNELS], -1), tuple(cut))


def spells_of(speed: F64, duration_s: float, rest: str, act: Spell | None, after: str | None = None) -> list[Spell]:
    """Spells from the speed: walking where it moves, ``rest`` where not, with ``act`` laid over them."""
    moving = speed > 0.18
    t = np.arange(len(speed)) * STEP_S
    names = np.where(moving, "walking", rest).astype(object)
    if after is not None and act is not None:
        names[(t >= act.end_s) & ~moving] = after
    if act is not None:
        names[(t >= act.start_s) & (t < act.end_s)] = act.behaviour
    out: list[Spell] = []
    begin = 0
    for i in range(1, len(names) + 1):
        if i == len(names) or names[i] != names[begin]:
            # Stretches under 0.4 s are steps on the spot, not a behaviour of their own.
            if (out and (i - begin) * STEP_S < 0.4 and names[begin] != (act.behaviour if act else "")) or (
                out and out[-1].behaviour == names[begin]
            ):
                out[-1] = Spell(out[-1].behaviour, out[-1].start_s, min(t[i - 1] + STEP_S, duration_s))
            else:
                out.append(Spell(str(names[begin]), float(t[begin]), min(t[i - 1] + STEP_S, duration_s)))
            begin = i
    return out
