"""Draws frames: lit and textured faces over the empty barn, shadows, lens and sensor.

Everything is drawn at 448x256 and averaged down for smaller pictures, so sizes differ only by the average. A frame
depends on the plan and its own time alone. Pictures are (T, H, W, 3) uint8 RGB.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from training.demo.barn import MARGIN, background, front
from training.demo.body import TUBES
from training.demo.camera import HEIGHT, WIDTH
from training.demo.coats import COLUMNS, FINE, ROWS, paint
from training.demo.plan import ClipPlan
from training.demo.surface import Stage, numbers, stage

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]
_KERB = (150.0, 146.0, 138.0)
_BANK = (640, 1024)


@lru_cache(maxsize=1)
def _noise_bank() -> F32:
    """Sensor noise that frames cut their own out of: (640, 1024, 3) float32 of unit variance, mostly grey."""
    rng = np.random.default_rng(20240607)
    grey = rng.standard_normal((*_BANK, 1)).astype(np.float32)
    colour = rng.standard_normal((*_BANK, 3)).astype(np.float32)
    return np.ascontiguousarray(0.9 * grey + 0.43 * colour)


@lru_cache(maxsize=4)
def _vignette(strength: float, night: bool) -> F32:
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    r = np.hypot((x - WIDTH / 2) / (WIDTH / 2), (y - HEIGHT / 2) / (WIDTH / 2))
    fall = 1 - strength * r**2
    if night:
        fall *= 1.12 - 0.62 * np.clip(r - 0.15, 0, 1) ** 1.3
    return fall[..., None].astype(np.float32)


def _atlas(plan: ClipPlan) -> F32:
    """Coats of all animals, then one row each of kerb and obstacle colours: (N*128 + 4, 256, 3) float32."""
    night, second = plan.light == "night", plan.style == "second"
    sheets = [paint(a.coat, a.seed, infrared=night, second=second) for a in plan.animals]
    extra = np.zeros((2 * FINE, COLUMNS, 3), np.float32)
    extra[:FINE] = _KERB if not second else (230, 60, 90)
    for i, colour in enumerate(sorted({s[3] for s in front(plan)})):
        extra[FINE:, FINE * i : FINE * (i + 1)] = colour
    if night:
        extra[:] = extra.mean(-1, keepdims=True)
    atlas = np.concatenate([*sheets, extra])
    if night:
        atlas[:] = atlas.mean(-1, keepdims=True)
    return atlas * np.float32(plan.barn.gain)


@lru_cache(maxsize=2)
def _shadow_points() -> NDArray[np.int64]:
    """Vertices whose ground shadow is drawn as one hull per animal: those of the torso."""
    return np.arange(TUBES[0][1] * TUBES[0][2])


def _shadow(plan: ClipPlan, scene: Stage, i: int) -> F32:
    """Light that reaches the ground (256 + margins, 448 + margins, 1), at quarter size inside."""
    small = np.zeros(((HEIGHT + 2 * MARGIN) // 4, (WIDTH + 2 * MARGIN) // 4), np.uint8)
    count = len(plan.animals)
    night = plan.light == "night"
    for a in range(count):
        v = scene.posed.vertices[i * count + a][_shadow_points()]
        sun = np.array(plan.barn.sun)
        for direction, value in ((np.array([0.0, 0.0, 1.0]), 120), (sun, 110)):
            if night and value == 110:
                continue
            ground = v - direction * (v[:, 2:3] / direction[2])
            xy, depth = plan.camera.project(ground)
            if depth.min() < 0.5:
                continue
            points = np.clip((xy + MARGIN) * 4, -30000, 30000)
            hull = cv2.convexHull(points.astype(np.float32)).astype(np.int32)
            layer = np.zeros_like(small)
            cv2.fillConvexPoly(layer, hull, value if not night else 80, 8, 4)
            small = cv2.max(small, layer) if value == 110 else cv2.add(small, layer // 2)
    soft = cv2.GaussianBlur(small, (0, 0), 1.6)
    big = cv2.resize(soft, (WIDTH + 2 * MARGIN, HEIGHT + 2 * MARGIN), interpolation=cv2.INTER_LINEAR)
    return (1 - big.astype(np.float32) * np.float32(0.75 / 255))[..., None]


def _slopes(corners: F32, values: F32) -> F32:
    """Affine maps (F, C, 3) from pixel to value, from the corners (F, 4, 2) and their values (F, 4, C)."""
    d1, d2 = corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]
    det = d1[:, 0] * d2[:, 1] - d1[:, 1] * d2[:, 0]
    safe = np.where(np.abs(det) < 1.5, np.inf, det)[:, None]
    a1, a2 = values[:, 2] - values[:, 0], values[:, 3] - values[:, 1]
    gx = (a1 * d2[:, 1:2] - a2 * d1[:, 1:2]) / safe
    gy = (a2 * d1[:, 0:1] - a1 * d2[:, 0:1]) / safe
    quarter = np.float32(0.25)
    centre = corners.sum(1) * quarter
    c = values.sum(1) * quarter - gx * centre[:, 0:1] - gy * centre[:, 1:2]
    return np.stack([c, gx, gy], -1).astype(np.float32)


def _bounds(values: F32) -> tuple[F32, F32]:
    """Least and greatest of the four corners (F, C)."""
    a, b, c, d = (values[:, k] for k in range(4))
    return np.minimum(np.minimum(a, b), np.minimum(c, d)), np.maximum(np.maximum(a, b), np.maximum(c, d))


def _colour(scene: Stage, i: int, ids: NDArray[np.int32], atlas: F32, base: NDArray[np.int32], image: F32) -> None:
    """Paints the faces' colours into the image (256, 448, 3)."""
    pixels = np.flatnonzero(ids)
    if not len(pixels):
        return
    under = ids.ravel()[pixels] - 1
    seen = np.zeros(len(base), np.bool_)
    seen[under] = True
    used = np.flatnonzero(seen)
    rank = np.empty(len(base), np.int32)
    rank[used] = np.arange(len(used), dtype=np.int32)
    values = np.concatenate([scene.shade[i, used][..., None], scene.texture[used]], -1)
    corners = scene.corners[i, used] + scene.shift[i].astype(np.float32)
    maps = _slopes(corners, values)
    table = np.concatenate([maps[..., 0], maps[..., 1], maps[..., 2], *_bounds(values)], 1)
    # One row per quantity: whole rows of pixels are worked on at once, several times faster than columns.
    per = np.take(np.ascontiguousarray(table.T), np.take(rank, under), axis=1)
    y, x = np.divmod(pixels.astype(np.int32), np.int32(WIDTH))
    value = per[3:6] * x.astype(np.float32)
    value += per[6:9] * y.astype(np.float32)
    value += per[0:3]
    np.maximum(value, per[9:12], out=value)
    np.minimum(value, per[12:15], out=value)
    texel = np.take(base, under) + (value[2] * FINE).astype(np.int32)
    texel = texel * COLUMNS + (value[1] * FINE).astype(np.int32)
    colours = np.take(atlas.reshape(-1, 3), texel, axis=0)
    image.reshape(-1, 3)[pixels] = colours * value[0][:, None]


