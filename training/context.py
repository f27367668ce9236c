"""Reference cases for training: what retrieval would show, drawn without looking at the clip's own label.

Serving shows the nearest reference of each label (``contrastive``). Training shows one mounting and one normal case
too; which one, and which stands first, says nothing about the clip's label, so a tuned model cannot win by following
the context. With vectors the cases come from the clip's nearest neighbours, most similar first, as in serving;
without, both case and order are random.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from services.errors import InputError
from services.schema import LABELS, Hit, Label, digest_of
from training.data import Sample


class Cases:
    """Cases from ``references`` (labelled samples with a reason). ``vectors``: digest to L2-normalised (D,) float32;
    if given, every reference and every clip asked about needs one."""

    def __init__(
        self,
        references: Sequence[Sample],
        *,
        seed: int,
        neighbours: int = 8,
        vectors: Mapping[str, NDArray[np.float32]] | None = None,
    ) -> None:
        usable = {s.digest: s for s in references if s.label is not None and s.reason}
        self._by_label: dict[Label, list[Sample]] = {
            label: sorted((s for s in usable.values() if s.label == label), key=lambda s: s.digest) for label in LABELS
        }
        self._seed = seed
        self._neighbours = neighbours
        self._vectors = vectors
        missing = [s.title for s in usable.values() if vectors is not None and s.digest not in vectors]
        if missing:
            raise InputError(f"The vectors file has no vector for {missing[0]} ({len(missing)} missing); rebuild it.")
        self._matrix = {
            label: np.stack([vectors[s.digest] for s in found]) if vectors is not None and found else None
            for label, found in self._by_label.items()
        }

    @property
    def digest(self) -> str:
        """Of the references, their reasons and their vectors: what decides which cases are drawn and how they read."""
        known = sorted((s.digest, s.reason) for found in self._by_label.values() for s in found)
        placed = (self._vectors or {}).items()
        return digest_of([known, sorted((key, hashlib.sha256(vector.tobytes()).hexdigest()) for key, vector in placed)])

    @property
    def available(self) -> bool:
        """Whether every label has at least two references (one can be the clip itself)."""
        return all(len(found) > 1 for found in self._by_label.values())

    def draw(self, sample: Sample, epoch: int) -> tuple[Hit, ...]:
        """One case of each label, never ``sample`` itself; the same for the same seed, clip and epoch."""
        chance = random.Random(f"{self._seed}:{epoch}:{sample.digest}")
        hits = [self._case(sample, label, chance) for label in LABELS]
        if self._vectors is None:
            chance.shuffle(hits)
        else:
            hits.sort(key=lambda hit: -hit.similarity)
        return tuple(hits)

    def _case(self, sample: Sample, label: Label, chance: random.Random) -> Hit:
        found = self._by_label[label]
        matrix = self._matrix[label]
        if matrix is None or self._vectors is None:
            others = [i for i, s in enumerate(found) if s.digest != sample.digest]
            chosen, similarity = found[chance.choice(others)], 0.0
        else:
            similarities = matrix @ self._vectors[sample.digest]
            order = [i for i in np.argsort(-similarities, kind="stable") if found[i].digest != sample.digest]
            index = chance.choice(order[: self._neighbours])
            chosen, similarity = found[index], float(similarities[index])
        return Hit(chosen.digest[:16], label, similarity, chosen.reason or "", "shipped", None, None)
