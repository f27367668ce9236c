"""Coats: one atlas per animal, painted from seeded noise; columns as laid out in `body.TUBES`.

Painted on 64 rows x 128 columns, the trunk's patches twice as fine; stored at 128 x 256 texels (`FINE` 2).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

COATS = ("black-and-white", "black", "brown", "red", "white", "red-and-white")
_BASE = {  # linear-ish RGB 0..255 of the coloured hair
    "black-and-white": (34, 32, 34), "black": (38, 34, 34), "brown": (128, 84, 50), "red": (114, 58, 40),
    "white": (222, 214, 198), "red-and-white": (112, 60, 44),
}  # fmt: skip
_INFRARED = {"black-and-white": 62, "black": 66, "brown": 150, "red": 165, "white": 208, "red-and-white": 160}
_SECOND = {  # the other style: dyes that no training picture shows
    "black-and-white": (40, 60, 140), "black": (70, 30, 110), "brown": (210, 120, 170), "red": (250, 150, 40),
    "white": (170, 235, 210), "red-and-white": (60, 160, 90),
}  # fmt: skip
FINE = 2
ROWS, COLUMNS = 64 * FINE, 128 * FINE
PINK, HORN = np.array((196, 150, 138), np.float32), np.array((62, 54, 48), np.float32)


def _noise(rng: np.random.Generator, rows: int, columns: int, cells: tuple[int, int]) -> NDArray[np.float32]:
    """Smooth noise (rows, columns) about 0, seamless from the last row to the first."""
    grid = rng.standard_normal(cells).astype(np.float32)
    grid = np.concatenate([grid, grid[:1]], 0)
    return cv2.resize(grid, (columns, rows), interpolation=cv2.INTER_CUBIC)


def paint(coat: str, seed: int, *, infrared: bool, second: bool = False) -> NDArray[np.float32]:
    """Atlas (128, 256, 3) float32 RGB 0..255."""
    rng = np.random.default_rng([seed, 77])
    base = np.array((_SECOND if second else _BASE)[coat], np.float32)
    base = base * rng.uniform(0.88, 1.12)
    white = np.array((240, 240, 120) if second else (226, 220, 208), np.float32)
    if infrared:
        base = np.full(3, _INFRARED[coat], np.float32) * rng.uniform(0.92, 1.08)
        white = np.full(3, 214, np.float32)
    atlas = np.empty((64, 128, 3), np.float32)
    atlas[:] = base
    patches = _noise(rng, 64, 80, (4, 6)) + rng.uniform(-0.25, 0.35)
    if second:
        patches = (np.sin(np.arange(80, dtype=np.float32)[None, :] * 0.55) + 0 * patches).astype(np.float32)
    legs_white = coat.endswith("white")
    if coat.endswith("and-white"):
        atlas[:, 80:88] = np.where(_noise(rng, 64, 8, (3, 2))[..., None] < -0.2, white, base)
        atlas[22:42, 88:104] = base
        atlas[:12, 88:104] = atlas[52:, 88:104] = white if rng.random() < 0.6 else base
    else:
        belly = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(64) / 64)  # 1 at the belly row
        atlas *= 1 + 0.16 * belly[:, None, None].astype(np.float32)
        if coat == "white":
            atlas[:, :80] *= (1 - 0.10 * np.clip(patches, 0, 1))[..., None]
        elif rng.random() < 0.4:
            atlas[:10, 89:100] = atlas[54:, 89:100] = white
    atlas[:, 104:118] = white if legs_white else atlas[:1, 104:105] * 0.92
    if legs_white and coat != "white":
        atlas[:, 104:108] = base
    horn, pink = (np.full(3, v, np.float32) if infrared else c for v, c in ((90, HORN), (185, PINK)))
    if second:
        horn, pink = np.array((250, 250, 250), np.float32), np.array((90, 90, 220), np.float32)
    atlas[:, 116:118] = horn
    atlas[:, 100:104] = pink if coat in ("white", "red-and-white", "red") else horn * 1.1
    for row in (13, 50):  # the eyes, left and right of the forehead
        atlas[row - 2 : row + 2, 92:93] = 18
    atlas[:, 118:123] = pink
    atlas[:, 123:126] = base
    atlas[:, 126:] = white if legs_white else base * 0.7
    atlas = cv2.resize(atlas, (COLUMNS, ROWS), interpolation=cv2.INTER_NEAREST)
    if coat.endswith("and-white"):
        fine = cv2.resize(patches, (80 * FINE, ROWS), interpolation=cv2.INTER_CUBIC)
        share = np.clip(0.5 - fine * 6, 0, 1)[..., None]
        atlas[:, : 80 * FINE] = base * (1 - share) + white * share
    atlas *= 1 + 0.05 * _noise(rng, ROWS, COLUMNS, (16, 24))[..., None]
    return np.clip(atlas, 6, 250)


def luminance(coat: str, infrared: bool) -> float:
    """Brightness of the coloured hair, 0..1."""
    return (_INFRARED[coat] if infrared else sum(_BASE[coat]) / 3) / 255
