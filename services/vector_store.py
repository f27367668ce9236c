"""A large store of vectors: built once, reopened by mapping its file, searched exactly.

A folder with ``vectors.npy`` ((N, D) float32, rows of length 1), ``ids.npy`` and ``store.json`` (provenance, how many
records of which modality, digests). It knows what its vectors are: other weights or another preprocessing are refused;
a query pooled another way, or of a modality that no record has, is answered with a warning that names the mismatch,
because such a query lies in another region of the space and its nearest records mean little.

Not for labelled clips, which change one by one (``library``); this is for records that are embedded in one go.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from services.errors import InputError, MismatchError, ModelError, ResourceError
from services.schema import Provenance

BLOCK = 32768
"""Records that are compared at a time: the scores of 64 queries against them take 8 MB."""
LENGTH_TOLERANCE = 1e-3
_FLOAT32 = np.dtype(np.float32)


@dataclass(frozen=True, slots=True)
class Found:
    """Answers of a search. ``ids`` and ``similarities`` (cosine): one list of at most k for each query, best first,
    equal ones in the order of the records. ``warnings``: whole sentences; empty when query and records are alike."""

    ids: tuple[tuple[str, ...], ...]
    similarities: tuple[tuple[float, ...], ...]
    warnings: tuple[str, ...] = ()


class VectorStore:
    """An opened store; ``vectors`` is mapped from disk unless ``open`` was told to load it. Thread-safe."""

    def __init__(
        self, vectors: NDArray[np.float32], ids: NDArray[Any], provenance: Provenance, modalities: dict[str, int]
    ) -> None:
        self.vectors = vectors
        self.ids = ids
        self.provenance = provenance
        self.modalities = modalities

    def __len__(self) -> int:
        return int(self.vectors.shape[0])

    @property
    def dimension(self) -> int:
        return int(self.vectors.shape[1])

    @classmethod
    def create(
        cls,
        folder: Path,
        vectors: NDArray[np.float32],
        ids: Sequence[str],
        modalities: Sequence[str],
        provenance: Provenance,
    ) -> VectorStore:
        """Write a store, whole or not at all, and open it. ``vectors`` (N, D) with rows of length 1; ``modalities``
        one for each record. Raises InputError for what does not fit together, ModelError for a bad vector."""
        _require_sense(folder, vectors, ids, modalities)
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            np.save(part / "vectors.npy", np.ascontiguousarray(vectors, np.float32), allow_pickle=False)
            np.save(part / "ids.npy", np.asarray(ids, np.str_), allow_pickle=False)
            about = {
                "provenance": provenance.to_json(),
                "modalities": dict(sorted(Counter(modalities).items())),
                "digests": {name: _digest(part / name) for name in ("vectors.npy", "ids.npy")},
            }
            (part / "store.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
            part.chmod(0o755)
            os.replace(part, folder)
        except OSError as error:
            raise ResourceError(
                f"The store {folder} could not be written ({error.strerror}); make room or choose another."
            ) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path, *, load: bool = False, check: bool = False) -> VectorStore:
        """Map the store in ``folder``; ``load`` reads it into memory instead, ``check`` compares its digests first.
        Raises ResourceError when files are missing, damaged or of another shape."""
        try:
            about = json.loads((folder / "store.json").read_text(encoding="utf-8"))
            vectors = np.load(folder / "vectors.npy", mmap_mode=None if load else "r", allow_pickle=False)
            ids = np.load(folder / "ids.npy", allow_pickle=False)
            provenance = Provenance(**about["provenance"])
            modalities = {str(name): int(count) for name, count in about["modalities"].items()}
            damaged = [name for name, d in about["digests"].items() if check and _digest(folder / name) != d]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ResourceError(f"{folder} holds no readable store of vectors; build it again.") from error
        if damaged or vectors.ndim != 2 or vectors.dtype != _FLOAT32 or len(ids) != len(vectors):
            raise ResourceError(f"The store {folder} is damaged ({', '.join(damaged) or 'shapes'}); build it again.")
        return cls(vectors, ids, provenance, modalities)

    def search(self, queries: ArrayLike, k: int, *, provenance: Provenance, modalities: Sequence[str] = ()) -> Found:
        """The ``k`` most similar records of each of ``queries`` (Q, D), exact. ``provenance``: of the queries;
        ``modalities``: theirs, each named once is enough. Raises MismatchError when they cannot be compared."""
        given = np.atleast_2d(np.asarray(queries, np.float32))
        self._require_comparable(given, provenance)
        if k < 1:
            raise InputError(f"A search needs k of at least 1, not {k}.")
        if not np.isfinite(given).all() or (np.linalg.norm(given, axis=1) < LENGTH_TOLERANCE).any():
            raise ModelError("A query has no direction (zero or not finite); embed it again.")
        given = given / np.linalg.norm(given, axis=1, keepdims=True)
        scores, places = _best(self.vectors, given, min(k, len(self)))
        return Found(
            ids=tuple(tuple(str(i) for i in self.ids[row]) for row in places),
            similarities=tuple(tuple(float(s) for s in row) for row in scores),
            warnings=self.warnings(provenance, modalities),
        )

    def warnings(self, provenance: Provenance, modalities: Sequence[str]) -> tuple[str, ...]:
        """What differs between these queries and the records; each sentence names both sides."""
        found = []
        if provenance.pooling != self.provenance.pooling:
            found.append(
                f"The records were pooled by {self.provenance.pooling!r}, the query by {provenance.pooling!r}: the "
                "two lie in different regions of the space; embed the query as the records were."
            )
        kinds = " and ".join(self.modalities)
        found += [
            f"The records are {kinds}, the query is {kind}: what is nearest may only look alike, or be nobody's "
            f"answer; ask with {kinds}."
            for kind in dict.fromkeys(modalities)
            if kind not in self.modalities
        ]
        return tuple(found)

    def _require_comparable(self, queries: NDArray[np.float32], theirs: Provenance) -> None:
        ours = self.provenance
        if queries.ndim != 2 or queries.shape[1] != self.dimension:
            raise MismatchError(
                f"The query has {queries.shape[-1]} numbers and the records {self.dimension}; embed it with the same "
                "model and dimension."
            )
        for what in ("model", "weights", "preprocessing"):
            one, other = getattr(theirs, what), getattr(ours, what)
            if one != other:
                raise MismatchError(
                    f"The query was embedded with {what} {one[:40]!r}, the records with {other[:40]!r}; embed one of "
                    "them again."
                )


def _best(
    vectors: NDArray[np.float32], queries: NDArray[np.float32], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """((Q, k) similarities descending, (Q, k) places): the best so far and those of the next block, merged. Of equal
    ones the earlier record comes first."""
    scores = np.full((len(queries), 0), -np.inf, np.float32)
    places = np.zeros((len(queries), 0), np.int64)
    for first, block in _blocks(vectors):
        new = queries @ block.T
        taken = _largest(new, k)
        scores = np.concatenate([scores, np.take_along_axis(new, taken, 1)], 1)
        places = np.concatenate([places, taken + first], 1)
        kept = np.lexsort((places, -scores), axis=1)[:, :k]
        scores, places = np.take_along_axis(scores, kept, 1), np.take_along_axis(places, kept, 1)
    return scores, places


def _blocks(vectors: NDArray[np.float32]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    for first in range(0, len(vectors), BLOCK):
        yield first, vectors[first : first + BLOCK]


def _largest(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """(Q, at most k) places of the largest scores of each row (Q, N); at the edge, of equal ones the earlier."""
    if scores.shape[1] <= k:
        return np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    edge = -np.partition(-scores, k - 1, axis=1)[:, k - 1]
    rows = []
    for row, least in zip(scores, edge, strict=True):
        above, equal = np.flatnonzero(row > least), np.flatnonzero(row == least)
        rows.append(np.concatenate([above, equal[: k - len(above)]]))
    return np.stack(rows)


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _require_sense(folder: Path, vectors: NDArray[np.float32], ids: Sequence[str], modalities: Sequence[str]) -> None:
    if vectors.ndim != 2 or not len(vectors) or not len(vectors) == len(ids) == len(modalities):
        raise InputError(
            f"A store needs one vector, id and modality for each record, not {vectors.shape[:1]}, {len(ids)} and "
            f"{len(modalities)}."
        )
    if len(set(ids)) < len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise InputError(f"Two records are called {twice!r}; give each its own id.")
    if folder.exists():
        raise InputError(f"{folder} exists already; choose another folder or remove it.")
    for first, block in _blocks(np.asarray(vectors)):
        lengths = np.linalg.norm(block, axis=1)
        wrong = np.flatnonzero(~(np.abs(lengths - 1) < LENGTH_TOLERANCE))
        if len(wrong):
            raise ModelError(
                f"Record {ids[first + int(wrong[0])]!r} has a vector of length {lengths[wrong[0]]:.3g} where 1 is "
                "needed; embed it again."
            )
