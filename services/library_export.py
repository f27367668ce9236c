"""The library as an annotation file of the source's format, with copies of its clips.

The wording repeats that of ``services.annotations`` (services do not import each other); a test holds the two together.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.errors import InputError, ResourceError
from services.library_files import whole_file
from services.library_rows import Reference

CHUNK_BYTES = 1024 * 1024
QUESTION = (
    "<video>\nBased on an analysis of the video focusing on the cows' behavior, was there any mounting behavior?\n"
    "Options:\n(A) YES\n(B) NO"
)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Exported:
    """``absent``: ids whose clip could not be copied, because its file is gone or no longer the one embedded."""

    entries: int
    clips: int
    absent: tuple[str, ...]


class _AnotherClipError(Exception):
    """The file at a clip's path has changed since it was embedded."""


def export_references(references: Sequence[Reference], path: Path) -> Exported:
    """Write ``references`` to ``path`` and their clips into ``<name>_clips`` beside it."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; name the annotation file to write, for example {path / 'library.json'}.")
    folder = path.parent / f"{path.stem}_clips"
    entries: list[dict[str, Any]] = []
    absent: list[str] = []
    try:
        for reference in references:
            suffix = Path(reference.clip_path).suffix if reference.clip_path else ".mp4"
            target = folder / f"{reference.id}{suffix}"
            there = _copied(reference, target)
            if not there:
                absent.append(reference.id)
            entries.append(_entry(reference, f"./{folder.name}/{target.name}", there))
        with whole_file(path) as part:
            part.write_text(json.dumps(entries, ensure_ascii=False, indent=1) + "\n", encoding="utf-8", newline="\n")
    except OSError as error:
        raise ResourceError(
            f"The library could not be exported to {path} ({error.strerror}); make room or choose another place."
        ) from error
    return Exported(len(entries), len(entries) - len(absent), tuple(absent))


def _entry(reference: Reference, video: str, there: bool) -> dict[str, Any]:
    metadata = {**reference.metadata, "id": reference.id, "sha256": reference.clip_sha256, "origin": reference.origin}
    if not there:
        metadata["clip"] = "absent"
    answer = "YES" if reference.label == "mounting" else "NO"
    return {
        "video": video,
        "conversations": [
            {"from": "human", "value": QUESTION},
            {"from": "gpt", "value": f"Answer: {answer}\nReason: {reference.description}"},
        ],
        "metadata": metadata,
    }


def _copied(reference: Reference, target: Path) -> bool:
    """Copy the clip whole; False where its file is gone or has other content than the one that was embedded."""
    if reference.clip_path is None or not os.path.isfile(reference.clip_path):
        return False
    try:
        with whole_file(target) as part:
            digest = hashlib.sha256()
            with open(reference.clip_path, "rb") as source, part.open("wb") as out:
                while chunk := source.read(CHUNK_BYTES):
                    digest.update(chunk)
                    out.write(chunk)
            if digest.hexdigest() != reference.clip_sha256:
                raise _AnotherClipError(reference.clip_path)
    except _AnotherClipError:
        _log.warning("%s is not the clip that %s was embedded from", reference.clip_path, reference.id)
        return False
    return True
