"""Files of the user's library beside its tables: clips kept for it, and thumbnails written out for the browser.

All are named by the clip's digest, so that one reference's files can be found and deleted.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.errors import ResourceError
from services.library_rows import Reference

_log = logging.getLogger(__name__)


class LibraryFiles:
    """``folder`` is the user's library; its subfolders are made when first needed."""

    def __init__(self, folder: Path) -> None:
        self._clips = folder / "clips"
        self._thumbnails = folder / "thumbnails"

    def keep(self, reference: Reference) -> Reference:
        """``reference`` with its clip in the library's own folder (a hard link where possible); as it is where its
        clip's file is not there. Raises ResourceError when the disk is full."""
        if reference.clip_path is None or not os.path.isfile(reference.clip_path):
            return reference
        target = self._clips / f"{reference.clip_sha256}{Path(reference.clip_path).suffix.lower()}"
        if not target.is_file():
            try:
                with whole_file(target) as part:
                    try:
                        os.link(reference.clip_path, part)
                    except OSError:
                        shutil.copyfile(reference.clip_path, part)
            except OSError as error:
                raise ResourceError(
                    f"{reference.clip_path} could not be copied into the library ({error.strerror}); make room on the "
                    "disk and try again."
                ) from error
        return dataclasses.replace(reference, clip_path=str(target))

    def thumbnail(self, reference: Reference) -> str | None:
        """The picture as a file, written when it is first needed; None where there is none or it cannot be written."""
        if reference.thumbnail is None:
            return None
        picture = hashlib.sha256(reference.thumbnail).hexdigest()[:8]
        path = self._thumbnails / f"{reference.clip_sha256}-{picture}.jpg"
        if not path.is_file():
            try:
                with whole_file(path) as part:
                    part.write_bytes(reference.thumbnail)
            except OSError as error:  # a search must not fail for want of a picture; the page shows none
                _log.warning("no thumbnail for %s: %s", reference.id, error)
                return None
        return str(path)

    def forget(self, clip_sha256: str) -> None:
        """Delete what is kept for the clip."""
        for folder in (self._clips, self._thumbnails):
            for file in folder.glob(f"{clip_sha256}*"):
                file.unlink(missing_ok=True)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A name beside ``path`` to write to; the file takes its place when the block ends well, and is gone otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
