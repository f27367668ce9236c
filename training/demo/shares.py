"""Shares with Wilson intervals, for the card."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Z = 1.959964


@dataclass(frozen=True, slots=True)
class Share:
    """``value`` with its 95 % Wilson interval; ``n`` is what it was counted on."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f}–{self.high:.3f}, n={self.n})"


def share(right: NDArray[np.bool_] | list[bool]) -> Share:
    """Share of true values; of nothing, NaN between 0 and 1."""
    values = np.asarray(right, bool)
    n = len(values)
    if n == 0:
        return Share(math.nan, 0.0, 1.0, 0)
    p = float(values.mean())
    centre = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    return Share(p, max(0.0, centre - half), min(1.0, centre + half), n)


def balanced(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> Share:
    """Balanced accuracy; its interval is that of a share with this value on n clips (the classes are near equal)."""
    recall, specificity = share(predicted[truth]), share(~predicted[~truth])
    value = (recall.value + specificity.value) / 2
    n = len(truth)
    centre = (value + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(max(value * (1 - value), 0) / n + Z * Z / (4 * n * n))
    return Share(value, max(0.0, centre - half), min(1.0, centre + half), n)


def area_under_curve(score: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """Probability that a mounting clip scores above a normal one; ties count half."""
    from scipy.stats import rankdata

    ranks = rankdata(score)
    positive, negative = int(truth.sum()), int((~truth).sum())
    if not positive or not negative:
        return math.nan
    return float((ranks[truth].sum() - positive * (positive + 1) / 2) / (positive * negative))
