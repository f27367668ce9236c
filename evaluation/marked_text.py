"""A part of a document that a command keeps up to date, between two marks of that name."""

from __future__ import annotations

from pathlib import Path

from evaluation.records import write_text
from services.errors import InputError

DEMO, AT_SIZE = "tables of the demo bundle", "calibration at size"
"""Names of parts of docs/evaluation.md."""


def marks(name: str) -> tuple[str, str]:
    """The lines before and behind the part called ``name``."""
    return f"<!-- {name}: written by a command -->", f"<!-- end of {name} -->"


def require_marks(document: Path, name: str) -> tuple[str, str]:
    """What stands before and behind the part; InputError if its marks are not there."""
    try:
        whole = document.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{document} cannot be read as UTF-8 text; give a document with the marks.") from error
    opening, closing = marks(name)
    before, start, rest = whole.partition(opening)
    _, end, after = rest.partition(closing)
    if not start or not end:
        raise InputError(f"{document} has no lines {opening!r} and {closing!r}; put them where the tables belong.")
    return before, after


def write_between(document: Path, name: str, text: str) -> None:
    """Put ``text`` between the marks; InputError if they are not there."""
    before, after = require_marks(document, name)
    opening, closing = marks(name)
    write_text(document, f"{before}{opening}\n\n{text.strip()}\n\n{closing}{after}")
