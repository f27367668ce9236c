"""Dense targets of the simulation, one value per patch: what a vision tower can learn to see.

The picture of 224x128 has 8 x 14 patches of 16 px; targets average the surfaces that are visible there. They come
from the same face numbers as the frames, at half size, shake included.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from training.demo.body import PARTS
from training.demo.camera import HEIGHT, WIDTH
from training.demo.coats import luminance
from training.demo.draw import draw_stage
from training.demo.plan import ClipPlan
from training.demo.surface import NOBODY, Stage, numbers, stage

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
POSES = ("none", "standing", "walking", "lying", "lying down", "getting up", "feeding")
_ENOUGH = 0.12  # share of a patch that animals must cover for its class to be theirs
_SHOWN_PX = 30  # of the picture at half size that an animal must cover to count as shown
_REACH_M = 2.0  # gaps are measured no farther than this
_STATES = ("pitch", "facing", "motion", "coat", "distance", "head_height", "head_gap")
_HALF = (slice(0, None, 2), slice(0, None, 2))


def _pose_classes(plan: ClipPlan, scene: Stage) -> NDArray[np.int64]:
    """Pose class (T, N) of each animal; whoever rears or does anything else on its feet counts as standing."""
    out = np.ones((len(scene.times_s), len(plan.animals)), np.int64)
    for n, animal in enumerate(plan.animals):
        for spell in animal.track.spells:
            k = POSES.index(spell.behaviour) if spell.behaviour in POSES else 1
            if spell.behaviour in ("following", "walking past", "passing behind"):
                k = 2
            inside = (scene.times_s >= spell.start_s - 0.03) & (scene.times_s <= spell.end_s + 0.03)
            out[inside, n] = k
    return out


def _states(plan: ClipPlan, scene: Stage) -> dict[str, F64]:
    """Per animal and time (T, N, ...): what is the same all over the animal, see `draw_targets`."""
    count, frames = len(plan.animals), len(scene.times_s)
    ch = scene.channels
    yaw, pitch = ch[..., 2], ch[..., 3]
    middle = np.stack([ch[..., 0] + 0.6 * np.cos(yaw), ch[..., 1] + 0.6 * np.sin(yaw), np.full_like(yaw, 0.9)], -1)
    _, depth = plan.camera.project(middle)
    right, into = plan.camera.rotation[0, :2], plan.camera.rotation[2, :2]
    flat = np.stack([np.cos(yaw), np.sin(yaw)], -1)
    facing = np.stack([flat @ right, flat @ (into / np.linalg.norm(into))], -1)
    step = 0.1
    later = np.stack([a.track.at(scene.times_s + step) for a in plan.animals], 1)
    sooner = np.stack([a.track.at(scene.times_s - step) for a in plan.animals], 1)

    def spot(c: F64) -> F64:
        lift = 0.9 * c[..., 5] + 0.6 * np.sin(c[..., 3])
        p = np.stack([c[..., 0] + 0.6 * np.cos(c[..., 2]), c[..., 1] + 0.6 * np.sin(c[..., 2]), lift], -1)
        return plan.camera.project(p)[0]

    motion = (spot(later) - spot(sooner)) / (2 * step) / 100.0
    coat = np.broadcast_to([luminance(a.coat, plan.light == "night") for a in plan.animals], (frames, count))
    return {
        "pitch": np.sin(pitch)[..., None], "facing": facing, "motion": np.clip(motion, -2, 2),
        "coat": coat[..., None].astype(np.float64), "distance": np.clip(depth / 12.0, 0, 1.5)[..., None],
        "head_height": scene.posed.head[:, 2].reshape(frames, count, 1) / 2,
        "head_gap": _head_gaps(scene, frames, count)[..., None] / _REACH_M,
    }  # fmt: skip


def _head_gaps(scene: Stage, frames: int, count: int) -> F64:
    """(T, N) m from the middle of each animal's head to the nearest other animal, whose body is taken as the lines from
    pelvis to shoulder and from shoulder to head; at most `_REACH_M`."""
    posed = scene.posed
    head, pelvis, shoulder = (p.reshape(frames, count, 3) for p in (posed.head, posed.pelvis, posed.shoulder))
    gaps = np.full((frames, count), _REACH_M)
    for mine in range(count):
        for other in range(count):
            if mine != other:
                for start, end in ((pelvis, shoulder), (shoulder, head)):
                    way = end[:, other] - start[:, other]
                    to = head[:, mine] - start[:, other]
                    part = np.clip((to * way).sum(-1) / np.maximum((way * way).sum(-1), 1e-9), 0, 1)
                    gaps[:, mine] = np.minimum(gaps[:, mine], np.linalg.norm(to - part[:, None] * way, axis=-1))
    return gaps


def _centres(owner: NDArray[np.uint8], count: int, grid: tuple[int, int]) -> F32:
    """(rows, columns) a weight of 1 for each animal that is shown, at the centre of what is seen of it, spread over the
    four nearest patches; ``owner`` is the animal under each pixel."""
    out = np.zeros(grid, np.float32)
    for n in range(count):
        y, x = np.nonzero(owner == n)
        if len(y) < _SHOWN_PX:
            continue
        row = float(np.clip((y.mean() + 0.5) / owner.shape[0] * grid[0] - 0.5, 0, grid[0] - 1))
        column = float(np.clip((x.mean() + 0.5) / owner.shape[1] * grid[1] - 0.5, 0, grid[1] - 1))
        top, left = min(int(row), grid[0] - 2), min(int(column), grid[1] - 2)
        down, right = row - top, column - left
        out[top : top + 2, left : left + 2] += np.outer((1 - down, down), (1 - right, right))
    return out


def _pool(values: F32, grid: tuple[int, int]) -> F32:
    """Mean per patch of (128, 224[, C]) -> (rows, columns[, C])."""
    return cv2.resize(values, (grid[1], grid[0]), interpolation=cv2.INTER_AREA)


def _shares(classes: NDArray[np.uint8], count: int, grid: tuple[int, int]) -> F32:
    """Share of each class in each patch: (rows, columns, count)."""
    h, w = classes.shape
    row = np.arange(h) * grid[0] // h * grid[1]
    column = np.arange(w) * grid[1] // w
    cell = (row[:, None] + column) * count + classes
    total = np.bincount(cell.ravel(), minlength=grid[0] * grid[1] * count).reshape(*grid, count)
    return (total / total.sum(-1, keepdims=True)).astype(np.float32)


def stage_targets(
    plan: ClipPlan, scene: Stage, ids: list[NDArray[np.int32]], grid: tuple[int, int] = (8, 14)
) -> dict[str, F32]:
    """Targets of a stage whose face numbers are known; see `draw_targets`."""
    rows, columns = grid
    count, frames = len(plan.animals), len(scene.times_s)
    poses, states = _pose_classes(plan, scene), _states(plan, scene)
    state = np.concatenate([states[n] for n in _STATES], -1).astype(np.float32)  # (T, N, 9)
    part_of = np.concatenate([[0], scene.part]).astype(np.uint8)
    owner_of = np.concatenate([[NOBODY], scene.owner]).astype(np.uint8)
    channels = {"facing": 2, "motion": 2}
    out = {
        name: np.zeros((frames, rows, columns, *([channels[name]] if name in channels else [])), np.float32)
        for name in ("cow", "part", "animal_pose", "height", *_STATES, "overlap", "centre")
    }
    for i in range(frames):
        face = ids[i][_HALF]
        part, owner = part_of[face], owner_of[face]
        high = np.concatenate([[0.0], scene.height[i]]).astype(np.float32)[face]
        shares = _shares(part, len(PARTS), grid)
        owners = _shares(np.minimum(owner, count), count + 1, grid)[..., :count]
        cow = shares[..., 1:5].sum(-1)
        body = cow > _ENOUGH
        occluded = shares[..., 5] > 0.3
        out["cow"][i] = cow
        out["part"][i] = np.where(body, 1 + shares[..., 1:5].argmax(-1), np.where(occluded, 5, 0))
        mine = owners.argmax(-1)
        out["animal_pose"][i] = np.where(body, poses[i][mine], 0)
        out["height"][i] = _pool(high * (owner != NOBODY), grid) / np.maximum(cow, 1e-3) / 2 * body
        values = state[i][mine] * body[..., None]
        out["pitch"][i], out["facing"][i], out["motion"][i] = values[..., 0], values[..., 1:3], values[..., 3:5]
        out["coat"][i], out["distance"][i] = values[..., 5], values[..., 6]
        out["head_height"][i], out["head_gap"][i] = values[..., 7], values[..., 8]
        out["centre"][i] = _centres(owner, count, grid)
        out["overlap"][i] = _overlap(scene, i, count, grid)
    return out


def _overlap(scene: Stage, i: int, count: int, grid: tuple[int, int]) -> F32:
    """Share of each patch where the trunk outlines of at least two animals lie over each other."""
    total = np.zeros((HEIGHT // 8, WIDTH // 8), np.uint8)
    for n in range(count):
        mine = np.flatnonzero((scene.owner == n) & (scene.part == 1))
        points = scene.corners[i, mine, 0] + scene.shift[i].astype(np.float32)
        hull = cv2.convexHull(np.clip(points, -2000, 2000).astype(np.float32) / 8)
        layer = np.zeros_like(total)
        cv2.fillConvexPoly(layer, (hull * 16).astype(np.int32), 1, 8, 4)
        total += layer
    return _pool((total >= 2).astype(np.float32), grid)


def draw_targets(plan: ClipPlan, times_s: F64 | list[float], *, grid: tuple[int, int] = (8, 14)) -> dict[str, F32]:
    """Targets at these times, float32, (T, rows, columns[, C]):

    ``cow`` share of the patch that animals cover; ``part`` class number in `body.PARTS`; ``animal_pose`` class number
    in `POSES`; ``height`` of the visible animal above ground, m / 2; ``pitch`` sine of the animal's long axis;
    ``facing`` (2) its heading to the right and away from the camera, unit length; ``motion`` (2) its movement in the
    448-px picture, px/s / 100, right and down; ``overlap`` share where two trunks lie over each other; ``coat``
    luminance 0..1 as the light shows it; ``distance`` from the camera, m / 12; ``head_height`` of the animal's head
    above ground, m / 2; ``head_gap`` from its head to the nearest other animal, m / 2, at most 1; ``centre`` the number
    of animals whose visible part has its centre there (it sums to the number of animals that are shown). All but the
    classes and the centres are 0 where no animal covers at least 12 % of the patch.
    """
    scene = stage(plan, np.asarray(times_s, np.float64))
    return stage_targets(plan, scene, [numbers(scene, i) for i in range(len(scene.times_s))], grid)


def draw_both(
    plan: ClipPlan, times_s: F64 | list[float], *, width: int = 224, height: int = 128, grid: tuple[int, int] = (8, 14)
) -> tuple[NDArray[np.uint8], dict[str, F32]]:
    """`draw_frames` and `draw_targets` for the price of little more than one of them."""
    scene = stage(plan, np.asarray(times_s, np.float64))
    ids = [numbers(scene, i) for i in range(len(scene.times_s))]
    return draw_stage(plan, scene, width, height, ids), stage_targets(plan, scene, ids, grid)
