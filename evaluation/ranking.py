"""How good a ranking is. Pure.

A query's records have grades (0: nothing to do with it). Records from a stated grade on are *relevant*:

- hit@k: whether one of the first k is relevant
- precision@k, recall@k: relevant ones among the first k, as a share of k, and of all relevant ones (R-recall)
- MRR: 1 / rank of the first relevant one, 0 where none is ranked
- nDCG@k: sum of (2^grade - 1) / log2(rank + 1) over the first k, as a share of the best possible; uses all grades

hit@1 lies between 2·MRR - 1 and MRR, so an MRR of .906 means a hit@1 of at least .812: the fourth source's "Top-1
24.9 %, MRR 90.6 %" cannot be a hit rate. It is what recall@1 over about four relevant records gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap, skew

from evaluation.metrics import NOTHING, RESAMPLES, Estimate, proportion

CUTS = (1, 3, 5, 10)
RRF_K = 60
"""Constant of reciprocal rank fusion (the second source's; Cormack, Clarke and Büttcher, 2009)."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def measures(
    ranked: Sequence[Sequence[str]], grades: Sequence[Mapping[str, int]], threshold: int, cuts: Sequence[int] = CUTS
) -> dict[str, Floats]:
    """Values per query, (Q,) each: ``hit@k``, ``precision@k``, ``recall@k``, ``nDCG@k`` and ``MRR``. ``ranked``: ids,
    best first; ``grades``: of each query's records, missing ones are 0. Every query needs a relevant record."""
    rows = [
        _measures([g.get(id, 0) for id in ids], list(g.values()), threshold, cuts)
        for ids, g in zip(ranked, grades, strict=True)
    ]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]} if rows else {}


def _measures(found: Sequence[int], known: Sequence[int], threshold: int, cuts: Sequence[int]) -> dict[str, float]:
    relevant = sum(grade >= threshold for grade in known)
    if not relevant:
        raise ValueError("a query without a relevant record has no recall")
    good = np.array([grade >= threshold for grade in found], bool)
    best = np.sort(np.array(known))[::-1]
    values: dict[str, float] = {}
    for k in cuts:
        hits = int(good[:k].sum())
        values[f"hit@{k}"] = float(hits > 0)
        values[f"precision@{k}"] = hits / k
        values[f"recall@{k}"] = hits / relevant
        values[f"nDCG@{k}"] = _gain(found[:k]) / _gain(best[:k].tolist())
    values["MRR"] = 1.0 / (int(good.argmax()) + 1) if good.any() else 0.0
    return values


def _gain(grades: Sequence[int]) -> float:
    ranks = np.arange(1, len(grades) + 1)
    return float(((2.0 ** np.array(grades, float) - 1) / np.log2(ranks + 1)).sum())


def mean(values: Floats) -> Estimate:
    """Mean of values from 0 to 1 over queries with a 95 % interval: Wilson's where they are all 0 or 1, else a
    percentile bootstrap over queries with a fixed seed."""
    n = len(values)
    if n == 0:
        return NOTHING
    value = float(values.mean())
    if np.isin(values, (0.0, 1.0)).all():
        return proportion(round(value * n), n)
    if n < 2 or np.ptp(values) == 0:
        return Estimate(value, 0.0 if n < 2 else value, 1.0 if n < 2 else value, n=n)
    interval = bootstrap(
        (values,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=0, batch=100
    ).confidence_interval
    return Estimate(value, float(interval.low), float(interval.high), n=n)


def order(similarities: Floats, *, itself: bool = False) -> Ints:
    """(Q, R) places of the records from most to least similar, equal ones in their order. ``itself``: query i is
    record i, which is left out: (Q, R - 1)."""
    ranked = np.argsort(-similarities, axis=1, kind="stable")
    if not itself:
        return ranked
    kept = ranked != np.arange(len(ranked))[:, None]
    return ranked[kept].reshape(len(ranked), -1)


def fused(*similarities: Floats) -> Floats:
    """(Q, R) reciprocal rank fusion of several similarities of the same queries and records: the sum of
    1 / (60 + rank), rank from 0."""
    total = np.zeros_like(similarities[0])
    for each in similarities:
        ranks = np.empty(each.shape, np.int64)
        np.put_along_axis(ranks, order(each), np.arange(each.shape[1])[None], axis=1)
        total += 1.0 / (RRF_K + ranks)
    return total


def hubness(ranked: Ints, records: int, k: int = 10) -> float:
    """Skewness of the k-occurrence: how often each of ``records`` is among the k nearest of a query. 0: all alike;
    from about 1 on a few hubs stand near everything (Radovanović et al., 2010)."""
    counts = np.bincount(ranked[:, :k].ravel(), minlength=records)
    return float(skew(counts)) if np.ptp(counts) else 0.0


def decorrelated(vectors: Floats, components: int, *, whiten: bool) -> Floats:
    """(N, D) to (N, components): centred, principal components, scaled to equal variance with ``whiten``, and to
    length 1. Fewer components where there are fewer vectors. Uses no labels."""
    centred = vectors - vectors.mean(0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    kept = max(1, min(components, int((s > s[0] * 1e-6).sum()))) if s[0] > 0 else 1
    projected = u[:, :kept] if whiten else u[:, :kept] * s[:kept]
    return projected / np.maximum(np.linalg.norm(projected, axis=1, keepdims=True), 1e-12)
