"""The shipped bundle as the builder's later stages see it: models, library, and sets with features and vectors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import VideoMAEModel

from services.schema import VariantName
from training.demo.cache import features
from training.demo.harvest import WORK, Stored, harvest, opened
from training.demo.references import Neighbours
from training.demo.scoring import Loaded, loaded
from training.demo.video_mae import vectors

BUNDLE = Path("assets/demo")


@dataclass(frozen=True)
class Seen:
    """A set with the tower's features and the embedder's vectors; ``mounting`` (N,) bool."""

    stored: Stored
    features: NDArray[np.float16]
    vectors: NDArray[np.float32]
    mounting: NDArray[np.bool_]


class Bundle:
    """Paths and lazily loaded parts of the bundle in ``folder``; sets are rendered into ``work`` when missing."""

    def __init__(self, folder: Path = BUNDLE, work: Path = WORK) -> None:
        self.folder, self.work = folder, work
        self._seen: dict[str, Seen] = {}

    @property
    def base(self) -> Path:
        return self.folder / "base"

    @property
    def adapter(self) -> Path:
        return self.folder / "adapters" / "mounting"

    @cached_property
    def models(self) -> dict[VariantName, Loaded]:
        """base and tuned, float32."""
        return {"base": loaded(self.base), "tuned": loaded(self.base, self.adapter)}

    @cached_property
    def embedder(self) -> VideoMAEModel:
        return VideoMAEModel.from_pretrained(self.folder / "embedder", dtype=torch.float32).eval()

    @cached_property
    def neighbours(self) -> Neighbours:
        library = self.seen("library")
        return Neighbours(library.stored.notes, library.vectors)

    def stored(self, name: str) -> Stored:
        """The set ``name``, rendered as far as it is missing."""
        harvest([name], self.work)
        return opened(name, self.work)

    def seen(self, name: str) -> Seen:
        """The set ``name`` with everything that the shipped models make of it."""
        if name not in self._seen:
            stored = self.stored(name)
            mounting = np.array([note["facts"]["label"] == "mounting" for note in stored.notes])
            self._seen[name] = Seen(stored, features(self.base, stored), vectors(self.embedder, stored), mounting)
        return self._seen[name]
