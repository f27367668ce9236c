"""Records, queries and how well each record answers each query (grades), for ``python -m evaluation retrieval``.

A file of its own: ``{"records": [{"id", "text", "image", "video"}], "queries": [{"id", "text", "image", "video",
"grades": {RECORD: 0…4}}]}``; of text, image and video at least one; paths are relative to the file and stay in its
folder. Or an annotation file of labelled clips: every third clip is a query, the others are records; ``text`` is the
annotated reason, ``image`` the middle frame, ``video`` the sampled frames, and the grade counts what two clips share:
1 the label, 2 the behaviour too, 3 the direction too, 4 the light too.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evaluation.data import read_json
from services.annotations import Entry
from services.annotations import read as read_annotations
from services.errors import AnnotationError, InputError
from services.multimodal import Content
from services.schema import Frames, Sampling
from services.video import VideoReader

PARTS = ("text", "image", "video")
MOST_PIXELS = 1920 * 1088 * 4
SHARED = ("kind", "direction", "light")
"""What raises a grade above 1, in this order."""
EVERY = 3


@dataclass(frozen=True, slots=True)
class Source:
    """Where a record's or query's parts come from; without an ``image`` the video's middle frame is one."""

    id: str
    text: str = ""
    image: Path | None = None
    video: Path | None = None
    grades: Mapping[str, int] = field(default_factory=dict)

    def has(self, parts: Sequence[str]) -> bool:
        """Whether every one of ``parts`` is there; a video has a middle frame."""
        there = {"text": bool(self.text), "image": bool(self.image or self.video), "video": bool(self.video)}
        return all(there[part] for part in parts)


@dataclass(frozen=True, slots=True)
class Graded:
    """Records, and the queries with their grades."""

    records: tuple[Source, ...]
    queries: tuple[Source, ...]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Record(_Strict):
    id: str = Field(min_length=1, max_length=200)
    text: str = ""
    image: str | None = None
    video: str | None = None


class _Query(_Record):
    grades: dict[str, int]


class _File(_Strict):
    records: list[_Record] = Field(min_length=1)
    queries: list[_Query] = Field(min_length=1)


def read_graded(path: Path) -> Graded:
    """The graded set in ``path``. Raises InputError or AnnotationError, each one sentence."""
    if path.is_dir():
        path = path / "annotations.json"
    given = read_json(path)
    if isinstance(given, list):
        return _from_clips(path)
    try:
        found = _File.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise InputError(f"{path.name}: {place}: {first['msg']}; see the format in docs/evaluation.md.") from error
    records = tuple(_source(record, path.parent) for record in found.records)
    known = {record.id for record in records}
    if len(known) < len(records):
        raise InputError(f"{path.name} gives two records the same id; give each its own.")
    for query in found.queries:
        missing = sorted(set(query.grades) - known)
        if missing or any(not 0 <= grade <= 4 for grade in query.grades.values()):
            raise InputError(
                f"{path.name}: query {query.id!r} grades {missing[0]!r}, which is no record."
                if missing
                else f"{path.name}: query {query.id!r} has a grade outside 0 to 4; mend it."
            )
    return Graded(records, tuple(_source(query, path.parent, query.grades) for query in found.queries))


def _source(given: _Record, folder: Path, grades: Mapping[str, int] | None = None) -> Source:
    image, video = (_inside(name, folder, given.id) for name in (given.image, given.video))
    if not given.text and image is None and video is None:
        raise InputError(f"{given.id!r} has neither text nor image nor video; give one of them or leave it out.")
    return Source(given.id, given.text, image, video, grades or {})


def _inside(name: str | None, folder: Path, owner: str) -> Path | None:
    if name is None:
        return None
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise InputError(f"{owner!r} points to {name}, outside of its file's folder; move the media beside the file.")
    if not path.is_file():
        raise InputError(f"{owner!r} points to {name}, which is not there; mend the path.")
    return path


def _from_clips(path: Path) -> Graded:
    clips = [entry for entry in read_annotations(path) if entry.label is not None and entry.video is not None]
    if len(clips) <= EVERY:
        raise AnnotationError(
            f"{path.name} holds {len(clips)} labelled clips; a retrieval test needs more than {EVERY}."
        )
    names = [entry.video.name if entry.video else "" for entry in clips]
    records = [i for i in range(len(clips)) if i % EVERY]
    queries = [i for i in range(len(clips)) if not i % EVERY]
    return Graded(
        tuple(Source(names[i], clips[i].reason or "", None, clips[i].video) for i in records),
        tuple(
            Source(
                names[i], clips[i].reason or "", None, clips[i].video,
                {names[j]: grade(clips[i], clips[j]) for j in records},
            )
            for i in queries
        ),
    )  # fmt: skip


def grade(one: Entry, other: Entry) -> int:
    """0 for another label, else 1 and one more for each of SHARED that both say alike, up to the first difference."""
    if one.label != other.label:
        return 0
    found = 1
    for name in SHARED:
        value = one.metadata.get(name)
        if value is None or value != other.metadata.get(name):
            break
        found += 1
    return found


class Media:
    """Reads the parts of records and queries: files, or the frames of a video."""

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling
        self._reader = VideoReader()

    def close(self) -> None:
        self._reader.close()

    def content(self, source: Source, parts: Sequence[str]) -> Content:
        """The ``parts`` of ``source``. Raises InputError or ClipError for what cannot be read."""
        video: Frames | None = None
        if source.video is not None and ("video" in parts or ("image" in parts and source.image is None)):
            _, video = self._reader.open(str(source.video), self.sampling, None, threading.Event())
        image: NDArray[np.uint8] | None = None
        if "image" in parts:
            image = _picture(source.image) if source.image else None if video is None else video.rgb[len(video) // 2]
        return Content(source.text if "text" in parts else "", image, video if "video" in parts else None)


def _picture(path: Path) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB. Size is read from the header first."""
    try:
        with Image.open(path, formats=("JPEG", "PNG")) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise InputError(f"{path.name} has {opened.width} × {opened.height} pixels; make it smaller.")
            return np.asarray(opened.convert("RGB"), np.uint8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path.name} is no picture that can be read; give a JPEG or PNG file.") from error
