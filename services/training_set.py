"""The farmer's own clips as a training set: gathered from library and history, written as annotations with media.

Joins services (library, history, annotations), so it belongs to the composition root; it is given the opened stores.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from services import annotations as notes
from services.errors import AnnotationError, InputError, ResourceError
from services.history import History
from services.library import Library
from services.schema import LABELS, Label, Window

Source = Literal["library", "history", "practice", "sample"]
SOURCES: tuple[Source, ...] = ("library", "history", "practice", "sample")

SMALLEST = 4
"""Clips of each label that a training set must have: with fewer, one held-out clip would leave nothing to learn."""
HELD_OUT = 0.2
"""Share of the clips that is held out: sets of a farm are small, and the figures are read from these clips."""

ANNOTATIONS = "annotations.json"
MEDIA = "media"


@dataclass(frozen=True, slots=True)
class TrainingClip:
    """One labelled clip. ``reason`` may be empty: then only the verdict is trained. ``window`` is the span that the
    label speaks of, None for the whole clip."""

    path: Path
    sha256: str
    label: Label
    reason: str
    source: Source
    window: Window | None = None


def own_clips(library: Library, history: History) -> list[TrainingClip]:
    """What the farmer labelled, each clip once: the user's references that are not hidden, then what was confirmed or
    corrected in the history and is not in the library (any more). Clips whose files are gone are left out. A reason
    that is the model's own, confirmed without a word, is left out too: who confirms a verdict has not checked the rest,
    and training on it would make its inventions the truth."""
    found: dict[str, TrainingClip] = {}
    hidden: set[str] = set()
    told = history.with_feedback()
    its_own = {(past.clip_sha256, str(past.report.get("reason", "")).strip()) for past in told}
    for reference in library.list(origin="user"):
        if reference.hidden:
            hidden.add(reference.clip_sha256)
        elif reference.clip_path and os.path.isfile(reference.clip_path):
            window = _window(reference.metadata.get("window"))
            words = reference.description.strip()
            found[reference.clip_sha256] = TrainingClip(
                Path(reference.clip_path),
                reference.clip_sha256,
                reference.label,
                "" if (reference.clip_sha256, words) in its_own else words,
                "library",
                window,
            )
    for past in told:
        if past.clip_path is None or past.feedback is None or past.clip_sha256 in found or past.clip_sha256 in hidden:
            continue
        if past.report.get("task", "mounting") != "mounting":
            continue
        window = _window(past.report.get("clip", {}).get("window"))
        found[past.clip_sha256] = TrainingClip(past.clip_path, past.clip_sha256, past.feedback, "", "history", window)
    return list(found.values())


def annotated_clips(file: Path, source: Source) -> list[TrainingClip]:
    """The labelled clips of an annotation file; AnnotationError where it cannot be read."""
    return [
        TrainingClip(entry.video, _digest(entry.video), entry.label, entry.reason, source)
        for entry in notes.read(file)
        if entry.label is not None and entry.video is not None
    ]


def once(clips: Iterable[TrainingClip]) -> list[TrainingClip]:
    """Each content once; the first one wins, so the farmer's own word goes before a shipped annotation."""
    found: dict[str, TrainingClip] = {}
    for clip in clips:
        found.setdefault(clip.sha256, clip)
    return list(found.values())


def counts(clips: Sequence[TrainingClip]) -> dict[Label, int]:
    """How many clips there are of each label."""
    return {label: sum(clip.label == label for clip in clips) for label in LABELS}


def require_trainable(clips: Sequence[TrainingClip]) -> None:
    """InputError, saying what is missing, unless ``clips`` can be trained on."""
    found = counts(clips)
    if not clips:
        raise InputError(
            "No clips are chosen yet. Choose others above, draw practice clips, say under an analysis what its clip "
            "shows, or add clips to the library."
        )
    for label, other in (LABELS, LABELS[::-1]):
        if not found[label]:
            raise InputError(
                f"All {found[other]} clips show {other}; training needs clips of both kinds, so add {label} ones."
            )
    if min(found.values()) < SMALLEST:
        raise InputError(
            f"There are {found['mounting']} mounting and {found['normal']} normal clips; training needs at least "
            f"{SMALLEST} of each."
        )


def has_cases(clips: Sequence[TrainingClip], held_out: float = HELD_OUT) -> bool:
    """Whether, whichever share of the clips is held out, two of each label with a reason are left as cases."""
    for label, count in counts(clips).items():
        reasoned = sum(clip.label == label and bool(clip.reason.strip()) for clip in clips)
        if reasoned - max(1, round(count * held_out)) < 2:
            return False
    return True


def write(folder: Path, clips: Sequence[TrainingClip], cut: Callable[[TrainingClip, Path], bool]) -> Path:
    """Write ``clips`` as ``folder/annotations.json`` with their files in ``folder/media``; the path of the former.

    ``cut(clip, target)`` writes only the clip's window to ``target`` where the file is longer than what one analysis
    looks at, and says whether it did; else the file is linked or copied. ResourceError when the disk is full."""
    media = folder / MEDIA
    try:
        media.mkdir(parents=True, exist_ok=True)
        entries = []
        for clip in clips:
            target = media / f"{clip.sha256[:16]}.mp4"
            if clip.window is None or not cut(clip, target):
                target = target.with_suffix(clip.path.suffix.lower() or ".mp4")
                _link(clip.path, target)
            metadata = {"source": clip.source, "sha256": clip.sha256}
            entries.append(notes.entry_for(f"{MEDIA}/{target.name}", clip.label, clip.reason, metadata))
        file = folder / ANNOTATIONS
        notes.write(file, entries)
    except OSError as error:
        raise ResourceError(
            f"The training set could not be written to {folder} ({error.strerror}); make room on the disk."
        ) from error
    return file


def practice_clips(folder: Path) -> list[TrainingClip]:
    """The clips drawn for practice, of every finished batch below ``folder``."""
    clips: list[TrainingClip] = []
    for file in sorted(folder.glob(f"*/clips/{ANNOTATIONS}")):
        try:
            clips += annotated_clips(file, "practice")
        except AnnotationError:
            continue  # a batch that was broken off while it wrote its last clips
    return clips


def _link(source: Path, target: Path) -> None:
    """A hard link where possible: a farm's clips are large and never changed."""
    if target.exists():
        return
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _window(told: object) -> Window | None:
    return Window(float(told[0]), float(told[1])) if isinstance(told, list | tuple) and len(told) == 2 else None


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
