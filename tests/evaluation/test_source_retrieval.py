"""The bounds on the fourth source's figures, against rankings drawn at random."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.ranking import measures
from evaluation.source_retrieval import highest_mrr, lines, relevant_records


def test_the_published_top_k_are_no_hit_rates():
    rows = [line.split(" | ") for line in lines() if "image |" in line or "hybrid |" in line]
    assert len(rows) == 2
    for row in rows:
        assert float(row[6]) > float(row[7])  # the published MRR is above what hit rates allow


@pytest.mark.parametrize("seed", range(20))
def test_no_ranking_breaks_the_bounds(seed):
    rng = np.random.default_rng(seed)
    relevant = int(rng.integers(1, 5))
    ids = [str(i) for i in range(30)]
    ranked = [[str(i) for i in rng.permutation(30)] for _ in range(40)]
    grades = [dict.fromkeys(rng.choice(ids, relevant, replace=False), 4) for _ in ranked]
    found = {name: values.mean() for name, values in measures(ranked, grades, 4).items()}
    assert found["MRR"] <= highest_mrr({k: found[f"hit@{k}"] for k in (1, 3, 5, 10)}) + 1e-9
    if found["recall@1"]:
        fewest, most = relevant_records(found["recall@1"], found["MRR"])
        assert fewest - 1e-9 <= relevant <= most + 1e-9


def test_the_highest_mrr_is_reached_by_the_best_ranks():
    # Of four queries one each has its first relevant record at ranks 1, 2, 4 and 11.
    assert highest_mrr({1: 0.25, 3: 0.5, 5: 0.75, 10: 0.75}) == pytest.approx((1 + 1 / 2 + 1 / 4 + 1 / 11) / 4)
