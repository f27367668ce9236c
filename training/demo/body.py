"""The animal's body as a fixed mesh of lofted tubes: which vertices form a face, of which part, with which coat.

Every animal has the same topology, so that a whole clip (frames x animals) is posed in one go (see `cow`).
A tube is a chain of rings; a ring has ``sides`` vertices. Texture coordinates address the coat atlas of `coats`:
``u`` in columns 0..127, ``v`` in rows 0..63.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

PARTS = ("background", "torso", "head_neck", "front_legs", "hind_legs", "occluder")
TORSO, HEAD, FRONT, HIND, OCCLUDER = 1, 2, 3, 4, 5

# name, rings, sides, part, first and last atlas column
TUBES: tuple[tuple[str, int, int, int, float, float], ...] = (
    ("torso", 12, 14, TORSO, 0.0, 79.0),
    ("neck", 4, 8, HEAD, 80.0, 88.0),
    ("head", 6, 8, HEAD, 88.0, 103.0),
    ("ear_left", 3, 4, HEAD, 80.0, 84.0),
    ("ear_right", 3, 4, HEAD, 80.0, 84.0),
    ("front_left", 6, 6, FRONT, 104.0, 117.0),
    ("front_right", 6, 6, FRONT, 104.0, 117.0),
    ("hind_left", 6, 6, HIND, 104.0, 117.0),
    ("hind_right", 6, 6, HIND, 104.0, 117.0),
    ("udder", 5, 6, TORSO, 119.0, 122.0),
    ("tail", 5, 4, TORSO, 123.0, 127.0),
)


@dataclass(frozen=True, slots=True, eq=False)
class Topology:
    """``faces`` (F, 4) vertex numbers, counter-clockwise seen from outside; ``part`` (F,) uint8 of `PARTS`;
    ``uv`` (F, 4, 2) float32 atlas column and row of each corner; ``vertices`` is the number of vertices."""

    faces: NDArray[np.int32]
    part: NDArray[np.uint8]
    uv: NDArray[np.float32]
    vertices: int


@lru_cache(maxsize=1)
def topology() -> Topology:
    """The one mesh that all animals share."""
    faces: list[tuple[int, int, int, int]] = []
    parts: list[int] = []
    uvs: list[list[tuple[float, float]]] = []
    base = 0
    for _, rings, sides, part, first, last in TUBES:
        for r in range(rings - 1):
            u0 = first + (last - first) * r / (rings - 1)
            u1 = first + (last - first) * (r + 1) / (rings - 1)
            for s in range(sides):
                a, b = base + r * sides, base + (r + 1) * sides
                n = (s + 1) % sides
                faces.append((a + s, b + s, b + n, a + n))
                v0, v1 = 63.0 * s / sides, 63.0 * (s + 1) / sides
                uvs.append([(u0, v0), (u1, v0), (u1, v1), (u0, v1)])
                parts.append(part)
        base += rings * sides
    return Topology(np.array(faces, np.int32), np.array(parts, np.uint8), np.array(uvs, np.float32), base)


def ring(sides: int, squareness: float = 1.0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unit cross-section (side, up) of each vertex, starting at the top and turning to the left."""
    angle = 2 * np.pi * np.arange(sides) / sides
    side, up = np.sin(angle), np.cos(angle)
    return np.sign(side) * np.abs(side) ** squareness, np.sign(up) * np.abs(up) ** squareness
