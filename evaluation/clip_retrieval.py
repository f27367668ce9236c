"""What retrieval over labelled clips is worth, for each way of embedding them: each clip asks all the others.

Pure. *Behaviour* is the annotation's ``kind``. Whitening
and PCA are fitted on all clips without labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.clip_vectors import ClipVectors
from evaluation.data import Item
from evaluation.metrics import Estimate, proportion
from evaluation.ranking import decorrelated, fused, hubness, mean, measures, order
from services.errors import InputError
from services.schema import Label

COMPONENTS = 32
"""Principal components kept for whitening: with all of an embedder's, noise would weigh as much as behaviour."""
VOTERS = 5
LEAST = 12

FUSIONS: dict[str, tuple[str, ...]] = {
    "RRF: moving blocks + windows": ("moving blocks", "windows"),
    "RRF: moving blocks + tower, mean": ("moving blocks", "tower, mean"),
    "RRF: moving blocks + VLM, mean": ("moving blocks", "VLM, mean"),
    "RRF: moving blocks + text": ("moving blocks", "text"),
    "RRF: all without text": ("whole frames", "moving blocks", "windows", "tower, mean", "VLM, mean"),
}

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Worth:
    """One way's figures. ``right``: clips whose five nearest have mostly the same label (``each_right``: which);
    ``label`` and ``behaviour``: measures by name (precision@k, MRR, nDCG@10); ``alike``: share
    of the five nearest with the same light, viewpoint; ``hubness``: skewness of the 10-occurrence."""

    right: Estimate
    each_right: tuple[bool, ...]
    label: dict[str, Estimate]
    behaviour: dict[str, Estimate]
    alike: dict[str, Estimate]
    hubness: float


def require_enough(items: Sequence[Item]) -> None:
    """Raise InputError for too few clips, or clips of one label only."""
    if len(items) < LEAST or len({item.truth for item in items}) < 2:
        raise InputError(f"Retrieval between clips needs at least {LEAST} labelled clips of both labels; give more.")


def worths(found: ClipVectors, items: Sequence[Item]) -> dict[str, Worth]:
    """Figures of every way, of its PCA and whitened forms, and of the fusions. Raises InputError for too few clips."""
    require_enough(items)
    ways = joined(found.parts)
    likeness = {name: similarity(part) for name, part in ways.items()}
    for name, parts in ways.items():
        if parts.shape[1] == 1:
            likeness[f"{name}, PCA"] = _inner(decorrelated(_flat(parts), COMPONENTS, whiten=False))
            likeness[f"{name}, whitened"] = _inner(decorrelated(_flat(parts), COMPONENTS, whiten=True))
    for name, parts_of in FUSIONS.items():
        likeness[name] = fused(*(_without_itself(likeness[part]) for part in parts_of))
    return {name: worth(each, items) for name, each in likeness.items()}


def joined(parts: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """``parts`` and, of ways with several vectors a clip, one vector: *in order*, one behind the other, so that its
    cosine is the mean of those of the windows at the same place; and *averaged*."""
    found: dict[str, NDArray[np.float32]] = {}
    for name, each in parts.items():
        found[name] = each
        n, w, _ = each.shape
        if w > 1:
            found[f"{name}, in order"] = each.reshape(n, 1, -1) / np.float32(np.sqrt(w))
            mean = each.mean(1, keepdims=True)
            found[f"{name}, averaged"] = mean / np.maximum(np.linalg.norm(mean, axis=-1, keepdims=True), 1e-12)
    return found


def similarity(parts: NDArray[np.float32]) -> Floats:
    """(N, N) cosine of clips with vectors (N, W, D): the largest over pairs of their windows."""
    n, w, _ = parts.shape
    whole = parts.reshape(n * w, -1).astype(np.float64)
    return np.asarray((whole @ whole.T).reshape(n, w, n, w).max((1, 3)), np.float64)


def worth(likeness: Floats, items: Sequence[Item]) -> Worth:
    """Figures of one way: ``likeness`` (N, N) between clips."""
    ranked = order(likeness, itself=True)
    mounting = np.array([item.truth == "mounting" for item in items])
    votes = (mounting[ranked[:, :VOTERS]] == mounting[:, None]).mean(1)
    right = votes > 0.5
    return Worth(
        right=proportion(int(right.sum()), len(items)),
        each_right=tuple(bool(r) for r in right),
        label=_measured(ranked, [item.truth for item in items], (1, 5, 10)),
        behaviour=_measured(ranked, [str(item.metadata.get("kind", item.truth)) for item in items], (1, 5, 10)),
        alike={name: _shared(ranked, items, name) for name in ("light", "viewpoint")},
        hubness=hubness(ranked, len(items)),
    )


def _measured(ranked: Ints, groups: Sequence[str], cuts: Sequence[int]) -> dict[str, Estimate]:
    """Precision@k, MRR and nDCG@10 where a record of the query's own group is relevant; queries that are alone in
    their group are left out."""
    asked = [i for i, group in enumerate(groups) if list(groups).count(group) > 1]
    names = [[str(j) for j in ranked[i]] for i in asked]
    grades = [{str(j): 1 for j, g in enumerate(groups) if g == groups[i] and j != i} for i in asked]
    values = measures(names, grades, 1, cuts)
    kept = [f"precision@{k}" for k in cuts] + ["MRR", "nDCG@10"]
    return {name: mean(values[name]) for name in kept}


def _shared(ranked: Ints, items: Sequence[Item], name: str) -> Estimate:
    own = np.array([str(item.metadata.get(name)) for item in items])
    return mean((own[ranked[:, :VOTERS]] == own[:, None]).mean(1))


def by_chance(items: Sequence[Item], name: str) -> float:
    """Share of other clips that have a clip's own value of ``name`` (``label`` for the label), on average."""
    own = [item.truth if name == "label" else str(item.metadata.get(name)) for item in items]
    counts = np.array([own.count(value) for value in own])
    return float(((counts - 1) / (len(own) - 1)).mean())


@dataclass(frozen=True, slots=True)
class AsServed:
    """The shipped library asked by the clips: five-nearest accuracy, label precision@5, share with the same light."""

    references: int
    right: Estimate
    precision: Estimate
    same_light: Estimate


def as_served(
    found: ClipVectors, items: Sequence[Item], labels: Mapping[str, Label], lights: Mapping[str, str]
) -> AsServed | None:
    """What the profile's own library answers; None without one. ``labels`` and ``lights`` of references by id."""
    if not found.neighbours:
        return None
    same = np.array([
        [labels[id] == item.truth for id in near[:VOTERS]] for near, item in zip(found.neighbours, items, strict=True)
    ])  # fmt: skip
    light = np.array([
        [lights.get(id) == item.metadata.get("light") for id in near[:VOTERS]]
        for near, item in zip(found.neighbours, items, strict=True)
    ])  # fmt: skip
    right = same.mean(1) > 0.5
    return AsServed(len(labels), proportion(int(right.sum()), len(items)), mean(same.mean(1)), mean(light.mean(1)))


def _flat(parts: NDArray[np.float32]) -> Floats:
    return parts[:, 0].astype(np.float64)


def _inner(vectors: Floats) -> Floats:
    return np.asarray(vectors @ vectors.T, np.float64)


def _without_itself(likeness: Floats) -> Floats:
    """A clip is its own nearest under every way; in a fusion it would take everybody's first rank."""
    found = likeness.copy()
    np.fill_diagonal(found, -np.inf)
    return found
