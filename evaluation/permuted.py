"""The control that needs no run: the answers of a result against shuffled labels, which must come to one half."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from evaluation.metrics import NOTHING, Estimate
from evaluation.views import OPPOSITE, View

DRAWS = 999


def shuffled(view: View) -> tuple[Estimate, Estimate]:
    """(balanced accuracy among the answered clips, AUC) under DRAWS permutations of the truth: the mean, and the range
    of 95 % of the draws. NaN where a permutation leaves no clip of a class."""
    rng = np.random.default_rng(0)
    truth = np.array([t == "mounting" for t in view.truth], bool)
    said = np.array([a == "mounting" for a in view.answers], bool)
    answered = np.array([a in OPPOSITE for a in view.answers], bool)
    scored = np.array([row.p is not None for row in view.rows], bool)
    ranks = rankdata([row.p for row in view.rows if row.p is not None])
    accuracies, areas = [], []
    for _ in range(DRAWS):
        drawn = rng.permutation(truth)
        accuracies.append(_balanced(drawn[answered], said[answered]))
        areas.append(_area(drawn[scored], ranks))
    return _summed(accuracies), _summed(areas)


def _balanced(truth: NDArray[np.bool_], said: NDArray[np.bool_]) -> float:
    if truth.all() or not truth.any():
        return math.nan
    return float((said[truth].mean() + (~said[~truth]).mean()) / 2)


def _area(truth: NDArray[np.bool_], ranks: NDArray[np.float64]) -> float:
    """Mann-Whitney from ranks (N,) with ties averaged."""
    n, m = int(truth.sum()), int((~truth).sum())
    return float((ranks[truth].sum() - n * (n + 1) / 2) / (n * m)) if n and m else math.nan


def _summed(values: list[float]) -> Estimate:
    kept = [value for value in values if not math.isnan(value)]
    if not kept:
        return NOTHING
    return Estimate(float(np.mean(kept)), float(np.quantile(kept, 0.025)), float(np.quantile(kept, 0.975)))
