"""Ranking measures against scikit-learn, by hand, and by what must not matter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from evaluation.ranking import CUTS, decorrelated, fused, hubness, mean, measures, order

EXAMPLES = settings(max_examples=40, deadline=None)


def test_a_small_case_by_hand():
    grades = {"a": 4, "b": 3, "c": 1, "d": 3}
    found = measures([["c", "b", "x", "a", "y", "d"]], [grades], 3, (1, 3, 5))
    assert {name: values[0] for name, values in found.items() if "nDCG" not in name} == pytest.approx({
        "hit@1": 0, "hit@3": 1, "hit@5": 1,
        "precision@1": 0, "precision@3": 1 / 3, "precision@5": 2 / 5,
        "recall@1": 0, "recall@3": 1 / 3, "recall@5": 2 / 3, "MRR": 1 / 2,
    })  # fmt: skip
    best = 15 + 7 / np.log2(3) + 7 / 2
    assert found["nDCG@3"][0] == pytest.approx((1 + 7 / np.log2(3)) / best)


def test_the_sources_top_1_and_mrr_go_together_as_recall_over_four_records_only():
    first_is_right = measures([["a", "x", "b"]], [dict.fromkeys("abcd", 4)], 3)
    assert first_is_right["recall@1"][0] == 0.25 and first_is_right["MRR"][0] == 1 == first_is_right["hit@1"][0]


@EXAMPLES
@given(st.lists(st.integers(0, 4), min_size=2, max_size=20).filter(any), st.sampled_from(CUTS), st.randoms())
def test_ndcg_is_that_of_scikit_learn(grades, k, random):
    ids = [f"r{i}" for i in range(len(grades))]
    ranked = list(ids)
    random.shuffle(ranked)
    found = measures([ranked], [dict(zip(ids, grades, strict=True))], max(grades))[f"nDCG@{k}"][0]
    gains = np.array([[2.0**grade - 1 for grade in grades]])
    scores = np.array([[-ranked.index(id) for id in ids]], float)
    assert found == pytest.approx(ndcg_score(gains, scores, k=k))


def test_a_query_without_relevant_records_is_no_query():
    with pytest.raises(ValueError, match="relevant"):
        measures([["a"]], [{"a": 1}], 3)


def test_intervals_hold_the_mean_and_shrink():
    rng = np.random.default_rng(0)
    few, many = mean(rng.random(20)), mean(rng.random(2000))
    assert few.low < few.value < few.high and many.high - many.low < (few.high - few.low) / 4
    sure = mean(np.ones(50))
    assert sure.value == 1 and 0.9 < sure.low < 1


def test_nobody_is_its_own_neighbour_and_ties_keep_their_order():
    similarities = np.ones((4, 4))
    assert order(similarities, itself=True).tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]
    assert order(similarities[:1]).tolist() == [[0, 1, 2, 3]]


def test_fusion_sums_reciprocal_ranks():
    found = fused(np.array([[0.9, 0.5, 0.1]]), np.array([[0.1, 0.5, 0.9]]))
    assert found[0] == pytest.approx([1 / 60 + 1 / 62, 2 / 61, 1 / 60 + 1 / 62])


def test_a_hub_shows_and_whitening_removes_a_direction_that_all_share():
    rng = np.random.default_rng(1)
    alike = np.stack([np.roll(np.arange(20), -i)[1:6] for i in range(20)])
    assert hubness(alike, 20, k=5) == 0
    hub = alike.copy()
    hub[1:, 0] = 0
    assert hubness(hub, 20, k=5) > 2
    vectors = rng.standard_normal((200, 16)) * np.array([30.0] + [1.0] * 15) + 5
    white = decorrelated(vectors, 16, whiten=True)
    assert np.linalg.norm(white, axis=1) == pytest.approx(1)
    assert np.abs(white[:, 0]).mean() < 2 * np.abs(white[:, 1]).mean()
    plain = decorrelated(vectors, 8, whiten=False)
    assert plain.shape == (200, 8) and np.abs(plain[:, 0]).mean() > 3 * np.abs(plain[:, 1]).mean()
