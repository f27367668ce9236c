"""The verdict rule is fitted to the stated risk and never trusts a model that is wrong more often than right."""

from __future__ import annotations

import numpy as np
import pytest

from agent.verdict import combine
from training.demo.calibrate import RISK, fit, thresholds, upper_bound
from training.demo.shares import area_under_curve, balanced, share


def _clips(strength: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(seed)
    mounting = np.arange(400) % 2 == 0
    logits = np.where(mounting, strength, -strength) + chance.normal(0, 2, 400)
    return 1 / (1 + np.exp(-logits)), mounting


def test_answered_clips_keep_the_risk() -> None:
    p, mounting = _clips(4.0)
    rule = fit(p, None, mounting)
    fused = np.array([combine(float(value), None, rule) for value in p])
    answered = (fused <= rule.normal_below) | (fused >= rule.mounting_above)
    wrong = (fused >= 0.5) != mounting
    assert answered.mean() > 0.5
    assert upper_bound(int((wrong & answered).sum()), int(answered.sum())) <= RISK


def test_other_clips_keep_the_risk_too() -> None:
    """The narrowest band that keeps it on the clips that it was chosen on would be too narrow every second time."""
    kept = 0
    for seed in range(40):
        low, high = thresholds(*_clips(4.0, seed))
        p, mounting = _clips(4.0, 1000 + seed)
        answered = (p <= low) | (p >= high)
        kept += ((p >= 0.5) != mounting)[answered].mean() <= RISK
    assert kept >= 34


def test_the_upper_bound_is_the_exact_binomial_one() -> None:
    """Seeing no more than so many wrong has a chance of one in twenty at the bound."""
    from scipy.stats import binom

    for wrong, answered in ((0, 149), (3, 400), (12, 1000)):
        assert binom.cdf(wrong, answered, upper_bound(wrong, answered)) == pytest.approx(0.05)
    assert upper_bound(0, 0) == upper_bound(5, 5) == 1.0


def test_a_model_at_odds_with_the_truth_gets_no_say() -> None:
    p, mounting = _clips(-2.0)
    votes = np.where(mounting, 0.9, 0.1)
    rule = fit(p, votes, mounting)
    assert rule.weight_vlm == 0.0
    assert rule.weight_vote > 0.0


def test_a_useless_score_leaves_most_unclear() -> None:
    p, mounting = _clips(0.0)
    low, high = thresholds(p, mounting)
    assert ((p <= low) | (p >= high)).mean() < 0.2


def test_wilson_interval_of_a_known_case() -> None:
    found = share([True] * 8 + [False] * 2)
    assert (found.low, found.high) == pytest.approx((0.490, 0.943), abs=1e-3)


def test_balanced_accuracy_ignores_how_many_there_are_of_each() -> None:
    truth = np.array([True] * 10 + [False] * 90)
    assert balanced(np.zeros(100, bool), truth).value == 0.5


def test_area_under_curve_counts_ties_half() -> None:
    assert area_under_curve(np.ones(4), np.array([True, False, True, False])) == 0.5
