"""How far probabilities can be trusted: calibration, and what staying silent (*unclear*) buys. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import brier_score_loss
from statsmodels.stats.proportion import proportion_confint

from evaluation.metrics import Estimate, proportion

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
BINS = 10
DRAWS = 200
RISK = 0.02
"""Errors that are accepted among answered clips (the stated risk behind ``unclear``)."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Clips of neighbouring probability: their mean ``p`` and the ``share`` of mounting among them."""

    p: float
    share: Estimate


@dataclass(frozen=True, slots=True)
class Calibrated:
    """``ece``: expected calibration error, in ``bins`` of equal mass. ``noise``: the ECE that chance alone gives a
    perfectly calibrated model on as many clips (mean, and the value it stays below in 95 of 100 cases)."""

    n: int
    ece: float
    noise: float
    noise_high: float
    brier: float
    bins: tuple[Bin, ...]


def equal_mass(truth: Bools, p: Floats, count: int = BINS) -> list[tuple[Floats, Floats]]:
    """(probabilities, outcomes) of at most ``count`` bins, each with as many clips as the next, ascending in ``p``.

    Clips of equal ``p`` share their outcomes evenly, so that the order in which they come cannot matter."""
    values, group = np.unique(p, return_inverse=True)
    shared = (np.bincount(group, weights=truth, minlength=len(values)) / np.bincount(group))[group]
    order = np.argsort(p, kind="stable")
    parts = np.array_split(order, min(count, len(order))) if len(order) else []
    return [(p[part], shared[part]) for part in parts]


def ece(truth: Bools, p: Floats, count: int = BINS) -> float:
    """Mean over clips of |mean probability − share of mounting| in the clip's bin; NaN without clips."""
    if len(p) == 0:
        return math.nan
    gaps = [len(x) * abs(float(x.mean()) - float(y.mean())) for x, y in equal_mass(truth, p, count)]
    return sum(gaps) / len(p)


def calibrated(truth: Bools, p: Floats, count: int = BINS) -> Calibrated:
    """Everything about the calibration of ``p`` (N,), N at least 1."""
    rng = np.random.default_rng(0)
    drawn = [ece(rng.random(len(p)) < p, p, count) for _ in range(DRAWS)]
    bins = []
    for x, y in equal_mass(truth, p, count):
        bins.append(Bin(float(x.mean()), proportion(round(float(y.sum())), len(y))))
    return Calibrated(
        n=len(p),
        ece=ece(truth, p, count),
        noise=float(np.mean(drawn)),
        noise_high=float(np.quantile(drawn, 0.95)),
        brier=float(brier_score_loss(truth, p)),
        bins=tuple(bins),
    )


def coverage_curve(truth: Bools, p: Floats) -> tuple[Floats, Floats]:
    """(coverage, accuracy of the answered), both (N,): answering the 1, 2, … N surest clips. Sureness is the distance
    of ``p`` from one half; clips that are equally sure share their accuracy."""
    sure = np.abs(p - 0.5)
    right = (p >= 0.5) == truth
    values, group = np.unique(sure, return_inverse=True)
    shared = (np.bincount(group, weights=right, minlength=len(values)) / np.bincount(group))[group]
    order = np.argsort(-sure, kind="stable")
    answered = np.arange(1, len(p) + 1)
    return answered / len(p), np.cumsum(shared[order]) / answered


@dataclass(frozen=True, slots=True)
class Thresholds:
    """*unclear* strictly between; infinite where no threshold keeps the risk."""

    normal_below: float
    mounting_above: float


def thresholds(truth: Bools, p: Floats, risk: float = RISK, sureness: float = 0.5) -> Thresholds:
    """The widest answers on each side of one half whose share of errors is at most ``risk``: for each side the
    threshold nearest to one half at which the one-sided upper limit of the error share (Wilson, confidence
    ``sureness``; one half is the share itself, nearly) stays within it."""
    above = _one_side(~truth[p >= 0.5], p[p >= 0.5], risk, sureness)
    below = _one_side(truth[p < 0.5], -p[p < 0.5], risk, sureness)
    return Thresholds(-below, above)


def _one_side(wrong: Bools, sure: Floats, risk: float, sureness: float) -> float:
    """The smallest value of ``sure`` from which on the errors keep the risk, or infinity."""
    order = np.argsort(-sure, kind="stable")
    errors, best = np.cumsum(wrong[order]), math.inf
    for i, value in enumerate(sure[order]):
        last_of_equals = i + 1 == len(order) or sure[order[i + 1]] < value
        if last_of_equals and _upper(int(errors[i]), i + 1, sureness) <= risk:
            best = float(value)
    return best


def _upper(errors: int, n: int, sureness: float) -> float:
    """One-sided upper limit of a share; the share itself for a ``sureness`` of one half."""
    if sureness <= 0.5:
        return errors / n
    return float(proportion_confint(errors, n, alpha=2 * (1 - sureness), method="wilson")[1])


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Thresholds chosen on one half of the clips and tried on the other, both ways; counts of both together."""

    coverage: Estimate
    errors: Estimate
    chosen: tuple[Thresholds, Thresholds]


def held_out_thresholds(truth: Bools, p: Floats, risk: float = RISK) -> HeldOut:
    """Whether ``risk`` holds on clips that the thresholds were not chosen on. Halves are drawn with a fixed seed,
    each class halved."""
    half = _halves(truth)
    answered = wrong = 0
    chosen = []
    for side in (False, True):
        found = thresholds(truth[half == side], p[half == side], risk)
        chosen.append(found)
        y, x = truth[half != side], p[half != side]
        up, down = x >= found.mounting_above, x <= found.normal_below
        answered += int((up | down).sum())
        wrong += int((up & ~y).sum() + (down & y).sum())
    return HeldOut(proportion(answered, len(p)), proportion(wrong, answered), (chosen[0], chosen[1]))


def _halves(truth: Bools) -> Bools:
    rng, half = np.random.default_rng(0), np.zeros(len(truth), bool)
    for label in (False, True):
        members = rng.permutation(np.flatnonzero(truth == label))
        half[members[: len(members) // 2]] = True
    return half
