"""The LanceDB tables under ``services.library``: whole versions, one writer, nothing deleted left behind.

LanceDB commits each change as a new version, whole or not at all, and takes one writer; writers therefore hold a lock
file that all processes share. Two things it does not notice are handled here: a flipped byte (rows carry digests), and
a newest manifest that a power cut emptied, which makes a table unopenable (the empty manifest is removed; the change it
stood for is lost, and the log says so).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import lancedb
import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock, Timeout

from services.errors import ResourceError
from services.library_rows import DIGEST, PROVENANCE, row_digests
from services.schema import Provenance

LOCK_WAIT_S = 30.0
READ_ATTEMPTS = 5
KEPT_VERSIONS = timedelta(milliseconds=1)
"""Versions older than this go after every write, so that what a farmer deletes leaves the disk at once. A reader
of another process that loses its version this way opens the next one. Zero would do the same with a warning."""

_log = logging.getLogger(__name__)


class LanceFile:
    """One table in ``folder``. ``read`` and ``mark`` may be called at any time, the writing methods only inside
    ``writing(lock)``. ``lock`` None: a shipped table, which is never written to."""

    def __init__(self, folder: Path, name: str, lock: FileLock | None = None) -> None:
        self.folder = folder
        self.name = name
        self._lock = lock
        self._path = folder / f"{name}.lance"

    def mark(self) -> tuple[int, int] | None:
        """Changes whenever any process changed the table; None while there is no table."""
        table = self._open()
        return None if table is None else (self._path.stat().st_ino, table.version)

    def read(self) -> pa.Table | None:
        """All rows of the newest version, digests checked; None while there is no table."""
        for attempt in range(READ_ATTEMPTS):
            table = self._open()
            if table is None:
                return None
            try:
                rows = table.to_arrow()
                stored, found = rows.column(DIGEST).to_pylist(), row_digests(rows)
                break
            except Exception as error:  # RuntimeError, OSError, UnicodeDecodeError …: damaged, or just replaced
                if attempt == READ_ATTEMPTS - 1:
                    raise self._unreadable() from error
        damaged = [index for index, pair in enumerate(zip(stored, found, strict=True)) if pair[0] != pair[1]]
        if damaged:
            key = rows.column("id" if "id" in rows.column_names else "clip_sha256")[damaged[0]].as_py()
            raise ResourceError(
                f"Reference {key!r} in {self.folder} is damaged on disk ({len(damaged)} of {len(stored)} entries do "
                f"not match their digest); {self._remedy(key)}"
            )
        return rows

    def provenance(self) -> Provenance | None:
        """Where the vectors come from; None while there is no table."""
        table = self._open()
        if table is None:
            return None
        try:
            return Provenance(**json.loads((table.schema.metadata or {})[PROVENANCE]))
        except Exception as error:
            raise self._unreadable() from error

    def upsert(self, rows: pa.Table, key: str) -> None:
        """Insert ``rows``, or replace those of the same ``key``; creates the table."""
        with self._writable():
            table = self._open()
            if table is None:
                lancedb.connect(str(self.folder)).create_table(self.name, rows)
                return
            table.merge_insert(key).when_matched_update_all().when_not_matched_insert_all().execute(rows)
            table.optimize(cleanup_older_than=KEPT_VERSIONS)

    def delete(self, key: str, value: str) -> bool:
        """Delete the rows where ``key`` is ``value``; whether there were any. The rest is written anew, because
        LanceDB itself would only mark the row and keep its bytes."""
        with self._writable():
            table = self._open()
            if table is None:
                return False
            rows = table.to_arrow()
            rest = rows.filter(pc.not_equal(rows.column(key), value))
            if rest.num_rows == rows.num_rows:
                return False
            table.add(rest, mode="overwrite")
            table.optimize(cleanup_older_than=KEPT_VERSIONS)
            return True

    def _open(self) -> Any:
        """The newest version, or None. A folder is never created by looking at it."""
        if not any((self._path / "_versions").glob("*.manifest")):
            return None
        for attempt in range(READ_ATTEMPTS):
            try:
                return lancedb.connect(str(self.folder)).open_table(self.name)
            except Exception as error:  # damaged, or replaced between finding and opening its newest version
                mended = self._lock is not None and self._drop_empty_manifests(self._lock)
                if attempt == READ_ATTEMPTS - 1 and not mended:
                    raise self._unreadable() from error
        return self._open()

    def _drop_empty_manifests(self, lock: FileLock) -> bool:
        """Remove manifests that a power cut emptied, newest first (names count down); whether there were any."""
        dropped = False
        with writing(lock):
            for manifest in sorted((self._path / "_versions").glob("*.manifest")):
                if manifest.stat().st_size:
                    break
                manifest.unlink()
                dropped = True
                _log.warning("removed the empty manifest %s; the change it stood for is lost", manifest)
        return dropped

    def _remedy(self, key: str | None) -> str:
        if self._lock is None:
            return "restore this folder from the HerdLens repository or package."
        if key is None:
            return "move this folder away and add the clips again."
        return f"remove {key!r} from the library and add its clip again."

    def _unreadable(self) -> ResourceError:
        return ResourceError(f"The reference library in {self.folder} cannot be read; {self._remedy(None)}")

    @contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except ResourceError:
            raise
        except Exception as error:  # LanceDB reports a full disk, for one, as a RuntimeError
            reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
            raise ResourceError(
                f"The reference library in {self.folder} could not be changed ({reason}); make room on the disk or "
                "make the folder writable and try again."
            ) from error


@contextmanager
def writing(lock: FileLock) -> Iterator[None]:
    """Hold the folder's lock file: one writer among all threads and processes; may be nested."""
    folder = Path(lock.lock_file).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=LOCK_WAIT_S)
    except Timeout as error:
        raise ResourceError(
            f"Another HerdLens process has been writing to {folder} for over {LOCK_WAIT_S:.0f} s; try again later."
        ) from error
    except OSError as error:
        raise ResourceError(f"{folder} cannot be written to ({error.strerror}); make it writable.") from error
    try:
        yield
    finally:
        lock.release()
