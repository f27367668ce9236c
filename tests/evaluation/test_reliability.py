"""Calibration and coverage against plain definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.reliability import (
    calibrated,
    coverage_curve,
    ece,
    equal_mass,
    held_out_thresholds,
    thresholds,
)

EXAMPLES = settings(max_examples=40, deadline=None)
CLIPS = st.lists(st.tuples(st.booleans(), st.integers(0, 20)), min_size=1, max_size=60)


def arrays(clips):
    return np.array([y for y, _ in clips], bool), np.array([p / 20 for _, p in clips])


@EXAMPLES
@given(CLIPS, st.integers(1, 12))
def test_bins_have_equal_mass_and_lose_nothing(clips, count):
    y, p = arrays(clips)
    parts = equal_mass(y, p, count)
    sizes = [len(x) for x, _ in parts]
    assert sum(sizes) == len(p) and max(sizes) - min(sizes) <= 1 and len(parts) == min(count, len(p))
    assert sum(float(outcome.sum()) for _, outcome in parts) == pytest.approx(y.sum())


@EXAMPLES
@given(CLIPS, st.randoms())
def test_ece_does_not_hang_on_the_order_of_the_clips(clips, random):
    shuffled = list(clips)
    random.shuffle(shuffled)
    assert ece(*arrays(clips)) == pytest.approx(ece(*arrays(shuffled)))


@EXAMPLES
@given(CLIPS)
def test_ece_of_one_bin_is_the_gap_of_the_means(clips):
    y, p = arrays(clips)
    assert ece(y, p, 1) == pytest.approx(abs(p.mean() - y.mean()))
    assert 0 <= ece(y, p, 1) <= ece(y, p, len(p)) + 1e-9


def test_ece_of_distinct_probabilities_is_the_textbook_sum():
    p = np.linspace(0.01, 0.99, 40)
    y = np.arange(40) % 3 == 0
    expected = sum(4 * abs(p[i : i + 4].mean() - y[i : i + 4].mean()) for i in range(0, 40, 4)) / 40
    assert ece(y, p, 10) == pytest.approx(expected)


def test_a_calibrated_model_stays_within_the_noise_and_a_boasting_one_does_not():
    rng = np.random.default_rng(2)
    p = rng.random(2000)
    honest = calibrated(rng.random(2000) < p, p)
    assert honest.ece <= honest.noise_high * 1.2
    boasting = calibrated(rng.random(2000) < 0.5 + (p - 0.5) / 3, p)
    assert boasting.ece > 3 * boasting.noise_high


@EXAMPLES
@given(CLIPS)
def test_coverage_curve_ends_at_the_plain_accuracy(clips):
    y, p = arrays(clips)
    coverage, accuracy = coverage_curve(y, p)
    assert coverage[-1] == 1 and accuracy[-1] == pytest.approx(((p >= 0.5) == y).mean())
    assert (np.diff(coverage) > 0).all()


@EXAMPLES
@given(CLIPS, st.sampled_from([0.0, 0.02, 0.1, 0.3]))
def test_thresholds_keep_the_risk_and_none_nearer_to_one_half_does(clips, risk):
    y, p = arrays(clips)
    found = thresholds(y, p, risk)
    up, down = p >= found.mounting_above, p <= found.normal_below
    assert not up.any() or (~y[up]).mean() <= risk + 1e-12
    assert not down.any() or y[down].mean() <= risk + 1e-12
    for nearer in np.unique(p[(p >= 0.5) & (p < found.mounting_above)]):
        assert (~y[p >= nearer]).mean() > risk


def test_thresholds_that_nothing_keeps_are_infinite():
    y = np.array([True, True, False, False])
    found = thresholds(y, np.array([0.1, 0.2, 0.8, 0.9]), 0.02)
    assert (found.normal_below, found.mounting_above) == (-math.inf, math.inf)


def test_thresholds_are_tried_on_clips_that_they_were_not_chosen_on():
    rng = np.random.default_rng(5)
    p = rng.random(600)
    tried = held_out_thresholds(rng.random(600) < p, p, risk=0.1)
    assert tried.errors.n == tried.coverage.hits and tried.coverage.n == 600
    assert 0.02 < tried.errors.value < 0.25
