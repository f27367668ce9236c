"""What is trained on: samples, how they are read, and how they are split.

A ``Sample`` is one conversation about one or more media. With a ``label`` it belongs to the mounting task: its question
and target are made by ``agent.prompts`` and ``services.dialog``. Without one its conversation is trained as written.
Pictures come from a file or from a callable, so that rendered clips need no files.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.annotations import Entry, MediaKind, Turn, parse
from services.errors import AnnotationError
from services.schema import Frames, Label, digest_of
from training.formats import load

if TYPE_CHECKING:
    from training.features import ClipFeatures

_MARK = re.compile(r"<\|[a-z_]+\|>")
"""Marks of the chat template, like ``<|im_end|>``: as text they would end turns or stand for pictures."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Medium:
    """One clip or image. ``digest`` identifies its content (SHA-256 of the file, or of what it was rendered from): it
    keys the feature cache and the split. One of ``path``, ``frames`` and ``features`` says what is seen: a file,
    pictures as sampled by the run's contract (an image: one), or what the base's vision tower made of them."""

    digest: str
    kind: MediaKind = "video"
    path: Path | None = None
    frames: Callable[[], Frames] | None = None
    features: Callable[[], ClipFeatures] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """``media`` in the order of their tags; for a conversation about one clip ``path``, ``frames`` or ``features`` may
    be given instead, as of ``Medium``. ``digest`` identifies all media together. ``entry``: its number
    in the file, from 1."""

    digest: str
    path: Path | None = None
    frames: Callable[[], Frames] | None = None
    features: Callable[[], ClipFeatures] | None = None
    media: tuple[Medium, ...] = ()
    label: Label | None = None
    reason: str | None = None
    conversations: tuple[Turn, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    entry: int | None = None

    def __post_init__(self) -> None:
        if not self.media:
            clip = Medium(digest=self.digest, path=self.path, frames=self.frames, features=self.features)
            object.__setattr__(self, "media", (clip,))

    @property
    def title(self) -> str:
        """What a person knows it by: entry number and file names."""
        names = list(dict.fromkeys(medium.path.name for medium in self.media if medium.path is not None))
        known = ", ".join(names[:3]) + (", …" if len(names) > 3 else "") if names else self.digest[:12]
        return known if self.entry is None else f"entry {self.entry} ({known})"

    @property
    def stratum(self) -> str:
        """What the split keeps in proportion: the label, that of other tasks from the metadata, else the task."""
        return str(self.label or self.metadata.get("label") or self.metadata.get("task") or "other")


def from_annotations(file: Path, media_root: Path | None = None) -> list[Sample]:
    """Samples of a data file (training.formats); AnnotationError lists all problems of all entries."""
    samples, problems = collect(file, media_root)
    if problems:
        raise AnnotationError(f"{file.name} cannot be trained on ({len(problems)} problems).", tuple(problems))
    return samples


def collect(file: Path, media_root: Path | None = None) -> tuple[list[Sample], list[str]]:
    """The usable samples of a data file, and every problem that shows without opening the media. AnnotationError when
    the file as a whole cannot be read."""
    entries, problems = parse(load(file), file.parent, media_root)
    digest = cache(file_digest)
    samples = []
    for entry in entries:
        problems += _marks(entry)
        pairs = zip(entry.media, entry.kinds, strict=True)
        try:
            media = tuple(Medium(digest=digest(path), kind=kind, path=path) for path, kind in pairs)
        except OSError as error:
            problems.append(f"entry {entry.index + 1}: {error.filename} cannot be read ({error.strerror}); replace it")
        else:
            samples.append(_sample(entry, media))
    return samples, problems + conflicts(samples)


def _sample(entry: Entry, media: tuple[Medium, ...]) -> Sample:
    """The mounting task is asked about one clip alone; anything else is trained as written."""
    mounting = entry.label is not None and entry.video is not None
    return Sample(
        digest=media[0].digest if len(media) == 1 else digest_of([m.digest for m in media]),
        media=media,
        label=entry.label if mounting else None,
        reason=(entry.reason or None) if mounting else None,
        conversations=entry.conversations,
        metadata=entry.metadata,
        entry=entry.index + 1,
    )


def _marks(entry: Entry) -> list[str]:
    found = sorted({mark for turn in entry.conversations for mark in _MARK.findall(turn.text)})
    return [f"entry {entry.index + 1}: holds {', '.join(found)}, a mark of the model's own; remove it"] if found else []


def conflicts(samples: Sequence[Sample]) -> list[str]:
    """Sentences about labels: one clip with two of them, or a set with one label only."""
    labels: dict[str, set[str]] = defaultdict(set)
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
    present = {sample.stratum for sample in samples if sample.label or sample.metadata.get("label")}
    if len(present) == 1:
        problems.append(f"all labelled entries are {present.pop()!r}; add entries of another label")
    if not samples:
        problems.append("there is nothing to train on; add entries")
    return problems


def file_digest(path: Path) -> str:
    """SHA-256 of the file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shared(training: Sequence[Sample], held: Sequence[Sample]) -> list[str]:
    """A sentence for each held-out sample of which some content stands in training too."""
    known = {medium.digest for sample in training for medium in sample.media}
    both = sorted({sample.title for sample in held if any(medium.digest in known for medium in sample.media)})
    return [f"{title}: the same content stands in training and validation; remove one" for title in both]


def split(samples: Sequence[Sample], share: float, seed: int) -> tuple[list[Sample], list[Sample]]:
    """(training, validation): by clip, so that no content lies on both sides; stratified by label and task; the same
    for the same samples in any order. Each stratum of two or more clips gives at least one clip to validation."""
    if share <= 0.0:
        return list(samples), []
    group_of = _groups(samples)
    strata: dict[str, set[str]] = defaultdict(set)
    stratum_of: dict[str, str] = {}
    for sample in samples:
        group = group_of[sample.media[0].digest]
        stratum_of[group] = min(stratum_of.get(group, sample.stratum), sample.stratum)
    for group, key in stratum_of.items():
        strata[key].add(group)
    held: set[str] = set()
    for key, groups in sorted(strata.items()):
        ordered = sorted(groups)
        random.Random(f"{seed}:{key}").shuffle(ordered)
        count = round(len(ordered) * share)
        held.update(ordered[: max(count, 1) if len(ordered) > 1 else count])
    sides: tuple[list[Sample], list[Sample]] = ([], [])
    for sample in samples:
        sides[group_of[sample.media[0].digest] in held].append(sample)
    return sides


def _groups(samples: Sequence[Sample]) -> dict[str, str]:
    """Content digest to the smallest digest of everything that shares samples with it, directly or not."""
    above: dict[str, str] = {}

    def top(digest: str) -> str:
        while above.setdefault(digest, digest) != digest:
            above[digest] = above[above[digest]]
            digest = above[digest]
        return digest

    for sample in samples:
        first = top(sample.media[0].digest)
        for medium in sample.media[1:]:
            low, high = sorted((first, top(medium.digest)))
            above[high] = first = low
    return {digest: top(digest) for digest in list(above)}
