"""What is evaluated: an annotation file, or the source's folder with ``mounting/`` and ``normal/`` clips."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.annotations import read as read_annotations
from services.errors import AnnotationError, InputError
from services.schema import LABELS, Label, digest_of

SUFFIXES = frozenset({".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".ts"})


@dataclass(frozen=True, slots=True)
class Item:
    """One clip with its true label; ``video`` is its name relative to the data, ``metadata`` what its annotation says
    in single words and numbers (groups of the report)."""

    video: str
    path: Path
    truth: Label
    metadata: dict[str, Any] = field(default_factory=dict)


def read_data(path: Path) -> tuple[list[Item], str]:
    """The labelled clips of ``path`` in order, and a digest of names, labels and file sizes. Entries of other tasks
    than mounting are left out. Raises InputError or AnnotationError, each one sentence."""
    if path.is_dir() and (path / "annotations.json").is_file():
        path = path / "annotations.json"
    items = _from_folders(path) if path.is_dir() else _from_annotations(path)
    if not items:
        raise InputError(f"{path} holds no clip with a mounting label; give annotations with 'Answer: YES' or 'NO'.")
    return items, digest_of([[item.video, item.truth, _size(item.path)] for item in items])


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _from_folders(folder: Path) -> list[Item]:
    if not any((folder / label).is_dir() for label in LABELS):
        raise InputError(
            f"{folder} has neither annotations.json nor folders 'mounting' and 'normal'; give one of them."
        )
    return [
        Item(f"{label}/{clip.name}", clip.resolve(), label)
        for label in LABELS
        if (folder / label).is_dir()
        for clip in sorted((folder / label).iterdir())
        if clip.suffix.lower() in SUFFIXES
    ]


def _from_annotations(path: Path) -> list[Item]:
    found: dict[str, Item] = {}
    folder = path.parent.resolve()
    for entry in read_annotations(path, check_media=False):
        if entry.label is None or entry.video is None:
            continue
        name = entry.video.relative_to(folder).as_posix()
        earlier = found.get(name)
        if earlier is not None and earlier.truth != entry.label:
            raise AnnotationError(f"{path.name} labels {name} both mounting and normal; keep one of the entries.")
        about = {key: value for key, value in entry.metadata.items() if isinstance(value, str | int | float | bool)}
        found[name] = Item(name, entry.video, entry.label, about)
    return list(found.values())


def donors(items: list[Item], seed: int) -> dict[str, Item]:
    """For each clip another one, whose pictures stand in for its own. One cycle through all clips in an order drawn
    from ``seed``, so nobody is its own donor and a donor's label tells nothing about the clip's."""
    if len(items) < 2:
        raise InputError("Another clip's frames need at least two clips in the data; give more.")
    order = sorted(items, key=lambda item: hashlib.sha256(f"{seed}:{item.video}".encode()).digest())
    return {item.video: order[(i + 1) % len(order)] for i, item in enumerate(order)}


def read_labels(path: Path) -> dict[str, Label]:
    """Label of each clip by file name, from a TSV (name, YES or NO) or an annotation file."""
    if path.suffix == ".json":
        return {
            entry.video.name: entry.label
            for entry in read_annotations(path, check_media=False)
            if entry.video and entry.label
        }
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as UTF-8 text; give a TSV of clip names and YES or NO.") from error
    found: dict[str, Label] = {}
    for number, line in enumerate(lines, 1):
        name, _, answer = line.partition("\t")
        word = answer.split("\t")[0].strip().upper()
        if word not in ("YES", "NO"):
            raise InputError(f"{path.name}, line {number}: {word!r} is neither YES nor NO; mend that line.")
        found[name.strip()] = "mounting" if word == "YES" else "normal"
    return found


def read_json(path: Path) -> Any:
    """The JSON value in ``path``; InputError with one sentence."""
    try:
        return json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); give the path of a JSON file.") from error
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({error}); mend it or give another file.") from error
