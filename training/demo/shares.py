"""Shares with Wilson intervals, for the card; the mathematics is statsmodels' and scikit-learn's."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from statsmodels.stats.proportion import proportion_confint


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
    return _of(float(values.mean()) if len(values) else math.nan, len(values))


def balanced(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> Share:
    """Balanced accuracy; its interval is that of a share with this value on n clips (the classes are near equal)."""
    recall, specificity = share(predicted[truth]), share(~predicted[~truth])
    return _of((recall.value + specificity.value) / 2, len(truth))


def area_under_curve(score: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """Probability that a mounting clip scores above a normal one; ties count half; NaN without both classes."""
    return float(roc_auc_score(truth, score)) if 0 < truth.sum() < len(truth) else math.nan


def _of(value: float, n: int) -> Share:
    if math.isnan(value):
        return Share(math.nan, 0.0, 1.0, n)
    low, high = proportion_confint(value * n, n, method="wilson")
    return Share(value, max(0.0, float(low)), min(1.0, float(high)), n)
