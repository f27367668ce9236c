"""Stage ``library``: the shipped reference library, and what retrieval shows for a clip of another set."""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.library import Reference, create_shipped
from services.schema import LABELS, Hit, Provenance, RetrievalMode
from training.demo import tower
from training.demo.harvest import Stored


def reason_of(note: dict[str, Any]) -> str:
    """The annotation's reason without its answer line."""
    value: str = note["annotation"]["conversations"][1]["value"]
    return value.split("Reason: ", 1)[1]


def thumbnail(note: dict[str, Any], patches: NDArray[np.uint8]) -> bytes:
    """JPEG of the frame in the middle of the act."""
    start, end = note["facts"]["act"]
    index = int(np.abs(np.asarray(note["times_s"]) - (start + end) / 2).argmin())
    buffer = io.BytesIO()
    Image.fromarray(tower.pictures(patches)[index]).save(buffer, "JPEG", quality=72)
    return buffer.getvalue()


def identity(note: dict[str, Any]) -> str:
    """The reference's id, the same in library and evaluation."""
    return f"demo-{note['seed']}"


def build(stored: Stored, vectors: NDArray[np.float32], provenance: Provenance, folder: Path) -> None:
    """Write the library anew; every clip of the set becomes a reference."""
    shutil.rmtree(folder, ignore_errors=True)
    references = []
    for row, note in enumerate(stored.notes):
        clip = (stored.folder / "clips" / f"{note['seed']}.mp4").read_bytes()
        facts = note["facts"]
        references.append(
            Reference(
                id=identity(note),
                label=facts["label"],
                description=reason_of(note),
                clip_sha256=hashlib.sha256(clip).hexdigest(),
                vector=vectors[row],
                origin="shipped",
                thumbnail=thumbnail(note, np.asarray(stored.patches[row])),
                metadata={key: facts[key] for key in ("kind", "light", "view", "animals", "difficulty")},
            )
        )
    create_shipped(folder, references, provenance)


class Neighbours:
    """Retrieval as ``services.library`` does it, for many queries at once."""

    def __init__(self, notes: Sequence[dict[str, Any]], vectors: NDArray[np.float32]) -> None:
        self.notes, self.vectors = notes, vectors
        self.labels = np.array([note["facts"]["label"] == "mounting" for note in notes])

    def _hit(self, row: int, similarity: float) -> Hit:
        note = self.notes[row]
        label = LABELS[0] if self.labels[row] else LABELS[1]
        return Hit(identity(note), label, similarity, reason_of(note), "shipped")

    def shown(self, queries: NDArray[np.float32], mode: RetrievalMode) -> list[tuple[Hit, ...]]:
        """The cases that the model reads, most similar first."""
        out: list[tuple[Hit, ...]] = []
        for similar in queries @ self.vectors.T:
            if mode == "off":
                out.append(())
            elif mode == "nearest":
                row = int(similar.argmax())
                out.append((self._hit(row, float(similar[row])),))
            else:
                rows = [int(np.where(self.labels == flag, similar, -np.inf).argmax()) for flag in (True, False)]
                rows.sort(key=lambda row: -similar[row])
                out.append(tuple(self._hit(row, float(similar[row])) for row in rows))
        return out

    def votes(self, queries: NDArray[np.float32], k: int) -> NDArray[np.float64]:
        """(N,) similarity-weighted share of mounting among the k nearest."""
        out = []
        for similar in queries @ self.vectors.T:
            nearest = np.argsort(-similar, kind="stable")[:k]
            weights = np.maximum(similar[nearest], 0)
            out.append(float((weights * self.labels[nearest]).sum() / max(weights.sum(), 1e-9)))
        return np.asarray(out)
