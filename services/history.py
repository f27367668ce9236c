"""Past analyses: reports in SQLite, clips and pictures as files beside it.

Layout of the folder: ``history.sqlite3``, ``uploads/`` (clips, content-addressed), ``extras/<id>/`` (frames and the
like). Several processes and threads may use it at once: the database is in WAL mode with a busy timeout, every call
opens its own connection, and files are deleted inside the transaction that deletes their row, so that no file is left
that no row leads to.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import secrets
import shutil
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from services.errors import InputError, ResourceError
from services.history_uploads import LIMIT_BYTES, Readable, UploadFolder
from services.schema import LABELS, AnyVerdict, Label

SCHEMA_VERSION = 1
BUSY_S = 30.0
UNUSED_UPLOAD_S = 24 * 3600.0
"""An upload that became no entry (cancelled, refused) is kept this long: its analysis may still run."""
RUNNING_S = 600.0
"""An upload younger than this may belong to an analysis that runs now."""

_SCHEMA = """
CREATE TABLE entries (
    id TEXT PRIMARY KEY,
    created REAL NOT NULL,
    clip_name TEXT NOT NULL,
    clip_sha256 TEXT NOT NULL,
    verdict TEXT NOT NULL,
    p_mounting REAL,
    feedback TEXT,
    clip BLOB,
    report TEXT NOT NULL
);
CREATE INDEX entries_by_time ON entries (created DESC);
CREATE INDEX entries_by_clip ON entries (clip_sha256);
"""
_EXTRA = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_ID = re.compile(r"[a-z2-7]{8}")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Past:
    """One past analysis. ``created_at`` is ISO 8601, UTC. ``clip_path`` is None where the clip's file is gone;
    ``extras`` are the files stored with the entry, by name; ``report`` is the report's JSON object."""

    id: str
    created_at: str
    clip_name: str
    clip_sha256: str
    verdict: AnyVerdict
    p_mounting: float | None
    feedback: Label | None
    clip_path: Path | None
    extras: Mapping[str, Path] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)


Pasts = list[Past]


