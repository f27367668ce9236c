"""The shipped bundle as the builder's later stages see it: models, library, and sets with features and vectors."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from transformers import VideoMAEModel

from agent.events import Failed, Finished
from agent.graph import analyze
from agent.prompts import mounting_question
from services.embedder import Embedder
from services.errors import HerdLensError
from services.model_identity import identify
from services.model_service import ModelService
from services.schema import Hit, Provenance, Report, Request, RetrievalMode, VariantName, digest_of
from services.settings import Settings, profile
from training.demo.cache import features
from training.demo.harvest import SETS, SHARD, WORK, Stored, harvest, opened
from training.demo.references import Neighbours
from training.demo.scoring import MODES, Loaded, loaded, mounting_scores
from training.demo.video_mae import span_vectors
from training.precision import multiplied

BUNDLE = Path("assets/demo")


@dataclass(frozen=True)
class Seen:
    """A set with the tower's features and the embedder's vectors as served (N, D); ``mounting`` (N,) bool."""

    stored: Stored
    features: NDArray[np.float16]
    vectors: NDArray[np.float32]
    mounting: NDArray[np.bool_]


def reported(service: ModelService, request: Request) -> Report:
    """The report of one analysis, as the app makes it; HerdLensError where it failed."""
    for event in analyze(request, service, threading.Event()):
        if isinstance(event, Failed):
            raise HerdLensError(f"{request.path}: {event.message}")
        if isinstance(event, Finished):
            return event.report
    raise RuntimeError("the analysis ended without an event")


class Bundle:
    """Paths and lazily loaded parts of the bundle in ``folder``; sets are rendered into ``work`` when missing.

    ``scale`` below 1 shrinks every set and every training time alike, to rehearse the build; what comes out knows
    nothing."""

    def __init__(self, folder: Path = BUNDLE, work: Path = WORK, scale: float = 1.0) -> None:
        self.folder, self.work, self.scale = folder, work, scale
        self._seen: dict[str, Seen] = {}
        self._models: dict[VariantName, Loaded] = {}

    @property
    def base(self) -> Path:
        return self.folder / "base"

    @property
    def adapter(self) -> Path:
        return self.folder / "adapters" / "mounting"

    @property
    def quality_adapter(self) -> Path:
        return self.folder / "adapters" / "quality"

    def model(self, variant: VariantName) -> Loaded:
        """The base, or the base with the adapter; float32."""
        if variant not in self._models:
            self._models[variant] = loaded(self.base, self.adapter if variant == "tuned" else None)
        return self._models[variant]

    def service(self) -> ModelService:
        """The demo profile on this bundle's files; what it keeps goes to the work folder. The caller closes it."""
        changes = {
            "base_model": str(self.base),
            "adapters": (str(self.adapter), str(self.quality_adapter)),
            **{part: str(self.folder / part) for part in ("embedder", "library")},
            "calibration": str(self.folder / "calibration.json"),
        }
        return ModelService(Settings(data=self.work / "data"), profile("demo").model_copy(update=changes))

    @cached_property
    def embedder(self) -> VideoMAEModel:
        return VideoMAEModel.from_pretrained(self.folder / "embedder", dtype=torch.float32).eval()

    @cached_property
    def provenance(self) -> Provenance:
        """What the served vectors are made by."""
        return Embedder(self.folder / "embedder").provenance

    def vectors(self, stored: Stored) -> NDArray[np.float32]:
        """(N, D) the vectors of a set as served, kept beside it under the digest of what makes them."""
        path = stored.folder / f"vectors-{digest_of([dataclasses.asdict(self.provenance), len(stored)])[:16]}.npy"
        if not path.exists():
            found = span_vectors(self.embedder, (stored.dense(row) for row in range(len(stored))), len(stored))
            with path.with_suffix(".part").open("wb") as part:
                np.save(part, found)
            path.with_suffix(".part").replace(path)
        kept: NDArray[np.float32] = np.load(path)
        return kept

    @cached_property
    def neighbours(self) -> Neighbours:
        library = self.seen("library")
        return Neighbours(library.stored.notes, library.vectors)

    def shown(self, name: str) -> dict[RetrievalMode, list[tuple[Hit, ...]]]:
        """The cases that retrieval shows for each clip of a set, per mode."""
        queries = self.seen(name).vectors
        return {mode: self.neighbours.shown(queries, mode) for mode in MODES}

    def votes(self, name: str) -> NDArray[np.float64]:
        """The neighbours' vote for each clip of a set, with the profile's k."""
        return self.neighbours.votes(self.seen(name).vectors, profile("demo").neighbours)

    def scores(self, variant: VariantName, name: str) -> dict[RetrievalMode, NDArray[np.float32]]:
        """Per mode (N, 2) scores of a set, kept in the work folder under the digests of all that they depend on: the
        weights, the clips' vectors, what the tower multiplies in, and the questions, which hold prompt, cases and their
        order."""
        seen = self.seen(name)
        shown = self.shown(name)
        asked = [[mounting_question(mode, hits) for hits in shown[mode]] for mode in MODES]
        made_of = [identify(self.base).weights, digest_of(self.provenance), name, digest_of(asked), multiplied()]
        if variant == "tuned":
            made_of.append(hashlib.sha256((self.adapter / "adapter_model.safetensors").read_bytes()).hexdigest())
        path = self.work / "scores" / f"{name}-{variant}-{digest_of(made_of)[:16]}.safetensors"
        if not path.exists():
            found = mounting_scores(self.model(variant), seen.stored.notes, seen.features, shown)
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            save_file({str(mode): value for mode, value in found.items()}, part)
            part.replace(path)
        kept = load_file(path)
        return {mode: kept[mode] for mode in MODES}

    def render(self, names: Sequence[str]) -> None:
        """Render what is missing of these sets."""
        for name in names if self.scale < 1 else ():
            harvest([name], self.work, limit=self.count(SETS[name].clips))
        if self.scale >= 1:
            harvest(list(names), self.work)

    def count(self, clips: int) -> int:
        """``clips``, or as few of them as this rehearsal takes."""
        return clips if self.scale >= 1 else max(2 * SHARD, int(clips * self.scale))

    def stored(self, name: str, limit: int | None = None) -> Stored:
        """The set ``name``, or its first ``limit`` clips, rendered as far as it is missing."""
        if limit is None:
            self.render([name])
            return opened(name, self.work)
        harvest([name], self.work, limit=self.count(limit))
        return opened(name, self.work, self.count(limit))

    def seen(self, name: str) -> Seen:
        """The set ``name`` with everything that the shipped models make of it."""
        if name not in self._seen:
            stored = self.stored(name)
            mounting = np.array([note["facts"]["label"] == "mounting" for note in stored.notes])
            self._seen[name] = Seen(stored, features(self.base, stored), self.vectors(stored), mounting)
        return self._seen[name]
