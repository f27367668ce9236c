"""Counts to measures with their uncertainty. Pure; the mathematics is statsmodels', scikit-learn's and scipy's.

*Positive* is mounting. A clip without a clear answer (``unclear``, ``unparsed``, failed) is never right: it counts
against accuracy and recall, but not against precision. Intervals are 95 %.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import bootstrap, rankdata
from sklearn.metrics import confusion_matrix
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

ANSWERS = ("mounting", "normal")
RESAMPLES = 999


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measure with its 95 % interval; all NaN where nothing was counted. ``hits`` of ``n`` for proportions."""

    value: float
    low: float
    high: float
    hits: int = 0
    n: int = 0

    def covers(self, value: float) -> bool:
        return self.low <= value <= self.high


NOTHING = Estimate(math.nan, math.nan, math.nan)


def proportion(hits: int, n: int) -> Estimate:
    """``hits`` of ``n`` with Wilson's interval."""
    if n == 0:
        return NOTHING
    low, high = proportion_confint(hits, n, alpha=0.05, method="wilson")
    value = hits / n
    return Estimate(value, min(float(low), value), max(float(high), value), hits, n)


@dataclass(frozen=True, slots=True)
class Confusion:
    """How often each truth got each answer; ``…_open`` are clips without a clear answer."""

    tp: int
    fn: int
    mounting_open: int
    tn: int
    fp: int
    normal_open: int

    @property
    def n(self) -> int:
        return self.mounting + self.normal

    @property
    def mounting(self) -> int:
        return self.tp + self.fn + self.mounting_open

    @property
    def normal(self) -> int:
        return self.tn + self.fp + self.normal_open

    @property
    def answered(self) -> int:
        return self.n - self.mounting_open - self.normal_open

    def rows(self) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """Truth mounting, then normal; answers mounting, normal, open."""
        return (self.tp, self.fn, self.mounting_open), (self.fp, self.tn, self.normal_open)


def confusion(truth: Sequence[str], answers: Sequence[str]) -> Confusion:
    """Counts of ``answers`` (mounting, normal, or anything else: open) against ``truth`` (mounting, normal)."""
    if not truth:
        return Confusion(0, 0, 0, 0, 0, 0)
    said = [answer if answer in ANSWERS else "open" for answer in answers]
    table = confusion_matrix(list(truth), said, labels=["mounting", "normal", "open"])
    (tp, fn, mounting_open), (fp, tn, normal_open) = table[:2].tolist()
    return Confusion(tp, fn, mounting_open, tn, fp, normal_open)


@dataclass(frozen=True, slots=True)
class Scores:
    """The usual measures of one confusion table, each with its interval."""

    accuracy: Estimate
    accuracy_answered: Estimate
    coverage: Estimate
    precision: Estimate
    recall: Estimate
    specificity: Estimate
    f1: Estimate
    balanced_accuracy: Estimate


def scores(c: Confusion) -> Scores:
    """Measures of ``c``. F1 is a monotone function of tp / (tp + fp + misses), so Wilson's interval of that share
    carries over. The balanced accuracy's interval joins those of recall and specificity (Zou and Donner's MOVER)."""
    recall, specificity = proportion(c.tp, c.mounting), proportion(c.tn, c.normal)
    shared = proportion(c.tp, c.mounting + c.fp)
    return Scores(
        accuracy=proportion(c.tp + c.tn, c.n),
        accuracy_answered=proportion(c.tp + c.tn, c.answered),
        coverage=proportion(c.answered, c.n),
        precision=proportion(c.tp, c.tp + c.fp),
        recall=recall,
        specificity=specificity,
        f1=Estimate(_f1(shared.value), _f1(shared.low), _f1(shared.high)),
        balanced_accuracy=_mean(recall, specificity),
    )


def _f1(j: float) -> float:
    return 2 * j / (1 + j)


def _mean(a: Estimate, b: Estimate) -> Estimate:
    value = (a.value + b.value) / 2
    below = math.hypot(a.value - a.low, b.value - b.low) / 2
    above = math.hypot(a.high - a.value, b.high - b.value) / 2
    return Estimate(value, value - below, value + above)


@dataclass(frozen=True, slots=True)
class Paired:
    """Two results on the same clips: ``only_first`` right in the first only, and so on; ``p`` of the exact test."""

    both: int
    only_first: int
    only_second: int
    neither: int
    p: float

    @property
    def n(self) -> int:
        return self.both + self.only_first + self.only_second + self.neither


def paired(first: Sequence[bool], second: Sequence[bool]) -> Paired:
    """Exact McNemar test of two results; element i of both speaks of the same clip."""
    a, b = np.asarray(first, bool), np.asarray(second, bool)
    both, one, two, none = (int(x.sum()) for x in (a & b, a & ~b, ~a & b, ~a & ~b))
    p = float(mcnemar([[both, one], [two, none]], exact=True).pvalue) if one + two else 1.0
    return Paired(both, one, two, none, min(p, 1.0))


def auc(truth: ArrayLike, p: ArrayLike) -> Estimate:
    """Area under the ROC curve of ``p`` (N,) for ``truth`` (N,) bool, ties counting half, with a bootstrap interval
    (percentiles, mounting and normal clips drawn apart, fixed seed). Perfectly parted classes, where all draws
    agree, get Wilson's interval of the smaller class instead. NaN without both classes."""
    y, x = np.asarray(truth, bool), np.asarray(p, float)
    positive, negative = x[y], x[~y]
    if len(positive) == 0 or len(negative) == 0:
        return NOTHING
    value = float(_area(positive, negative))
    fewest = min(len(positive), len(negative))
    if value in (0.0, 1.0):
        return dataclasses.replace(proportion(round(value * fewest), fewest), hits=0, n=0)
    if fewest < 2:
        return Estimate(value, 0.0, 1.0)
    interval = bootstrap(
        (positive, negative), _area, n_resamples=RESAMPLES, method="percentile", vectorized=True, batch=100, rng=0
    ).confidence_interval
    return Estimate(value, float(interval.low), float(interval.high))


def _area(positive: NDArray[np.float64], negative: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    """The Mann-Whitney statistic as a share of all pairs, along ``axis``."""
    n, m = positive.shape[axis], negative.shape[axis]
    ranks = rankdata(np.concatenate([positive, negative], axis=axis), axis=axis)
    return (np.take(ranks, range(n), axis=axis).sum(axis) - n * (n + 1) / 2) / (n * m)
