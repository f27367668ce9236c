"""What is trained on: samples, how they are read, and how they are split.

A ``Sample`` is one clip with what is said about it. With a ``label`` it belongs to the mounting task: its question
and target are made by ``agent.prompts`` and ``services.dialog``. Without one its conversation is trained as written.
The pictures come from a file or from a callable, so that rendered clips need no files.
"""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.annotations import Turn, read
from services.errors import AnnotationError
from services.schema import Frames, Label

if TYPE_CHECKING:
    from training.features import ClipFeatures


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """``digest`` identifies the clip's content (SHA-256 of the file, or of what it was rendered from): it keys the
    feature cache and the split. One of ``path``, ``frames`` and ``features`` says what is seen: a
    file, pictures as sampled by the run's contract, or what the base's vision tower made of them."""

    digest: str
    path: Path | None = None
    frames: Callable[[], Frames] | None = None
    features: Callable[[], ClipFeatures] | None = None
    label: Label | None = None
    reason: str | None = None
    conversations: tuple[Turn, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return self.path.name if self.path is not None else self.digest[:12]


def from_annotations(file: Path, media_root: Path | None = None) -> list[Sample]:
    """Samples of an annotation file (services.annotations); AnnotationError lists all problems of all entries."""
    entries = read(file, media_root)
    problems: list[str] = []
    samples: list[Sample] = []
    for entry in entries:
        if entry.video is None:
            problems.append(
                f"entry {entry.index + 1}: holds {len(entry.media)} files ({', '.join(sorted(set(entry.kinds)))}); "
                "fine-tuning takes entries about one video; remove it or split it"
            )
            continue
        samples.append(
            Sample(
                digest=file_digest(entry.video),
                path=entry.video,
                label=entry.label,
                reason=entry.reason or None,
                conversations=entry.conversations,
                metadata=entry.metadata,
            )
        )
    problems += conflicts(samples)
    if problems:
        raise AnnotationError(f"{file.name} cannot be trained on ({len(problems)} problems).", tuple(problems))
    return samples


def conflicts(samples: Sequence[Sample]) -> list[str]:
    """Sentences about labels: one clip with both, or a mounting set with one label only."""
    labels: dict[str, set[Label]] = defaultdict(set)
    titles: dict[str, list[str]] = defaultdict(list)
    for sample in samples:
        if sample.label is not None:
            labels[sample.digest].add(sample.label)
            titles[sample.digest].append(sample.title)
    problems = [
        f"{' and '.join(sorted(set(titles[digest])))}: the same clip is labelled both mounting and normal; keep one"
        for digest, found in labels.items()
        if len(found) > 1
    ]
    present = {sample.label for sample in samples if sample.label is not None}
    if len(present) == 1:
        problems.append(f"all labelled clips are {present.pop()!r}; add clips of the other label")
    if not samples:
        problems.append("there is nothing to train on; add entries")
    return problems


def file_digest(path: Path) -> str:
    """SHA-256 of the file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def split(samples: Sequence[Sample], share: float, seed: int) -> tuple[list[Sample], list[Sample]]:
    """(training, validation): by clip, so that no content lies on both sides; stratified by label and task; the same
    for the same samples in any order. Each stratum of two or more clips gives at least one clip to validation."""
    if share <= 0.0:
        return list(samples), []
    strata: dict[str, set[str]] = defaultdict(set)
    stratum_of: dict[str, str] = {}
    for sample in samples:
        key = sample.label or str(sample.metadata.get("task", "other"))
        stratum_of[sample.digest] = min(stratum_of.get(sample.digest, key), key)
    for digest, key in stratum_of.items():
        strata[key].add(digest)
    held: set[str] = set()
    for key, digests in sorted(strata.items()):
        ordered = sorted(digests)
        random.Random(f"{seed}:{key}").shuffle(ordered)
        count = round(len(ordered) * share)
        held.update(ordered[: max(count, 1) if len(ordered) > 1 else count])
    return [s for s in samples if s.digest not in held], [s for s in samples if s.digest in held]
