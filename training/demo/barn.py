"""The unmoving background: floor, walls and roof by casting one ray per pixel, drawn once per clip, and what stands in
front of the animals."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from training.demo.camera import HEIGHT, WIDTH
from training.demo.plan import ClipPlan

F32 = NDArray[np.float32]
MARGIN = 8  # px around the picture, for the shake
_TEXELS, _METRES = 512, 12.8
_FLOOR = {"straw": (176, 150, 98), "concrete": (138, 136, 130), "slats": (122, 120, 116), "sand": (158, 134, 106)}
_WALL = {"boards": (124, 98, 72), "blocks": (160, 158, 150), "metal": (128, 140, 146)}


def _noise(rng: np.random.Generator, cells: int, size: int = _TEXELS) -> F32:
    grid = rng.standard_normal((cells, cells)).astype(np.float32)
    return cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)


@lru_cache(maxsize=64)
def _floor(name: str, variant: int) -> F32:
    """One of a few textures of this floor: (512, 512, 3) float32 for 12.8 m square."""
    rng = np.random.default_rng([len(name), ord(name[0]), variant])
    if name == "second":
        i = np.indices((_TEXELS, _TEXELS)).sum(0) // 2
        check = ((np.indices((_TEXELS, _TEXELS)) // 40).sum(0) % 2).astype(np.float32)
        base = np.array((70, 120, 84), np.float32) + check[..., None] * np.array((70, 30, 60), np.float32)
        return base + 8 * np.sin(i / 5.0)[..., None].astype(np.float32)
    shade = 1 + 0.07 * _noise(rng, 9) + 0.06 * _noise(rng, 40) + 0.05 * _noise(rng, 160)
    texture = np.array(_FLOOR[name], np.float32) * shade[..., None]
    if name == "straw":
        stroke = np.zeros((_TEXELS, _TEXELS), np.float32)
        for x, y, a, n in zip(
            *rng.integers(0, _TEXELS, (2, 2600)), rng.uniform(0, 3.14, 2600), rng.uniform(6, 15, 2600), strict=True
        ):
            end = (int(x + n * np.cos(a)), int(y + n * np.sin(a)))
            cv2.line(stroke, (int(x), int(y)), end, float(rng.uniform(-34, 38)), 1, cv2.LINE_AA)
        texture += stroke[..., None] * np.array((1, 0.95, 0.7), np.float32)
    elif name == "slats":
        gap = (np.arange(_TEXELS) % 16 < 4).astype(np.float32)
        texture *= (1 - 0.55 * gap)[:, None, None]
        texture *= (1 - 0.3 * (np.arange(_TEXELS) % 128 < 3).astype(np.float32))[None, :, None]
    dirt = np.clip(_noise(rng, 14) - 0.7, 0, 1.2)[..., None]
    texture = texture * (1 - 0.45 * dirt) + np.array((70, 54, 36), np.float32) * 0.45 * dirt
    return np.clip(texture, 10, 245)


@lru_cache(maxsize=64)
def _wall(name: str, variant: int, night: bool) -> F32:
    """A wall 12.8 m long and 6.4 m high, repeated: (256, 512, 3) float32, row 0 at the floor."""
    rng = np.random.default_rng([len(name), ord(name[1]), variant, 3])
    if name == "second":
        band = (np.arange(256) // 22 % 2).astype(np.float32)[:, None, None]
        return np.broadcast_to(
            np.array((190, 150, 200), np.float32) - band * np.array((60, 60, 10), np.float32), (256, 512, 3)
        ).copy()
    texture = (
        np.array(_WALL[name], np.float32) * (1 + 0.05 * _noise(rng, 12)[:256] + 0.04 * _noise(rng, 90)[:256])[..., None]
    )
    if name == "boards":
        texture *= (1 + 0.10 * rng.standard_normal(64).repeat(8))[None, :, None].astype(np.float32)
        texture *= (1 - 0.35 * (np.arange(512) % 8 < 1))[None, :, None].astype(np.float32)
    elif name == "blocks":
        texture[::16] *= 0.72
        for row in range(0, 256, 16):
            texture[row : row + 16, (row // 16 % 2) * 16 :: 32] *= 0.74
    else:
        texture *= (1 + 0.12 * np.sin(np.arange(512) * 2 * np.pi / 8))[None, :, None].astype(np.float32)
    texture[:14] *= 0.7
    glass = 46.0 if night else 236.0
    for x in range(40, 512, 128):
        cv2.rectangle(texture, (x, 74), (x + 46, 108), (glass * 0.92, glass * 0.98, glass), -1)
        cv2.rectangle(texture, (x, 74), (x + 46, 108), (70, 66, 60), 2)
        cv2.line(texture, (x + 23, 74), (x + 23, 108), (70, 66, 60), 2)
    return np.clip(texture, 8, 250)


def background(plan: ClipPlan) -> F32:
    """The empty barn, lit: (256 + 2 margins, 448 + 2 margins, 3) float32 RGB 0..255, before lens and sensor."""
    view, barn = plan.camera, plan.barn
    night = plan.light == "night"
    h, w = HEIGHT + 2 * MARGIN, WIDTH + 2 * MARGIN
    px = (np.arange(w, dtype=np.float32) - MARGIN + 0.5 - WIDTH / 2) / view.focal
    py = (np.arange(h, dtype=np.float32) - MARGIN + 0.5 - HEIGHT / 2) / view.focal
    r = view.rotation.astype(np.float32)
    d = px[None, :, None] * r[0] + py[:, None, None] * r[1] + r[2]
    o = view.position.astype(np.float32)
    x0, x1, y0, y1, top = (np.float32(v) for v in barn.room)
    d = np.where(np.abs(d) < 1e-5, np.float32(1e-5), d)
    tx = (np.where(d[..., 0] > 0, x1, x0) - o[0]) / d[..., 0]
    ty = (np.where(d[..., 1] > 0, y1, y0) - o[1]) / d[..., 1]
    tz = (np.where(d[..., 2] > 0, top, np.float32(0)) - o[2]) / d[..., 2]
    t = np.minimum(np.minimum(tx, ty), tz).astype(np.float32)
    x, y, z = (o[i] + t * d[..., i] for i in range(3))
    floor = (tz <= tx) & (tz <= ty) & (d[..., 2] < 0)
    roof = (tz <= tx) & (tz <= ty) & (d[..., 2] >= 0)
    k = _TEXELS / _METRES
    variant = barn.seed % 6
    second = plan.style == "second"
    texture = _floor("second" if second else barn.floor, variant)
    spin = 0.7 * (barn.seed % 5)
    c, s = np.float32(k * np.cos(spin)), np.float32(k * np.sin(spin))
    fx, fy = c * x - s * y, s * x + c * y
    mode = cv2.INTER_LINEAR
    image = cv2.remap(texture, fx, fy, mode, borderMode=cv2.BORDER_REFLECT)
    along = np.where(tx < ty, y, x) * np.float32(k)
    wall = cv2.remap(
        _wall("second" if second else barn.wall, variant, night),
        along,
        z * np.float32(k),
        mode,
        borderMode=cv2.BORDER_REFLECT,
    )
    image = np.where(floor[..., None], image, wall)
    image[roof] = (210, 220, 120) if second else (92, 90, 88)
    if night:
        gray = image @ np.array((0.35, 0.4, 0.25), np.float32)
        near = (np.float32(np.linalg.norm(view.position)) / np.maximum(t, 1.0)) ** 1.3
        lit = gray * np.clip(near, 0.0, 1.5) * np.where(floor, np.float32(0.72), np.float32(0.58))
        image = np.repeat(lit[..., None], 3, 2)
    else:
        pools = 0.88 + 0.12 * np.sin(0.9 * x + barn.seed) * np.sin(0.8 * y + 2 * barn.seed)
        # Corners gather less light.
        edge = np.minimum(np.minimum(x - x0, x1 - x), np.minimum(y - y0, y1 - y))
        dark = 0.66 + 0.34 * np.clip((edge + np.where(floor, np.float32(0.1), 0.9 + 0.2 * z)) / 1.6, 0, 1)
        image = image * (pools * np.where(floor, dark, 0.8 * dark))[..., None] * np.array(barn.tint, np.float32)
    return np.ascontiguousarray(image * np.float32(barn.gain), np.float32)


def front(plan: ClipPlan) -> list[tuple[NDArray[np.float64], float, float, tuple[float, float, float]]]:
    """What stands between camera and animals, as strips (4, 2) px with the shade of the first and of the opposite
    edge and an RGB colour 0..255; far to near."""
    view, barn = plan.camera, plan.barn
    metal = (150.0, 154.0, 158.0) if plan.style == "first" else (250.0, 120.0, 60.0)
    wood = (118.0, 92.0, 66.0) if plan.style == "first" else (60.0, 200.0, 210.0)
    ahead = view.rotation[2, :2] / np.linalg.norm(view.rotation[2, :2])
    right = np.array([ahead[1], -ahead[0]])
    strips: list[tuple[NDArray[np.float64], float, float, tuple[float, float, float]]] = []

    def bar(p: NDArray[np.float64], q: NDArray[np.float64], radius: float, colour: tuple[float, float, float]) -> None:
        ends, depth = view.project(np.stack([p, q]))
        if depth.min() < 0.3:
            return
        along = ends[1] - ends[0]
        normal = np.array([-along[1], along[0]]) / max(float(np.hypot(*along)), 1e-6)
        half = radius * view.focal / depth
        for a, b, s0, s1 in ((-1.0, -0.2, 0.7, 1.15), (-0.2, 1.0, 1.15, 0.45)):
            corners = [ends[0] + normal * half[0] * a, ends[1] + normal * half[1] * a]
            corners += [ends[1] + normal * half[1] * b, ends[0] + normal * half[0] * b]
            strips.append((np.array(corners), s0, s1, colour))

    def stand(at: NDArray[np.float64], z0: float, z1: float, radius: float, colour: tuple[float, float, float]) -> None:
        bar(np.array([*at, z0]), np.array([*at, z1]), radius, colour)

    for thing, colour in ((barn.post, wood), (barn.panel, wood)):
        if thing is None:
            continue
        at = np.array(thing[:2])
        if thing[3] > 5:
            stand(at, 0.0, view.position[2] - 0.1, thing[2], colour)
        else:
            a, b = at - right * thing[2], at + right * thing[2]
            for k in range(3):
                z = thing[3] * (k + 0.5) / 3
                bar(np.array([*a, z]), np.array([*b, z]), thing[3] / 6.3, colour)
    if barn.fence is not None:
        at = view.position[:2] + ahead * barn.fence
        for z in barn.rails:
            bar(np.array([*(at - right * 7), z]), np.array([*(at + right * 7), z]), 0.028, metal)
        for k in range(-3, 4):
            stand(at + right * (k * 2.1 + 0.4), 0.0, barn.rails[-1] + 0.1, 0.04, metal)
    return strips