def _lens(plan: ClipPlan, image: F32, t: float, width: int, height: int) -> U8:
    """Lens blur, vignette, size, and sensor noise."""
    image = cv2.GaussianBlur(image, (5, 5), plan.blur)
    image *= _vignette(round(plan.vignette, 3), plan.light == "night")
    noise = plan.noise
    if (width, height) != (WIDTH, HEIGHT):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        noise *= max(width / WIDTH, 0.05)
    cut = np.random.default_rng([plan.seed, 9, round(t * 1000)]).integers(0, (_BANK[0] - 256, _BANK[1] - 448))
    h, w = min(height, 256), min(width, 448)
    grain = _noise_bank()[cut[0] : cut[0] + h, cut[1] : cut[1] + w]
    if (height, width) != (h, w):
        grain = cv2.resize(grain, (width, height))
    if plan.light == "night":
        grain = np.repeat(grain[..., :1], 3, 2)
    cv2.scaleAdd(np.ascontiguousarray(grain), noise, image, image)
    return cv2.convertScaleAbs(cv2.max(image, 0.0))


def draw_stage(plan: ClipPlan, scene: Stage, width: int, height: int, ids: list[NDArray[np.int32]]) -> U8:
    """Frames of a stage whose face numbers are known."""
    empty = background(plan)
    atlas = _atlas(plan)
    count = len(plan.animals)
    rows = np.where(scene.owner == 255, 0, scene.owner.astype(np.int32) * ROWS)
    loose = np.arange(len(rows)) >= np.count_nonzero(scene.owner != 255)
    base = np.where(loose, count * ROWS, rows).astype(np.int32)
    out = np.empty((len(scene.times_s), height, width, 3), np.uint8)
    for i, t in enumerate(scene.times_s):
        dx, dy = scene.shift[i]
        lit = empty * _shadow(plan, scene, i)
        move = np.array([[1, 0, dx - MARGIN], [0, 1, dy - MARGIN]], np.float64)
        image = cv2.warpAffine(lit, move, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        _colour(scene, i, ids[i], atlas, base, image)
        out[i] = _lens(plan, image, float(t), width, height)
    return out


def draw_frames(plan: ClipPlan, times_s: F64 | list[float], *, width: int = WIDTH, height: int = HEIGHT) -> U8:
    """Frames (T, height, width, 3) uint8 RGB at these times in seconds, camera effects included."""
    scene = stage(plan, np.asarray(times_s, np.float64))
    return draw_stage(plan, scene, width, height, [numbers(scene, i) for i in range(len(scene.times_s))])
