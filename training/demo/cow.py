"""Poses the body: joint positions from a few channels, legs by two-bone inverse kinematics, then the tubes.

World frame: metres, x and y on the ground, z up. Angles in radians. An animal's origin is the ground point under its
pelvis; it looks along its yaw. All functions work on a batch of B = frames x animals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.demo.body import ring

F64 = NDArray[np.float64]

CHANNELS = (
    "x", "y", "yaw", "pitch", "roll", "height", "gait", "stride",
    "neck_pitch", "neck_yaw", "head_pitch", "clasp", "tuck_front", "tuck_hind", "step", "tail",
)  # fmt: skip
AXIS_HEIGHT = 1.06  # pelvis axis above ground when standing, before `legs` scaling, m
SHOULDER_X = 1.12
STRIDE_LENGTH = 1.5  # m per gait cycle
STANCE = 0.65  # share of the cycle that a foot stands

# x, centre height, half width, half height of the torso's rings, from tail head to brisket, m
_TORSO = np.array([
    (-0.30, 0.17, 0.03, 0.04), (-0.25, 0.09, 0.16, 0.21), (-0.12, 0.02, 0.245, 0.31), (0.06, -0.01, 0.27, 0.345),
    (0.28, -0.03, 0.275, 0.355), (0.52, -0.06, 0.325, 0.385), (0.76, -0.055, 0.33, 0.39), (0.97, -0.02, 0.275, 0.385),
    (1.14, 0.01, 0.235, 0.36), (1.28, 0.01, 0.19, 0.30), (1.38, 0.02, 0.13, 0.20), (1.43, 0.03, 0.03, 0.05),
])  # fmt: skip
_NECK = np.array([(0.0, 0.18, 0.29), (0.33, 0.15, 0.235), (0.66, 0.12, 0.18), (1.0, 0.10, 0.14)])
_HEAD = np.array([
    (-0.10, 0.07, 0.07), (0.02, 0.125, 0.135), (0.16, 0.125, 0.135),
    (0.33, 0.085, 0.10), (0.46, 0.095, 0.085), (0.53, 0.05, 0.045),
])  # fmt: skip
NECK_LENGTH = 0.55


@dataclass(frozen=True, slots=True)
class Build:
    """One animal's proportions, all factors of the standard cow (1.0): overall ``scale``, ``girth`` of the trunk,
    ``legs`` and ``head`` size; ``udder`` 0 hides it."""

    scale: float = 1.0
    girth: float = 1.0
    legs: float = 1.0
    head: float = 1.0
    udder: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Posed:
    """``vertices`` and ``normals`` (B, V, 3); ``shoulder``, ``pelvis``, ``chest`` (underside of the chest),
    ``head`` (B, 3); ``hooves`` (B, 4, 3) front left, front right, hind left, hind right; ``back`` (B,) height of
    the back above ground at the loin. Metres."""

    vertices: F64
    normals: F64
    pelvis: F64
    shoulder: F64
    chest: F64
    head: F64
    hooves: F64
    back: F64


def _unit(v: F64) -> F64:
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-9)


def _loft(
    centres: F64, side: F64, up: F64, half_w: F64, half_h: F64, sides: int, square: float = 1.0
) -> tuple[F64, F64]:
    """Rings: centres (B, R, 3), directions (B, R or 1, 3), half sizes (B, R) -> vertices, normals (B, R*sides, 3)."""
    cs, cu = ring(sides, square)
    w = (half_w[..., None] * cs)[..., None] * side[:, :, None, :]
    h = (half_h[..., None] * cu)[..., None] * up[:, :, None, :]
    flat = (centres.shape[0], -1, 3)
    vertices = (centres[:, :, None, :] + w + h).reshape(flat)
    # The normal of an ellipse leans to the short axis: swap the half sizes.
    n = (half_h[..., None] * cs)[..., None] * side[:, :, None, :] + (half_w[..., None] * cu)[..., None] * up[
        :, :, None, :
    ]
    # Where the tube narrows, the surface also looks along the axis.
    along = np.gradient(centres, axis=1)
    length = np.maximum(np.linalg.norm(along, axis=-1, keepdims=True), 1e-6)
    taper = np.clip(-np.gradient(0.5 * (half_w + half_h), axis=-1)[..., None] / length, -2.0, 2.0)
    n = _unit(n) + (along / length * taper)[:, :, None, :]
    return vertices, _unit(n.reshape(flat))


def _knee(joint: F64, foot: F64, upper: F64, lower: F64, hint: F64) -> tuple[F64, F64]:
    """Two-bone inverse kinematics: positions (B, 3) of the middle joint and of the foot that can be reached."""
    d = foot - joint
    full = np.linalg.norm(d, axis=-1, keepdims=True)
    reach = np.clip(full, np.abs(upper - lower) + 0.02, (upper + lower) * 0.999)
    direction = d / np.maximum(full, 1e-6)
    along = (upper**2 - lower**2 + reach**2) / (2 * reach)
    out = np.sqrt(np.maximum(upper**2 - along**2, 0.0))
    bend = _unit(hint - (hint * direction).sum(-1, keepdims=True) * direction)
    return joint + along * direction + out * bend, joint + reach * direction


def _leg(joint: F64, knee: F64, foot: F64, left: F64, size: F64, thigh: float) -> tuple[F64, F64]:
    ankle = foot + 0.22 * (knee - foot)
    centres = np.stack([joint, 0.45 * joint + 0.55 * knee, knee, 0.5 * (knee + foot), ankle, foot], 1)
    along = np.stack([knee - joint] * 2 + [foot - joint] + [foot - knee] * 3, 1)
    forward = _unit(np.cross(left[:, None, :], along))
    side = _unit(np.cross(along, forward))
    half_w = np.array([0.075, 0.07, 0.055, 0.042, 0.045, 0.058]) * size
    half_h = np.array([thigh, 0.62 * thigh, 0.068, 0.048, 0.05, 0.07]) * size
    return _loft(centres, -side, forward, half_w, half_h, 6)


def _gait(phase: F64, stride: F64, scale: F64) -> tuple[F64, F64]:
    """Forward offset and lift (B,) of one foot at this phase of its cycle."""
    p = phase % 1.0
    reach = 0.5 * STANCE * STRIDE_LENGTH * scale
    swing = np.clip((p - STANCE) / (1 - STANCE), 0.0, 1.0)
    ease = swing * swing * (3 - 2 * swing)
    forward = np.where(p < STANCE, reach * (1 - 2 * p / STANCE), reach * (2 * ease - 1))
    return forward * stride, 0.13 * np.sin(np.pi * swing) * stride * scale


def pose(channels: dict[str, F64], build: dict[str, F64]) -> Posed:
    """Channels of `CHANNELS`, each (B,), and proportions of `Build`, each (B,) -> the posed mesh."""
    c = channels
    s = build["scale"][:, None]
    yaw, pitch, roll = c["yaw"], c["pitch"], c["roll"]
    zero, one = np.zeros_like(yaw), np.ones_like(yaw)
    heading = np.stack([np.cos(yaw), np.sin(yaw), zero], -1)
    left0 = np.stack([-np.sin(yaw), np.cos(yaw), zero], -1)
    z = np.stack([zero, zero, one], -1)
    cp, sp = np.cos(pitch)[:, None], np.sin(pitch)[:, None]
    forward, up0 = cp * heading + sp * z, -sp * heading + cp * z
    cr, sr = np.cos(roll)[:, None], np.sin(roll)[:, None]
    left, up = cr * left0 + sr * up0, -sr * left0 + cr * up0
    stand = AXIS_HEIGHT * build["legs"][:, None] * s
    ground = np.stack([c["x"], c["y"], zero], -1)
    pelvis = ground + z * stand * c["height"][:, None]

    def at(x: float | F64, y: float | F64, h: float | F64) -> F64:
        return pelvis + s * (forward * x + left * y + up * h)

    girth = build["girth"][:, None] * s
    verts: list[F64] = []
    norms: list[F64] = []

    def add(pair: tuple[F64, F64]) -> None:
        verts.append(pair[0])
        norms.append(pair[1])

    rings = _TORSO
    centres = pelvis[:, None] + s[:, None] * (forward[:, None] * rings[:, :1] + up[:, None] * rings[:, 1:2])
    add(_loft(centres, left[:, None], up[:, None], girth * rings[:, 2], girth * rings[:, 3], 14, 0.86))

    ny = yaw + c["neck_yaw"]
    nh = np.stack([np.cos(ny), np.sin(ny), zero], -1)
    nl = np.stack([-np.sin(ny), np.cos(ny), zero], -1)
    npz, hpz = c["neck_pitch"][:, None], c["head_pitch"][:, None]
    ndir = np.cos(npz) * nh + np.sin(npz) * z
    nup = -np.sin(npz) * nh + np.cos(npz) * z
    hdir = np.cos(hpz) * nh + np.sin(hpz) * z
    hup = -np.sin(hpz) * nh + np.cos(hpz) * z
    hs = build["head"][:, None] * s
    base = at(1.20, 0.0, 0.13)
    poll = base + s * NECK_LENGTH * ndir + hs * 0.03 * hup
    t = _NECK[:, 0][None, :, None]
    neck = base[:, None] * (1 - t) + poll[:, None] * t
    add(_loft(neck, nl[:, None], nup[:, None], s * _NECK[:, 1], s * _NECK[:, 2], 8))
    head = poll[:, None] + hs[:, None] * hdir[:, None] * _HEAD[:, 0][None, :, None]
    head = head - (hs * 0.03)[:, None] * hup[:, None] * np.linspace(0, 1, 6)[None, :, None]
    add(_loft(head, nl[:, None], hup[:, None], hs * _HEAD[:, 1], hs * _HEAD[:, 2], 8, 0.9))
    for sign in (1.0, -1.0):
        out = _unit(sign * nl + 0.1 * hup - 0.25 * hdir)
        root = poll + hs * (sign * 0.10 * nl + 0.09 * hup)
        ear = root[:, None] + hs[:, None] * out[:, None] * np.array([0.0, 0.11, 0.24])[None, :, None]
        add(
            _loft(
                ear,
                -sign * hdir[:, None],
                hup[:, None],
                hs * np.array([0.03, 0.06, 0.012]),
                hs * np.array([0.02, 0.03, 0.01]),
                4,
            )
        )

    hooves = []
    upper, lower = 0.47 * s * build["legs"][:, None], 0.50 * s * build["legs"][:, None]
    legs = ((1.0, 0.25, True), (-1.0, 0.75, True), (1.0, 0.0, False), (-1.0, 0.5, False))
    for sign, offset, front in legs:
        joint = at(SHOULDER_X if front else 0.0, sign * 0.15, -0.13 if front else -0.10)
        fx, fz = _gait(c["gait"] + offset, c["stride"], build["scale"])
        # Feet stand under the joints of the unpitched body; when it rears, the hind feet stay where they are.
        foot = ground + s * (heading * ((SHOULDER_X + 0.02) if front else -0.06) + left0 * sign * 0.16)
        foot = foot + heading * fx[:, None] + z * fz[:, None]
        if front:
            foot = foot + z * c["step"][:, None]
            hang = joint + s * (0.24 * heading + sign * 0.24 * left0 - 0.68 * z)
            tuck = ground + s * (0.98 * heading + sign * 0.22 * left0 + 0.07 * z)
            k, kt = c["clasp"][:, None], c["tuck_front"][:, None]
            foot = foot * (1 - k) + hang * k
            hint, thigh = heading + 0.25 * sign * left0 * (k + kt), 0.135
        else:
            tuck = ground + s * (0.42 * heading + sign * 0.36 * left0 + 0.07 * z)
            kt = c["tuck_hind"][:, None]
            hint, thigh = -heading * (1 - kt) + kt * (0.9 * heading + sign * 0.6 * left0), 0.205
        foot = foot * (1 - kt) + tuck * kt
        knee, foot = _knee(joint, foot, upper, lower, hint)
        knee[:, 2] = np.maximum(knee[:, 2], 0.06)
        hooves.append(foot)
        add(_leg(joint, knee, foot, left0, s, thigh))

    udder_x = np.array([0.02, 0.10, 0.20, 0.30, 0.38])
    udder = at(0, 0, 0)[:, None] + s[:, None] * (forward[:, None] * udder_x[None, :, None] - up[:, None] * 0.37)
    size = (build["udder"][:, None] * s) * np.array([0.02, 0.12, 0.15, 0.12, 0.02])
    add(_loft(udder, left[:, None], up[:, None], size * 0.9, size, 6))

    swing = c["tail"][:, None] * left0
    tail0 = at(-0.29, 0.0, 0.20)
    hang = _unit(-0.95 * z - 0.25 * heading + swing)
    first = tail0 - s * 0.10 * forward - s * 0.05 * z
    tail = np.stack([tail0, first, first + s * 0.25 * hang, first + s * 0.52 * hang, first + s * 0.72 * hang], 1)
    tail[..., 2] = np.maximum(tail[..., 2], 0.04)
    widths = s * np.array([0.035, 0.03, 0.025, 0.035, 0.012])
    add(_loft(tail, left0[:, None], heading[:, None], widths, widths, 4))

    return Posed(
        vertices=np.concatenate(verts, 1),
        normals=np.concatenate(norms, 1),
        pelvis=pelvis,
        shoulder=at(SHOULDER_X, 0, 0),
        chest=at(1.0, 0.0, -0.36 * build["girth"][:, None]),
        head=poll + hs * 0.3 * hdir,
        hooves=np.stack(hooves, 1),
        back=pelvis[:, 2] + (0.33 * girth)[:, 0],
    )
