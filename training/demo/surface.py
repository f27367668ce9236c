"""Visible surfaces: poses the herd, projects every face, and paints face numbers far to near into one picture.

The number picture is all that colours and dense targets need; both look up what the face under a pixel is.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from training.demo.barn import front
from training.demo.body import OCCLUDER, topology
from training.demo.camera import HEIGHT, WIDTH
from training.demo.cow import CHANNELS, Build, Posed, pose
from training.demo.plan import ClipPlan

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]
NOBODY = 255


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """Geometry of a clip at T times with N animals of F faces each, then static faces (kerb, then front strips).

    ``corners`` (T, N*F + K, 4, 2) px without shake; ``depth`` (T, N*F + K) m, infinite where a face is not drawn;
    ``shade`` (T, N*F + K, 4) light on each corner; ``height`` (T, N*F + K) m above ground; ``part``, ``owner``
    (N*F + K,) uint8; ``texture`` (N*F + K, 4, 2) atlas corners; ``loose`` is the number of faces that are sorted by
    depth, the strips behind them are painted last in order; ``posed`` has a batch of T*N."""

    times_s: F64
    shift: F64
    corners: F32
    depth: F32
    shade: F32
    height: F32
    part: NDArray[np.uint8]
    owner: NDArray[np.uint8]
    texture: F32
    loose: int
    posed: Posed
    channels: F64


def posed_herd(plan: ClipPlan, times_s: F64) -> tuple[Posed, F64]:
    """The animals at these times: batch T*N (time-major) and the channels (T, N, 16)."""
    table = np.stack([animal.track.at(times_s) for animal in plan.animals], 1)
    flat = table.reshape(-1, table.shape[-1])
    channels = {name: flat[:, i] for i, name in enumerate(CHANNELS)}
    builds = {
        f.name: np.tile([getattr(a.build, f.name) for a in plan.animals], len(times_s)).astype(np.float64)
        for f in fields(Build)
    }
    return pose(channels, builds), table


def _light(plan: ClipPlan, points: F64, normals: F64) -> F64:
    """Light on points (..., 3) with normals (..., 3)."""
    low = np.clip(0.70 + 0.38 * points[..., 2], 0.70, 1.0)
    if plan.light == "night":
        to = plan.camera.position - points
        distance = np.linalg.norm(to, axis=-1)
        facing = np.clip((normals * to).sum(-1) / np.maximum(distance, 0.1), 0, 1)
        near = np.clip((np.linalg.norm(plan.camera.position) / distance) ** 1.2, 0, 1.25)
        return (0.24 + 0.68 * facing) * near * low
    sun = np.clip((normals * np.array(plan.barn.sun)).sum(-1), 0, 1)
    sky = 0.5 + 0.5 * normals[..., 2]
    light = (0.26 + 0.34 * sky + 0.52 * sun) * low
    if plan.style == "second":
        light = 0.45 + 0.3 * np.floor(light * 3.2) / 2
    return light


def _kerb(plan: ClipPlan) -> tuple[F64, F64, F64]:
    """Faces (K, 4, 3), normals and shade-relevant heights of the step: small faces, so that sorting works."""
    if plan.barn.kerb is None:
        return np.zeros((0, 4, 3)), np.zeros((0, 4, 3)), np.zeros((0,))
    x, y, yaw, high = plan.barn.kerb
    f, s = np.array([np.cos(yaw), np.sin(yaw)]), np.array([-np.sin(yaw), np.cos(yaw)])
    along, across = np.linspace(-0.22, 0.36, 4), np.linspace(-0.62, 0.62, 7)
    faces, normals = [], []

    def put(points: list[tuple[float, float, float]], normal: tuple[float, float, float]) -> None:
        faces.append([(x + a * f[0] + b * s[0], y + a * f[1] + b * s[1], z) for a, b, z in points])
        normals.append([(normal[0] * f[0] + normal[1] * s[0], normal[0] * f[1] + normal[1] * s[1], normal[2])] * 4)

    for b0, b1 in pairwise(across):
        for a0, a1 in pairwise(along):
            put([(a0, b0, high), (a1, b0, high), (a1, b1, high), (a0, b1, high)], (0, 0, 1))
        put([(along[0], b0, 0), (along[0], b0, high), (along[0], b1, high), (along[0], b1, 0)], (-1, 0, 0))
        put([(along[-1], b0, 0), (along[-1], b1, 0), (along[-1], b1, high), (along[-1], b0, high)], (1, 0, 0))
    for a0, a1 in pairwise(along):
        put([(a0, across[0], 0), (a1, across[0], 0), (a1, across[0], high), (a0, across[0], high)], (0, -1, 0))
        put([(a0, across[-1], 0), (a0, across[-1], high), (a1, across[-1], high), (a1, across[-1], 0)], (0, 1, 0))
    array = np.array(faces)
    return array, np.array(normals), array[:, :, 2].mean(1)


def stage(plan: ClipPlan, times_s: F64) -> Stage:
    """Poses and projects everything at these times."""
    times_s = np.asarray(times_s, np.float64).reshape(-1)
    mesh = topology()
    posed, table = posed_herd(plan, times_s)
    frames, count = len(times_s), len(plan.animals)
    xy, depth = plan.camera.project(posed.vertices)
    light = _light(plan, posed.vertices, posed.normals).astype(np.float32)
    faces = mesh.faces
    corners = np.take(xy.astype(np.float32), faces, axis=1)
    d1, d2 = corners[:, :, 2] - corners[:, :, 0], corners[:, :, 3] - corners[:, :, 1]
    area = d1[..., 0] * d2[..., 1] - d1[..., 1] * d2[..., 0]
    near = depth.reshape(len(depth), -1).min(-1) < 0.4
    far = np.take(depth.astype(np.float32), faces, axis=1)
    hidden = area >= 0
    if near.any():
        hidden = hidden | (far.min(-1) < 0.4)
    mean_depth = np.where(
        hidden, np.float32(np.inf), (far[..., 0] + far[..., 1] + far[..., 2] + far[..., 3]) * np.float32(0.25)
    )
    z = posed.vertices[..., 2].astype(np.float32)
    high = 0.5 * (np.take(z, faces[:, 0], axis=1) + np.take(z, faces[:, 2], axis=1))
    n = len(mesh.faces)
    kerb, kerb_n, kerb_h = _kerb(plan)
    kerb_xy, kerb_d = plan.camera.project(kerb) if len(kerb) else (np.zeros((0, 4, 2)), np.zeros((0, 4)))
    kd1, kd2 = kerb_xy[:, 2] - kerb_xy[:, 0], kerb_xy[:, 3] - kerb_xy[:, 1]
    kerb_off = (kd1[:, 0] * kd2[:, 1] - kd1[:, 1] * kd2[:, 0] >= 0) | (kerb_d.min(-1, initial=9.0) < 0.4)
    strips = front(plan)
    k, m = len(kerb), len(strips)
    strip_xy = np.array([s[0] for s in strips]).reshape(m, 4, 2)
    gain = 1.0 if plan.light == "day" else 0.75
    strip_shade = gain * np.array([(s[1], s[1], s[2], s[2]) for s in strips]).reshape(m, 4)

    def fixed(values: F64) -> F32:
        return np.broadcast_to(values, (frames, *values.shape)).astype(np.float32)

    uv = np.concatenate([np.tile(mesh.uv, (count, 1, 1)), _flat_uv(k, 0), _flat_uv(m, 1, strips)])
    return Stage(
        times_s=times_s,
        shift=plan.camera.offset(times_s),
        corners=np.concatenate([corners.reshape(frames, count * n, 4, 2), fixed(kerb_xy), fixed(strip_xy)], 1),
        depth=np.concatenate(
            [mean_depth.reshape(frames, -1), fixed(np.where(kerb_off, np.inf, kerb_d.mean(-1))), fixed(np.zeros(m))], 1
        ),
        shade=np.concatenate(
            [
                np.take(light, faces, axis=1).reshape(frames, count * n, 4),
                fixed(0.9 * _light(plan, kerb, kerb_n)),
                fixed(strip_shade),
            ],
            1,
        ),
        height=np.concatenate(
            [high.reshape(frames, -1), fixed(kerb_h), fixed(np.zeros(m))],
            1,
        ),
        part=np.concatenate([np.tile(mesh.part, count), np.full(k + m, OCCLUDER, np.uint8)]),
        owner=np.concatenate([np.arange(count).repeat(n), np.full(k + m, NOBODY)]).astype(np.uint8),
        texture=uv.astype(np.float32),
        loose=count * n + k,
        posed=posed,
        channels=table,
    )


def _flat_uv(count: int, row: int, strips: list | None = None) -> F64:
    """Atlas corners of plain-coloured faces: column = colour number in the extra atlas."""
    uv = np.zeros((count, 4, 2))
    uv[..., 1] = 0.5 + row
    if strips:
        colours = sorted({s[3] for s in strips})
        uv[..., 0] = np.array([colours.index(s[3]) + 0.5 for s in strips])[:, None]
    return uv


def numbers(scene: Stage, i: int) -> NDArray[np.int32]:
    """Face number + 1 under each pixel at time i, 0 for the barn: (256, 448) int32."""
    canvas = np.zeros((HEIGHT, WIDTH), np.int32)
    depth = scene.depth[i]
    visible = np.flatnonzero(np.isfinite(depth[: scene.loose]))
    order = visible[np.argsort(-depth[visible], kind="stable")]
    order = np.concatenate([order, np.arange(scene.loose, len(depth))])
    points = scene.corners[i, order] + scene.shift[i].astype(np.float32)
    fixed = np.rint(np.clip(points, -4000, 4000) * 16).astype(np.int32)
    fill = cv2.fillConvexPoly
    for polygon, number in zip(fixed, (order + 1).tolist(), strict=True):
        fill(canvas, polygon, number, 8, 4)
    return canvas
