"""Cameras: where they hang in training and where in the held-out viewpoints, and how they project."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
WIDTH, HEIGHT = 448, 256  # the picture that everything is laid out in, px
GROUPS = ("train", "new")

# name, height m, azimuth degrees (direction of view on the ground). The two groups share no height and no azimuth.
VIEWS: dict[str, tuple[tuple[str, tuple[float, float], tuple[float, float]], ...]] = {
    "train": (
        ("ceiling_corner", (3.2, 4.0), (30.0, 65.0)),
        ("ceiling_corner", (3.2, 4.0), (120.0, 155.0)),
        ("end_of_pen", (2.5, 3.0), (-15.0, 15.0)),
        ("side", (1.9, 2.35), (80.0, 105.0)),
        ("low_side", (1.25, 1.6), (250.0, 290.0)),
    ),
    "new": (
        ("roof", (4.5, 5.2), (180.0, 235.0)),
        ("door", (1.68, 1.85), (165.0, 245.0)),
        ("gallery", (3.03, 3.17), (300.0, 340.0)),
        ("post", (2.38, 2.48), (300.0, 340.0)),
    ),
}


@dataclass(frozen=True, slots=True, eq=False)
class Camera:
    """A pinhole camera. ``position`` (3,) m; ``rotation`` (3, 3) rows right, down, forward; ``focal`` px of a 448-px
    wide picture; shake in px: amplitudes ``shake`` and phases ``shake_phase`` (4,)."""

    name: str
    position: F64
    rotation: F64
    focal: float
    shake: float
    shake_phase: F64

    def project(self, points: F64) -> tuple[F64, F64]:
        """World points (..., 3) -> pixels (..., 2) in the 448x256 picture without shake, and depth (...) in m."""
        local = (points - self.position) @ self.rotation.T
        depth = local[..., 2]
        safe = np.maximum(depth, 0.15)
        xy = local[..., :2] * (self.focal / safe)[..., None] + (WIDTH / 2, HEIGHT / 2)
        return xy, depth

    def offset(self, t: F64) -> F64:
        """Shake of the picture at times (T,) s: (T, 2) px."""
        p = self.shake_phase
        dx = np.sin(7.1 * t + p[0]) + 0.6 * np.sin(15.7 * t + p[1])
        dy = np.sin(8.3 * t + p[2]) + 0.6 * np.sin(13.1 * t + p[3])
        return self.shake * np.stack([dx, dy], -1)


def place(rng: np.random.Generator, group: str, target: F64, view_width: float, shake: float) -> Camera:
    """A camera of this group that sees ``view_width`` m at the target (3,), which comes to lie off the centre."""
    views = VIEWS[group]
    name, heights, azimuths = views[int(rng.integers(len(views)))]
    height = rng.uniform(*heights)
    azimuth = np.radians(rng.uniform(*azimuths))
    fov = np.radians(rng.uniform(48.0, 66.0))
    focal = WIDTH / 2 / np.tan(fov / 2)
    distance = max(view_width / 2 / np.tan(fov / 2), (height - target[2]) * 1.16 + 0.4, 3.6)
    level = np.sqrt(max(distance**2 - (height - target[2]) ** 2, 4.0))
    ahead = np.array([np.cos(azimuth), np.sin(azimuth), 0.0])
    position = np.array([target[0], target[1], 0.0]) - ahead * level + (0.0, 0.0, height)
    yaw = azimuth + np.arctan(rng.uniform(-0.11, 0.11) * WIDTH / focal)
    pitch = -np.arctan2(height - target[2], level) + np.arctan(rng.uniform(-0.05, 0.05) * HEIGHT / focal)
    forward = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    down = np.cross(forward, right)
    return Camera(name, position, np.stack([right, down, forward]), float(focal), shake, rng.uniform(0, 6.28, 4))
