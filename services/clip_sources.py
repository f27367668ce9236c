"""Clips one can analyse without uploading: the shipped samples and the media folder of the settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from services.errors import InputError
from services.schema import Label

SUFFIXES = frozenset({".mp4", ".mov", ".avi", ".mkv", ".webm", ".gif", ".m4v", ".ts", ".mpg"})


@dataclass(frozen=True, slots=True)
class SampleClip:
    """A clip one can try without owning a cow; ``label`` and ``description`` are what really happens in it."""

    path: Path
    title: str
    label: Label | None
    description: str


def media_files(folder: Path | None) -> list[Path]:
    """Videos below ``folder`` by name; links that lead out of it are left out. Raises InputError if it is not there."""
    if folder is None:
        return []
    root = folder.resolve()
    if not root.is_dir():
        raise InputError(f"The media folder {folder} is not there; correct HERDLENS_MEDIA.")
    return _inside(root, SUFFIXES)


def annotation_files(folder: Path | None) -> list[Path]:
    """JSON files below ``folder`` by name, which may be annotations; as ``media_files`` otherwise."""
    return [] if folder is None or not folder.is_dir() else _inside(folder.resolve(), frozenset({".json"}))


def _inside(root: Path, suffixes: frozenset[str]) -> list[Path]:
    found = (path for path in sorted(root.rglob("*")) if path.suffix.lower() in suffixes and path.is_file())
    return [path for path in found if path.resolve().is_relative_to(root)]
