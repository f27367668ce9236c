"""Clips whose content is known: the shipped samples, the media folder, and what the farmer labelled."""

from __future__ import annotations

import time
from functools import cached_property
from pathlib import Path

from services import clip_sources, video
from services.annotations import read as read_annotations
from services.clip_sources import SampleClip
from services.errors import AnnotationError
from services.history import History
from services.library import Reference
from services.model_parts import ModelParts
from services.open_clips import OpenClips
from services.schema import Clip, Label
from services.settings import ROOT
from services.training_set import TrainingClip, annotated_clips, once, own_clips

SAMPLES = ROOT / "assets" / "demo" / "samples" / "annotations.json"


class KnownClips:
    """Joins history, library and samples. Errors: AnnotationError, InputError, LibraryError."""

    def __init__(self, parts: ModelParts, history: History, open_clips: OpenClips) -> None:
        self._parts = parts
        self._history = history
        self._open_clips = open_clips

    def samples(self) -> list[SampleClip]:
        """The shipped sample clips, in the order of their annotation file."""
        return [
            SampleClip(entry.media[0], entry.media[0].stem.replace("_", " "), entry.label, entry.reason or "")
            for entry in read_annotations(SAMPLES)
        ]

    def media_files(self) -> list[Path]:
        """Videos in the media folder of the settings, long ones too; no path outside of it."""
        return clip_sources.media_files(self._parts.settings.media)

    def annotation_files(self) -> list[Path]:
        """JSON files in the media folder, which may be annotations of its videos."""
        return clip_sources.annotation_files(self._parts.settings.media)

    def add_reference(self, clip: Clip, label: Label, description: str) -> Reference:
        """Embed an open clip and file it in the user's library under ``label``."""
        reference = Reference(
            id=f"user-{clip.sha256[:12]}",
            label=label,
            description=description,
            origin="user",
            clip_sha256=clip.sha256,
            clip_path=str(Path(clip.path).resolve()),
            thumbnail=video.thumbnail(self._open_clips.of(clip).frames),
            vector=self._open_clips.embedding(clip),
            metadata={"added": time.strftime("%Y-%m-%d"), "window": [clip.window.start_s, clip.window.end_s]},
        )
        return self._parts.library.add([reference], keep_clips=True)[0]

    def labels(self) -> dict[str, Label]:
        """Clip digest to what the clip is known to show: the user's references say it, else the history, else the
        shipped samples' annotations."""
        own = {reference.clip_sha256: reference.label for reference in self._parts.library.list(origin="user")}
        samples = {clip.sha256: clip.label for clip in self.sample_clips}
        return samples | self._history.labels() | own

    @cached_property
    def sample_clips(self) -> list[TrainingClip]:
        """The shipped samples as labelled clips; none where the project has none."""
        try:
            return annotated_clips(SAMPLES, "sample")
        except AnnotationError:
            return []

    def own_clips(self) -> list[TrainingClip]:
        """What the farmer labelled in library and history, each clip once."""
        return once(own_clips(self._parts.library, self._history))


def annotated(file: Path) -> list[tuple[Path, Label | None]]:
    """The clips of an annotation file with their labels; AnnotationError where it cannot be used."""
    return [(entry.video, entry.label) for entry in read_annotations(file) if entry.video is not None]
