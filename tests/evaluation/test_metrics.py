"""Measures against counting by hand, on any answers."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.metrics import auc, confusion, paired, proportion, scores

EXAMPLES = settings(max_examples=40, deadline=None)
TRUTHS = st.sampled_from(["mounting", "normal"])
ANSWERS = st.sampled_from(["mounting", "normal", "unclear", "unparsed", "failed"])
CLIPS = st.lists(st.tuples(TRUTHS, ANSWERS), min_size=1, max_size=40)


def split(clips):
    return [t for t, _ in clips], [a for _, a in clips]


@EXAMPLES
@given(CLIPS)
def test_confusion_counts_every_clip_once(clips):
    c = confusion(*split(clips))
    assert c.n == len(clips) == sum(map(sum, c.rows()))
    assert c.tp == clips.count(("mounting", "mounting"))
    assert c.fp == clips.count(("normal", "mounting"))
    assert c.answered == sum(a in ("mounting", "normal") for _, a in clips)


@EXAMPLES
@given(CLIPS)
def test_measures_are_the_ratios_that_their_names_say(clips):
    s = scores(confusion(*split(clips)))
    right = sum(t == a for t, a in clips)
    called = [t for t, a in clips if a == "mounting"]
    real = [a for t, a in clips if t == "mounting"]
    assert s.accuracy.value == pytest.approx(right / len(clips))
    if called:
        assert s.precision.value == pytest.approx(called.count("mounting") / len(called))
    if real:
        assert s.recall.value == pytest.approx(real.count("mounting") / len(real))
    if called and real and called.count("mounting"):
        p, r = s.precision.value, s.recall.value
        assert s.f1.value == pytest.approx(2 * p * r / (p + r))


@EXAMPLES
@given(CLIPS)
def test_every_interval_holds_its_value(clips):
    s = scores(confusion(*split(clips)))
    for e in (s.accuracy, s.accuracy_answered, s.coverage, s.precision, s.recall, s.specificity, s.f1):
        assert math.isnan(e.value) or (0 <= e.low <= e.value <= e.high <= 1)
    b = s.balanced_accuracy
    assert math.isnan(b.value) or b.low <= b.value <= b.high


@EXAMPLES
@given(st.integers(0, 60), st.integers(1, 60))
def test_wilson_is_symmetric_in_success_and_failure(hits, more):
    a, b = proportion(hits, hits + more), proportion(more, hits + more)
    assert (a.low, a.high) == (pytest.approx(1 - b.high), pytest.approx(1 - b.low))


@EXAMPLES
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=50))
def test_mcnemar_against_the_binomial_sum(pairs):
    q = paired([a for a, _ in pairs], [b for _, b in pairs])
    one, two = pairs.count((True, False)), pairs.count((False, True))
    n = one + two
    tail = sum(Fraction(math.comb(n, k), 2**n) for k in range(min(one, two) + 1))
    assert (q.only_first, q.only_second, q.n) == (one, two, len(pairs))
    assert q.p == pytest.approx(float(min(2 * tail, Fraction(1))))


@EXAMPLES
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=2, max_size=25))
def test_auc_is_the_share_of_pairs_in_the_right_order(clips):
    positive = [p for y, p in clips if y]
    negative = [p for y, p in clips if not y]
    found = auc([y for y, _ in clips], [p for _, p in clips])
    if not positive or not negative:
        assert math.isnan(found.value)
        return
    wins = sum((a > b) + 0.5 * (a == b) for a in positive for b in negative)
    assert found.value == pytest.approx(wins / (len(positive) * len(negative)))
    assert found.low <= found.value + 1e-9 and found.value <= found.high + 1e-9


def test_auc_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    y = np.arange(60) % 2 == 0
    hits = sum(auc(y, rng.normal(size=60)).covers(0.5) for _ in range(40))
    assert hits >= 34
