"""Spoils pictures in five known ways and four strengths; strength 1 is clearly worse than the default camera."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from services.errors import InputError

KINDS = ("blur", "noise", "low_resolution", "dark", "covered")
LEVELS = (1, 2, 3, 4)
BLUR_SIGMA = (1.8, 2.8, 4.2, 6.5)  # px of a 448-px wide picture
NOISE_SIGMA = (14.0, 24.0, 38.0, 58.0)  # grey levels
LOW_WIDTH = (132, 88, 56, 36)  # px that the picture is reduced to
DARK_GAIN = (0.42, 0.28, 0.17, 0.09)
COVERED_SHARE = (0.18, 0.34, 0.52, 0.75)  # of the picture behind something dark and near


def degrade(frames: NDArray[np.uint8], kind: str, level: int, seed: int) -> NDArray[np.uint8]:
    """(T, H, W, 3) uint8 RGB -> the same shape, spoilt alike in every frame. Raises `InputError` for unknown names."""
    if kind not in KINDS or level not in LEVELS:
        raise InputError(
            f"There is no degradation {kind!r} of level {level}; use {', '.join(KINDS)} and levels 1 to 4."
        )
    rng = np.random.default_rng([seed, KINDS.index(kind), level])
    h, w = frames.shape[1:3]
    scale = w / 448
    k = level - 1
    jitter = rng.uniform(0.92, 1.08)
    if kind == "blur":
        sigma = BLUR_SIGMA[k] * scale * jitter
        return np.stack([cv2.GaussianBlur(f, (0, 0), sigma) for f in frames])
    if kind == "noise":
        sigma = NOISE_SIGMA[k] * jitter
        grey = rng.standard_normal(frames.shape[:3], dtype=np.float32)[..., None]
        return np.clip(frames + sigma * grey, 0, 255).astype(np.uint8)
    if kind == "low_resolution":
        small = (max(4, round(LOW_WIDTH[k] * jitter)), max(3, round(LOW_WIDTH[k] * jitter * h / w)))
        low = [cv2.resize(f, small, interpolation=cv2.INTER_AREA) for f in frames]
        return np.stack([cv2.resize(f, (w, h), interpolation=cv2.INTER_NEAREST) for f in low])
    if kind == "dark":
        return np.clip(frames * np.float32(DARK_GAIN[k] * jitter), 0, 255).astype(np.uint8)
    return _cover(frames, COVERED_SHARE[k] * jitter, rng)


def _cover(frames: NDArray[np.uint8], share: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A blurred dark edge grows into the picture from one side, as of dirt or a leaf on the lens."""
    h, w = frames.shape[1:3]
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    x, y = x / w, y / h
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5)
    wave = cv2.resize(rng.standard_normal((4, 6)).astype(np.float32), (w, h), interpolation=cv2.INTER_CUBIC)
    ramp = ramp + 0.06 * wave
    limit = np.quantile(ramp, 1 - min(share, 0.95))
    mask = np.clip((ramp - limit) / 0.035 + 0.5, 0, 1)[..., None].astype(np.float32)
    colour = np.float32(rng.uniform(8, 40))
    return (frames * (1 - mask) + colour * mask).astype(np.uint8)
