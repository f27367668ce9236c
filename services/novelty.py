"""How far a clip's pictures lie from what the models were trained on.

Judged from decoded pictures after the common resize only; size, frame rate, codec, name and digest of the file never
enter. Two views are compared with the training renders, each by the mean distance to the nearest of them: low-level
statistics (light, colour, layout, contrast, orientation, spectrum, noise, change over time) after whitening, and the
embedder's vector. Neighbours rather than one centre, as day and infrared night are two clouds of pictures with nothing
between. Each view is scaled by its own 99 % quantile on held-out renders; the score is the larger one, and above
``limit`` a clip is outside. Fitted by ``training.demo.novelty_fit`` on rendered clips only.

On disk, in a folder ``novelty`` of its own inside the embedder's (whose weights digest covers its own files only):
``novelty.safetensors`` (mean (F,), whitening (F, F), whitened statistics (M, F), scale of both views (2,), vectors
(N, D)) and ``novelty.json`` (limit, version of the statistics).
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from services.errors import ModelError
from services.schema import Frames, Novelty

VERSION = 2
"""Version of ``statistics``; a file fitted with another one is refused."""
NEIGHBOURS = 5
CELLS = 4
"""Rows and columns of the picture's layout."""
FOLDER = "novelty"
ARRAYS = ("mean", "whitening", "rows", "scale", "vectors")

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]


class NoveltyModel:
    """The fitted measure; immutable, safe to share between threads."""

    def __init__(self, mean: F32, whitening: F32, rows: F32, scale: F32, vectors: F32, limit: float) -> None:
        self.mean, self.whitening, self.rows = mean, whitening, rows
        self.scale, self.vectors, self.limit = scale, vectors, limit

    @staticmethod
    def present(folder: Path | str) -> bool:
        """Whether ``folder`` holds a measure at all; models without one are never called novel."""
        return (Path(folder) / FOLDER / "novelty.json").exists()

    @classmethod
    def load(cls, folder: Path | str) -> NoveltyModel:
        """The measure in ``folder``; ModelError if it is missing, damaged or of another version."""
        folder = Path(folder) / FOLDER
        try:
            table = json.loads((folder / "novelty.json").read_text(encoding="utf-8"))
            arrays = load_file(folder / "novelty.safetensors")
            version, limit = table["version"], float(table["limit"])
            parts = {name: np.asarray(arrays[name], np.float32) for name in ARRAYS} if version == VERSION else {}
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise ModelError(f"The novelty measure in {folder} is missing or damaged; restore the folder.") from error
        if version != VERSION:
            raise ModelError(
                f"The novelty measure in {folder} has version {version}, but this program computes version {VERSION}; "
                "fit it again with 'python -m training.demo.build --from novelty'."
            )
        return cls(**parts, limit=limit)

    def save(self, folder: Path) -> None:
        folder = folder / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {name: np.ascontiguousarray(getattr(self, name), np.float32) for name in ARRAYS}
        save_file(arrays, folder / "novelty.safetensors")
        text = json.dumps({"version": VERSION, "limit": round(self.limit, 4)}, indent=1)
        (folder / "novelty.json").write_text(text + "\n", encoding="utf-8")

    def score(self, frames: Frames, resized: U8, embedding: F32 | None) -> Novelty:
        """``resized`` (T, h, w, 3) uint8 after the common resize; ``embedding`` (D,) of length 1, or None where the
        embedder failed (then the statistics alone decide); of one in spans only the whole clip's part counts.
        ``frames`` are not looked at."""
        del frames
        return Novelty(float(self.distances(resized, embedding).max()), self.limit)

    def distances(self, resized: U8, embedding: F32 | None) -> F32:
        """(1,) or (2,): the scaled distance of the statistics and of the vector."""
        found = [self.distance_of(statistics(resized)) / self.scale[0]]
        if embedding is not None and len(self.vectors):
            found.append(self.distance_between(whole(embedding, self.vectors.shape[1])) / self.scale[1])
        return np.asarray(found, np.float32)

    def distance_of(self, row: F32) -> float:
        """Unscaled: root mean square difference of the whitened statistics (F,) from the nearest training clips."""
        apart = ((self.rows - (row - self.mean) @ self.whitening) ** 2).mean(1)
        return float(np.sqrt(np.sort(apart)[:NEIGHBOURS].mean()))

    def distance_between(self, vector: F32) -> float:
        """Unscaled: mean cosine distance of a whole clip's vector (D,) from the nearest training vectors."""
        return float(np.mean(1.0 - np.sort(self.vectors @ vector)[-NEIGHBOURS:]))


def whole(embedding: NDArray[np.float32], size: int) -> F32:
    """(size,) of length 1: the part of ``embedding`` that is about the whole clip, which comes first."""
    part = np.asarray(embedding[:size], np.float32)
    return np.asarray(part / np.linalg.norm(part), np.float32)


def statistics(resized: U8) -> F32:
    """(F,) float32 of (T, h, w, 3) uint8 RGB. Most are logarithms, so that zero (black, frozen) lies far out."""
    rgb = resized.astype(np.float32) / 255.0
    grey = rgb @ np.asarray((0.299, 0.587, 0.114), np.float32)
    parts = (_light(grey), _colour(rgb, grey), _edges(grey), _spectrum(grey), _change(grey))
    some, greys = rgb[::3], grey[::3]  # these change little from frame to frame
    return np.asarray([*(x for part in parts for x in part), *_layout(some, greys), *_orientation(greys)], np.float32)


def _log(value: Any) -> float:
    return float(np.log(np.maximum(value, 1e-5)))


