"""Uploaded clips on disk: content-addressed, whole or not there, never outside their folder.

``<folder>/<sha256>/<name>``; what is still coming in lies in ``<folder>/.incoming`` under a random name and is moved
when it is whole. So a killed process leaves at most one file there, which ``sweep`` removes.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import shutil
import time
import unicodedata
import uuid
from collections.abc import Container
from pathlib import Path
from typing import Protocol

from services.errors import InputError, ResourceError

CHUNK_BYTES = 1024 * 1024
LIMIT_BYTES = 1024 * 1024 * 1024
MAX_NAME_BYTES = 120
STALE_S = 3600.0
"""An incoming file untouched for this long belongs to a process that is gone."""

_FULL = frozenset(getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG") if hasattr(errno, name))
_FORBIDDEN = re.compile(r'[<>:"|?*]')
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|\Z)", re.IGNORECASE)
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Readable(Protocol):
    """Gives the next bytes, none at the end; ``seekable`` ones are read from their start."""

    def read(self, size: int, /) -> bytes: ...


def safe_name(name: str) -> str:
    """``name`` as a file name that every system takes: no folder, no control or direction marks, no leading dot or
    dash (an option to some program), no Windows device, at most 120 bytes, suffix kept."""
    last = unicodedata.normalize("NFC", name).replace("\\", "/").rsplit("/", 1)[-1]
    shown = "".join(letter if letter == " " or letter.isprintable() else "_" for letter in last)
    clean = _FORBIDDEN.sub("_", shown).lstrip(" .-").rstrip(" .")
    if _DEVICE.match(clean):
        clean = f"_{clean}"
    stem, dot, suffix = clean.rpartition(".")
    if not dot or len(suffix.encode()) > 10:
        stem, dot, suffix = clean, "", ""
    room = MAX_NAME_BYTES - len((dot + suffix).encode())
    stem = stem.encode()[:room].decode("utf-8", "ignore").rstrip(" .")
    return f"{stem or 'clip'}{dot}{suffix}"


class UploadFolder:
    """Created by the first upload."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._incoming = folder / ".incoming"

    def store(self, source: bytes | Readable, name: str, limit_bytes: int = LIMIT_BYTES) -> Path:
        """Write ``source`` in chunks of 1 MB and return where it lies then. The same content is kept once.

        Raises InputError above ``limit_bytes`` and ResourceError when it cannot be written (a full disk); nothing is
        left behind then, nor when reading ``source`` fails."""
        shown = safe_name(name)
        stream: Readable = io.BytesIO(source) if isinstance(source, bytes | bytearray | memoryview) else source
        if getattr(stream, "seekable", lambda: False)():
            stream.seek(0)  # type: ignore[attr-defined]
        part = self._incoming / f"{uuid.uuid4().hex}.part"
        try:
            self._incoming.mkdir(parents=True, exist_ok=True)
            try:
                return self._place(part, self._receive(stream, part, shown, limit_bytes), shown)
            finally:
                part.unlink(missing_ok=True)
        except OSError as error:
            if error.errno in _FULL:
                raise ResourceError(
                    f"The disk is too full to store “{shown}”; make room and upload it again."
                ) from error
            raise ResourceError(
                f"“{shown}” could not be stored ({error.strerror or error}); make {self.folder} writable and try again."
            ) from error

    def holds(self, path: Path) -> bool:
        """Whether ``path`` lies in this folder, links resolved."""
        return path.resolve().is_relative_to(self.folder.resolve())

    def forget(self, sha256: str) -> None:
        """Delete the clip of this digest, if there is one."""
        if _SHA256.fullmatch(sha256):
            shutil.rmtree(self.folder / sha256, ignore_errors=True)

    def sweep(self, in_use: Container[str], older_than_s: float) -> None:
        """Delete clips that nobody uses and have not been touched for ``older_than_s``, and what dead processes left
        in the incoming folder."""
        for part in self._incoming.glob("*.part"):
            if _age_s(part) > STALE_S:
                part.unlink(missing_ok=True)
        for clip in self.folder.glob("*"):
            if _SHA256.fullmatch(clip.name) and clip.name not in in_use and _age_s(clip) > older_than_s:
                shutil.rmtree(clip, ignore_errors=True)

    def _receive(self, stream: Readable, part: Path, shown: str, limit_bytes: int) -> str:
        """Copy ``stream`` to ``part``, through to the disk; the digest of what was copied."""
        digest, size = hashlib.sha256(), 0
        with part.open("xb") as out:
            while chunk := stream.read(CHUNK_BYTES):
                size += len(chunk)
                if size > limit_bytes:
                    raise InputError(
                        f"“{shown}” is larger than {limit_bytes / 1e9:.1f} GB; cut it, or put it into the media folder."
                    )
                digest.update(chunk)
                out.write(chunk)
            out.flush()
            os.fsync(out.fileno())
        return digest.hexdigest()

    def _place(self, part: Path, sha256: str, shown: str) -> Path:
        target = self.folder / sha256 / shown
        folder = target.parent
        folder.mkdir(exist_ok=True)
        same = next((there for there in folder.iterdir() if there.suffix.lower() == target.suffix.lower()), None)
        if same is not None and same.stat().st_size == part.stat().st_size:
            os.utime(folder)
            return same
        os.replace(part, target)
        return target


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
