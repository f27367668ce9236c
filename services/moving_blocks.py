"""Which blocks of a picture move most over a clip: what an embedder looks at when it leaves the still barn out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_CELL = 8
"""Movement is counted on means of cells this wide (px), so that sensor noise hardly counts."""


def moving_blocks(rgb: NDArray[np.uint8], block: int, keep: int) -> NDArray[np.int64]:
    """(keep,) ascending numbers, row by row, of the ``block`` px wide blocks of (T, H, W, 3) that change most between
    neighbouring frames. H and W are multiples of ``block``, ``block`` of 8."""
    rows, columns = rgb.shape[1] // block, rgb.shape[2] // block
    grey = rgb.astype(np.float32).mean(-1)
    inner = block // _CELL
    cells = grey.reshape(len(grey), rows, inner, _CELL, columns, inner, _CELL).mean((3, 6))
    change = (
        np.abs(np.diff(cells, axis=0)) if len(cells) > 1 else np.zeros((1, rows, inner, columns, inner), np.float32)
    )
    moved = np.clip(change - 2.0, 0.0, 40.0).mean((0, 2, 4)).ravel()
    return np.sort(np.argsort(-moved, kind="stable")[:keep])