def _light(grey: F32) -> list[float]:
    quantiles = np.quantile(grey[:, ::2, ::2], (0.02, 0.25, 0.5, 0.75, 0.98))
    rows = grey.mean((0, 2))
    third = len(rows) // 3
    return [
        *(float(q) for q in quantiles),
        _log(grey.std()),
        float(rows[:third].mean() - rows[-third:].mean()),
        float((grey < 0.02).mean()),
        float((grey > 0.98).mean()),
    ]


def _colour(rgb: F32, grey: F32) -> list[float]:
    red_green, blue_yellow = rgb[..., 0] - rgb[..., 1], rgb[..., 2] - 0.5 * (rgb[..., 0] + rgb[..., 1])
    spread = np.abs(rgb - grey[..., None]).mean(-1)
    return [
        float(red_green.mean()),
        float(blue_yellow.mean()),
        _log(red_green.std() + 1e-3),
        _log(blue_yellow.std() + 1e-3),
        _log(spread.mean() + 1e-3),
        _log(np.quantile(spread[:, ::2, ::2], 0.98) + 1e-3),
    ]


def _layout(rgb: F32, grey: F32) -> list[float]:
    """Light, contrast and saturation in cells of the picture, and how saturation spreads over the hues."""
    colour = rgb.max(-1) - rgb.min(-1)
    light = _cells(grey)
    across = np.sqrt(3.0) * (rgb[..., 1] - rgb[..., 2])
    hue = np.arctan2(across, 2 * rgb[..., 0] - rgb[..., 1] - rgb[..., 2])
    hues = np.histogram(hue, 8, (-np.pi, np.pi), weights=colour)[0] / colour.size
    return [
        *(light.mean((0, 3)) - grey.mean()).ravel(),
        *np.log(light.std(3).mean(0).ravel() + 1e-3),
        *_cells(colour / (rgb.max(-1) + 1e-3)).mean((0, 3)).ravel(),
        *np.log(hues + 1e-3),
    ]


def _cells(grey: F32) -> F32:
    """(T, CELLS, CELLS, pixels of a cell) of (T, h, w)."""
    high, wide = grey.shape[1] // CELLS, grey.shape[2] // CELLS
    parts = grey[:, : high * CELLS, : wide * CELLS].reshape(len(grey), CELLS, high, CELLS, wide)
    return np.asarray(parts.transpose(0, 1, 3, 2, 4).reshape(len(grey), CELLS, CELLS, -1), np.float32)


def _orientation(grey: F32) -> list[float]:
    """How the slopes spread over directions and over steepness."""
    across, down = grey[:, :-1, 1:] - grey[:, :-1, :-1], grey[:, 1:, :-1] - grey[:, :-1, :-1]
    steep = np.hypot(across, down)
    turned = np.histogram(np.arctan2(down, across) % np.pi, 8, (0, np.pi), weights=steep)[0]
    steps = np.histogram(np.log(steep + 1e-3), 12, (-7, 0))[0] / steep.size
    return [*np.log(turned / max(float(turned.sum()), 1e-9) + 1e-3), *np.log(steps + 1e-3)]


def _edges(grey: F32) -> list[float]:
    across, down = np.diff(grey, axis=2), np.diff(grey, axis=1)
    slope = np.abs(across[:, :-1]) + np.abs(down[:, :, :-1])
    fine = grey[:, 1:-1, 1:-1] * 4 - grey[:, :-2, 1:-1] - grey[:, 2:, 1:-1] - grey[:, 1:-1, :-2] - grey[:, 1:-1, 2:]
    return [
        _log(slope.mean()),
        *(_log(q) for q in np.quantile(slope[:, ::2, ::2], (0.5, 0.9, 0.99))),
        *(_log(q) for q in np.quantile(np.abs(fine[:, ::2, ::2]), (0.5, 0.95))),
        _log(np.abs(across).mean()) - _log(np.abs(down).mean()),
        float((slope < 0.01).mean()),
    ]


def _spectrum(grey: F32) -> list[float]:
    """Energy in rings of the mean power spectrum, and how it splits between directions."""
    height, width = grey.shape[1:]
    window = np.outer(np.hanning(height), np.hanning(width)).astype(np.float32)
    picked = grey[:: max(1, len(grey) // 8)]
    power = (np.abs(np.fft.rfft2((picked - picked.mean((1, 2), keepdims=True)) * window)) ** 2).mean(0)
    y, x = np.meshgrid(np.abs(np.fft.fftfreq(height)), np.fft.rfftfreq(width), indexing="ij")
    radius = np.hypot(x, y)
    edges = (0.01, 0.03, 0.06, 0.12, 0.2, 0.3, 0.42)
    rings = [power[(radius >= a) & (radius < b)].mean() for a, b in pairwise(edges)]
    total = sum(rings)
    upright, flat = power[(x > 2 * y) & (radius > 0.03)].mean(), power[(y > 2 * x) & (radius > 0.03)].mean()
    return [
        *(_log(ring / max(float(total), 1e-9)) for ring in rings),
        _log(total / grey[0].size),
        _log(upright) - _log(flat),
    ]


def _change(grey: F32) -> list[float]:
    """Change between neighbouring frames: how much, how evenly over the picture, and against the whole clip."""
    if len(grey) < 2:
        return [_log(0.0)] * 6
    step = np.abs(np.diff(grey, axis=0))
    still = np.median(grey[:, ::2, ::2], axis=0)
    return [
        _log(step.mean()),
        *(_log(q) for q in np.quantile(step[:, ::2, ::2], (0.5, 0.95, 0.99))),
        _log(np.abs(grey[:, ::2, ::2] - still).mean()),
        _log(step.mean((1, 2)).std()),
    ]
