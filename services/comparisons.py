"""Comparisons of several clips through base and tuned, kept on disk so that they outlive page, browser and app.

``<folder>/<id>/comparison.json`` is one comparison, written anew after each clip, whole or not at all; ``<n>.jpg`` is a
picture of its n-th clip. The analyses themselves stand in the history; here is only what the table needs.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import secrets
import shutil
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from services import processes
from services.errors import InputError, ResourceError
from services.schema import Label, RetrievalMode, Verdict

Column = Literal["base", "tuned", "alone"]
COLUMNS: tuple[Column, ...] = ("base", "tuned", "alone")
"""``alone``: the tuned model without reference clips."""
State = Literal["running", "finished", "cancelled"]

FILE = "comparison.json"
_ID = re.compile(r"[a-z2-7]{8}")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Judged:
    """One column's word on a clip. ``p`` is the probability of mounting that the verdict rests on (None where none
    counts, as with unusable pictures), ``p_alone`` the model's own before calibration and vote; ``error`` a sentence
    when there is no verdict."""

    verdict: Verdict | None = None
    p: float | None = None
    p_alone: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Compared:
    """One clip. ``label`` is what an annotation file says of it; ``window`` the span to look at (None: chosen by
    motion). Set once it was looked at: ``columns``, ``sha256``, ``report_id`` of the history, or ``error``."""

    path: str
    name: str
    label: Label | None = None
    window: tuple[float, float] | None = None
    columns: Mapping[Column, Judged] = field(default_factory=dict)
    sha256: str | None = None
    report_id: str | None = None
    error: str | None = None

    @property
    def done(self) -> bool:
        return bool(self.columns) or self.error is not None


@dataclass(frozen=True, slots=True)
class Comparison:
    """``adapter`` and ``digest`` name what ``tuned`` ran with (None: the profile has none), ``retrieval`` how base and
    tuned were shown reference clips. ``owner`` identifies the process that runs it."""

    id: str
    created_at: str
    profile: str
    adapter: str | None
    digest: str | None
    retrieval: RetrievalMode
    items: tuple[Compared, ...]
    state: State = "running"
    owner: Mapping[str, float] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """How many clips were looked at."""
        return sum(item.done for item in self.items)

    def with_item(self, index: int, item: Compared) -> Comparison:
        """The comparison with its clip ``index`` replaced."""
        return replace(self, items=(*self.items[:index], item, *self.items[index + 1 :]))


FoundComparisons = list[Comparison]


def new_id() -> str:
    """Short, fit for a link."""
    return base64.b32encode(secrets.token_bytes(5)).decode().lower()


def now() -> str:
    """This moment as ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Comparisons:
    """The comparisons in ``folder``, which the first ``save`` creates. Safe between processes: each comparison is
    written by the one that owns it."""

    def __init__(self, folder: Path) -> None:
        self._folder = Path(folder).absolute()

    def own(self, comparison: Comparison) -> Comparison:
        """Write it as running, owned by this process from now on."""
        owned = replace(comparison, state="running", owner=processes.me())
        self.save(owned)
        return owned

    @staticmethod
    def is_own(comparison: Comparison) -> bool:
        """Whether this process is the one that runs it, or did."""
        return comparison.owner == processes.me()

    @staticmethod
    def has_owner(comparison: Comparison) -> bool:
        """Whether the process that runs it is still there."""
        return processes.is_running(comparison.owner)

    def save(self, comparison: Comparison) -> None:
        """Write it, whole or not at all; ResourceError when it cannot be written."""
        folder = self._folder / comparison.id
        part = folder / f".{os.getpid()}.{threading.get_ident()}.part"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(asdict(comparison)), encoding="utf-8")  # ASCII: a path need not be text
            os.replace(part, folder / FILE)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise ResourceError(
                f"The comparison could not be written to {folder} ({error.strerror}); make room on the disk."
            ) from error

    def get(self, id: str) -> Comparison:
        """The comparison ``id``; InputError if there is none (any more)."""
        found = self._read(self._folder / id / FILE) if _ID.fullmatch(id) else None
        if found is None:
            raise InputError(f"There is no comparison {id!r}; it may have been deleted.")
        return found

    def list(self) -> FoundComparisons:
        """All of them, newest first."""
        found = [self._read(file) for file in self._folder.glob(f"*/{FILE}")]
        return sorted((one for one in found if one is not None), key=lambda one: one.created_at, reverse=True)

    def delete(self, id: str) -> None:
        """Delete it; its analyses stay in the history."""
        shutil.rmtree(self._folder / self.get(id).id, ignore_errors=True)

    def keep_picture(self, id: str, index: int, jpeg: bytes) -> None:
        """Keep a picture of clip ``index``; a full disk costs the picture only."""
        try:
            (self._folder / id / f"{index}.jpg").write_bytes(jpeg)
        except OSError as error:
            _log.warning("no picture of clip %d of comparison %s: %s", index, id, error)

    def picture(self, id: str, index: int) -> bytes | None:
        """The JPEG of clip ``index``, None where there is none."""
        try:
            return (self._folder / id / f"{index}.jpg").read_bytes()
        except OSError:
            return None

    def _read(self, file: Path) -> Comparison | None:
        """None where the file is gone or damaged, which costs this comparison and no other."""
        try:
            return _parsed(json.loads(file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            _log.warning("%s cannot be read: %s", file, error)
            return None


def _parsed(told: dict[str, Any]) -> Comparison:
    items = tuple(
        Compared(
            **{
                **item,
                "window": tuple(item["window"]) if item["window"] else None,
                "columns": {name: Judged(**column) for name, column in item["columns"].items()},
            }
        )
        for item in told["items"]
    )
    return Comparison(**{**told, "items": items})
