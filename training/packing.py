"""Several questions about one clip as one sequence: what they share is computed once.

All questions about a clip begin with the same tokens (the video and the task), answers with and without a reason
share their question too. ``pack`` lays the branches into one sequence in which every token attends to its own
branch's earlier tokens only. Position and attention are those of separate sequences, so hidden states and losses are
the same; a clip asked in four ways costs little more than one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Branch:
    """One question with its answer. ``ids``: (L,) tokens; ``start``: index of the answer's first token, the answer
    runs to the end, terminator included. ``weight`` of the answer's mean loss; ``name`` says what it is."""

    ids: Ints
    start: int
    weight: float
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """``ids``: (L,) tokens; ``depth``: (L,) position of each within its own branch; ``mask``: (L, L) bool, row may
    look at column; ``paths``: the places of each branch's tokens in order. Loss terms, one for each answer token:
    ``source`` (N,) the place whose hidden state predicts it, ``target`` (N,) the token, ``weight`` (N,), ``branch``
    (N,) which branch it belongs to."""

    ids: Ints
    depth: Ints
    mask: NDArray[np.bool_]
    paths: tuple[Ints, ...]
    source: Ints
    target: Ints
    weight: NDArray[np.float32]
    branch: Ints
    branches: tuple[Branch, ...]


def pack(branches: Sequence[Branch]) -> Packed:
    """Lay ``branches`` into one sequence, sharing every common beginning."""
    paths: list[Ints] = []
    spans: list[tuple[Ints, int, int]] = []  # path of the new tokens' ancestors, first new place, end
    ids: list[Ints] = []
    length = 0
    for branch in branches:
        shared, ancestors = 0, np.empty(0, np.int64)
        for path, other in zip(paths, branches, strict=False):
            common = _common(branch.ids, other.ids)
            if common > shared:
                shared, ancestors = common, path[:common]
        new = np.arange(length, length + len(branch.ids) - shared)
        paths.append(np.concatenate([ancestors, new]))
        spans.append((ancestors, length, length + len(new)))
        ids.append(branch.ids[shared:])
        length += len(new)

    mask = np.zeros((length, length), np.bool_)
    depth = np.empty(length, np.int64)
    for ancestors, first, end in spans:
        mask[first:end, ancestors] = True
        mask[first:end, first:end] = np.tri(end - first, dtype=np.bool_)
        depth[first:end] = np.arange(len(ancestors), len(ancestors) + end - first)

    sizes = [len(branch.ids) - branch.start for branch in branches]
    return Packed(
        ids=np.concatenate(ids),
        depth=depth,
        mask=mask,
        paths=tuple(paths),
        source=np.concatenate([path[b.start - 1 : -1] for path, b in zip(paths, branches, strict=True)]),
        target=np.concatenate([b.ids[b.start :] for b in branches]),
        weight=np.concatenate(
            [np.full(size, b.weight / size, np.float32) for size, b in zip(sizes, branches, strict=True)]
        ),
        branch=np.repeat(np.arange(len(branches)), sizes),
        branches=tuple(branches),
    )


def _common(a: Ints, b: Ints) -> int:
    """Length of the common beginning."""
    size = min(len(a), len(b))
    differ = np.flatnonzero(a[:size] != b[:size])
    return int(differ[0]) if len(differ) else size
