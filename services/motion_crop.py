"""Where in the picture most of the movement is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_CELLS = (16, 28)
"""Rows and columns of the coarse grid that movement is counted on."""
_SHARE = 0.6
"""Height and width of the region, of the picture's."""


def moving_region(rgb: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """(top, left, height, width) in px of the region, six tenths of the picture high and wide, that holds most change
    between neighbouring frames of (T, H, W, 3). Without any change it is the middle."""
    height, width = rgb.shape[1:3]
    rows, columns = min(_CELLS[0], height), min(_CELLS[1], width)
    tall, wide = height // rows, width // columns
    grey = rgb[:, : rows * tall, : columns * wide].astype(np.float32).mean(-1)
    cells = grey.reshape(len(grey), rows, tall, columns, wide).mean((2, 4))
    change = np.abs(np.diff(cells, axis=0)).mean(0) if len(cells) > 1 else np.zeros((rows, columns), np.float32)
    change = np.clip(change - np.median(change), 0, None)
    high, broad = max(1, round(rows * _SHARE)), max(1, round(columns * _SHARE))
    total = np.zeros((rows + 1, columns + 1))
    total[1:, 1:] = change.cumsum(0).cumsum(1)
    sums = total[high:, broad:] - total[:-high, broad:] - total[high:, :-broad] + total[:-high, :-broad]
    y, x = np.unravel_index(int(sums.argmax()), sums.shape)
    if sums.max() <= 0:
        y, x = (rows - high) // 2, (columns - broad) // 2
    return int(y) * tall, int(x) * wide, high * tall, broad * wide