class History:
    """``folder`` is created by the first call. ``derived``: folders of files made from clips and named by their
    digest (display proxies); they are deleted with the last entry of the clip and count as space."""

    def __init__(self, folder: Path, derived: Sequence[Path] = ()) -> None:
        self._folder = Path(folder).absolute()
        self._derived = tuple(Path(one) for one in derived)
        self._database = self._folder / "history.sqlite3"
        self._extras = self._folder / "extras"
        self._uploads = UploadFolder(self._folder / "uploads")

    def add(
        self,
        report_json: Mapping[str, Any],
        *,
        clip_name: str,
        stored_clip: Path | None = None,
        extras: Mapping[str, bytes | Path] | None = None,
    ) -> str:
        """Keep a report; its short id, fit for a link. ``stored_clip`` is deleted with the entry only where it lies
        among the uploads. An extra given as a path is copied."""
        try:
            sha256, verdict, p = report_json["clip"]["sha256"], report_json["verdict"], report_json["p_mounting"]
            text = json.dumps(report_json)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"The report lacks {error}; give a report's whole JSON object.") from error
        wrong = [name for name in extras or {} if not _EXTRA.fullmatch(name)]
        if wrong:
            raise InputError(f"{wrong[0]!r} is no name for an extra; use letters, digits, dots, dashes, underscores.")
        id = base64.b32encode(secrets.token_bytes(5)).decode().lower()
        shown = clip_name.encode("utf-8", "replace").decode()
        with self._changing() as database:
            database.execute(
                "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, NULL, ?, ?)",
                (id, time.time(), shown, sha256, verdict, p, self._stored(stored_clip), text),
            )
            self._write_extras(id, extras or {})
        return id

    def get(self, id: str) -> Past:
        """The entry ``id``; InputError if there is none (any more)."""
        with self._reading() as database:
            row = database.execute("SELECT * FROM entries WHERE id = ?", (id,)).fetchone()
        if row is None:
            raise InputError(f"There is no past analysis {id!r}; it may have been deleted.")
        return self._past(row)

    def list(self, limit: int = 50, offset: int = 0, verdict: AnyVerdict | None = None) -> Pasts:
        """Entries, newest first."""
        query, values = _filtered("SELECT * FROM entries", verdict)
        with self._reading() as database:
            rows = database.execute(
                f"{query} ORDER BY created DESC, rowid DESC LIMIT ? OFFSET ?", (*values, max(limit, 0), max(offset, 0))
            ).fetchall()
        return [self._past(row) for row in rows]

    def count(self, verdict: AnyVerdict | None = None) -> int:
        query, values = _filtered("SELECT COUNT(*) FROM entries", verdict)
        with self._reading() as database:
            return int(database.execute(query, values).fetchone()[0])

    def with_feedback(self) -> Pasts:
        """Entries of which the farmer said what the clip shows, newest first."""
        with self._reading() as database:
            rows = database.execute(
                "SELECT * FROM entries WHERE feedback IS NOT NULL ORDER BY created DESC, rowid DESC"
            ).fetchall()
        return [self._past(row) for row in rows]

    def labels(self) -> dict[str, Label]:
        """Clip digest to what the farmer said last that the clip shows."""
        with self._reading() as database:
            rows = database.execute(
                "SELECT clip_sha256, feedback FROM entries WHERE feedback IS NOT NULL ORDER BY created, rowid"
            ).fetchall()
        return {row[0]: row[1] for row in rows}

    def set_feedback(self, id: str, label: Label | None) -> None:
        """Keep what the farmer says the clip shows; None takes it back."""
        if label is not None and label not in LABELS:
            raise InputError(f"{label!r} is no label; use one of {', '.join(LABELS)}.")
        with self._changing() as database:
            if not database.execute("UPDATE entries SET feedback = ? WHERE id = ?", (label, id)).rowcount:
                raise InputError(f"There is no past analysis {id!r}; it may have been deleted.")

    def delete(self, id: str) -> None:
        """Delete an entry with its extras; its clip too, unless another entry is about the same clip."""
        with self._changing() as database:
            row = database.execute("DELETE FROM entries WHERE id = ? RETURNING clip_sha256", (id,)).fetchone()
            if row is None:
                raise InputError(f"There is no past analysis {id!r}; it may have been deleted.")
            _remove(self._extras / id)
            if not _in_use(database, row[0]):
                self._forget_clip(row[0])
        self._tidy()

    def delete_all(self) -> int:
        """Delete every entry with its extras and clip, and uploads without an entry (but for those so new that their
        analysis may be running); how many entries there were."""
        with self._changing() as database:
            digests = {row[0] for row in database.execute("SELECT clip_sha256 FROM entries")}
            count = database.execute("DELETE FROM entries").rowcount
            _remove(self._extras)
            for sha256 in digests:
                self._forget_clip(sha256)
            self._uploads.sweep((), RUNNING_S)
        self._tidy(vacuum=True)
        return int(count)

    def space_used(self) -> int:
        """Bytes of everything that is kept: database, uploads, extras and derived files."""
        return sum(
            _size(Path(root, name))
            for folder in (self._folder, *self._derived)
            for root, _, names in os.walk(folder)
            for name in names
        )

    def store_upload(self, source: bytes | Readable, name: str, *, limit_bytes: int = LIMIT_BYTES) -> Path:
        """Put an uploaded clip on disk and return its path; see ``UploadFolder.store``."""
        return self._uploads.store(source, name, limit_bytes)

    def discard_upload(self, path: Path) -> None:
        """Delete an upload whose analysis failed or was cancelled, unless an entry is about the same clip. Any path
        that is not an upload is left alone."""
        path = Path(path)
        if self._uploads.holds(path):
            with self._changing() as database:
                if not _in_use(database, path.parent.name):
                    self._forget_clip(path.parent.name)

    def sweep(self, older_than_s: float = UNUSED_UPLOAD_S) -> None:
        """Delete what killed processes left: half uploads, uploads without an entry, extras without an entry."""
        with self._changing() as database:
            rows = database.execute("SELECT id, clip_sha256 FROM entries").fetchall()
            self._uploads.sweep({row[1] for row in rows}, older_than_s)
            ids = {row[0] for row in rows}
            for folder in self._extras.glob("*"):
                if folder.name not in ids:
                    _remove(folder)

    def _write_extras(self, id: str, extras: Mapping[str, bytes | Path]) -> None:
        """All of them, or none: the transaction's row is rolled back with them."""
        folder = self._extras / id
        try:
            for name, content in extras.items():
                folder.mkdir(parents=True, exist_ok=True)
                if isinstance(content, Path):
                    shutil.copyfile(content, folder / name)
                else:
                    (folder / name).write_bytes(content)
        except BaseException:
            _remove(folder)
            raise

    def _stored(self, clip: Path | None) -> bytes | None:
        """Uploads relative to the folder, so that it can move; other clips by their absolute path. As bytes, because
        the name of a clip in a media folder need not be text."""
        if clip is None:
            return None
        absolute = Path(clip).absolute()
        return os.fsencode(absolute.relative_to(self._folder) if absolute.is_relative_to(self._folder) else absolute)

    def _past(self, row: sqlite3.Row) -> Past:
        clip = None if row["clip"] is None else self._folder / os.fsdecode(row["clip"])
        extras = self._extras / row["id"]
        return Past(
            id=row["id"],
            created_at=datetime.fromtimestamp(row["created"], UTC).isoformat(timespec="seconds"),
            clip_name=row["clip_name"],
            clip_sha256=row["clip_sha256"],
            verdict=row["verdict"],
            p_mounting=row["p_mounting"],
            feedback=row["feedback"],
            clip_path=clip if clip is not None and clip.is_file() else None,
            extras={path.name: path for path in sorted(extras.glob("*"))},
            report=json.loads(row["report"]),
        )

    def _forget_clip(self, sha256: str) -> None:
        self._uploads.forget(sha256)
        for folder in self._derived:
            for file in folder.glob(f"{sha256}*"):
                file.unlink(missing_ok=True)

    def _tidy(self, *, vacuum: bool = False) -> None:
        """Get deleted rows out of the log and the file; left for later while another process reads."""
        with self._reading() as database:
            try:
                if vacuum:
                    database.execute("VACUUM")
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            except sqlite3.OperationalError as error:
                _log.info("the history was not compacted: %s", error)

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """A write transaction: committed when the block ends well, else rolled back."""
        with self._reading() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
            except BaseException:
                database.execute("ROLLBACK")
                raise
            database.execute("COMMIT")

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            database = self._connect()
            try:
                yield database
            finally:
                database.close()
        except sqlite3.Error as error:
            raise ResourceError(f"The history in {self._folder} cannot be used ({error}); {_remedy(error)}") from error
        except OSError as error:
            raise ResourceError(
                f"The history in {self._folder} could not be changed ({error.strerror or error}); make room on the "
                "disk or make the folder writable."
            ) from error

    def _connect(self) -> sqlite3.Connection:
        if not self._database.exists():
            self._create()
        database = sqlite3.connect(self._database, timeout=BUSY_S, isolation_level=None)
        try:
            database.row_factory = sqlite3.Row
            database.execute("PRAGMA secure_delete = ON")
            version = database.execute("PRAGMA user_version").fetchone()[0]
            if version != SCHEMA_VERSION:
                raise ResourceError(
                    f"The history in {self._folder} has format {version}, this HerdLens knows {SCHEMA_VERSION}; update "
                    "HerdLens or move the folder away."
                )
        except BaseException:
            database.close()
            raise
        return database

    def _create(self) -> None:
        """Make the database whole under another name and move it into place: nobody sees it half made."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self._folder / ".lock"):
            if self._database.exists():
                return
            fresh = self._folder / "history.new"
            fresh.unlink(missing_ok=True)
            database = sqlite3.connect(fresh, isolation_level=None)
            database.executescript(f"{_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION};")
            database.execute("PRAGMA journal_mode = WAL")
            database.close()
            os.replace(fresh, self._database)


def _filtered(query: str, verdict: AnyVerdict | None) -> tuple[str, tuple[str, ...]]:
    return (query, ()) if verdict is None else (f"{query} WHERE verdict = ?", (verdict,))


def _in_use(database: sqlite3.Connection, sha256: str) -> bool:
    return database.execute("SELECT 1 FROM entries WHERE clip_sha256 = ? LIMIT 1", (sha256,)).fetchone() is not None


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0


def _remedy(error: sqlite3.Error) -> str:
    text = str(error)
    if "full" in text:
        return "make room on the disk."
    if "locked" in text or "busy" in text:
        return "another HerdLens process is using it; try again."
    if "readonly" in text or "unable to open" in text:
        return "make the folder writable."
    return "move the file history.sqlite3 away; the clips stay."
