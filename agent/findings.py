"""One line of doctor's check-up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from services.errors import HerdLensError


@dataclass(frozen=True, slots=True)
class Finding:
    """``remedy`` says what to do when ``good`` is false."""

    what: str
    good: bool
    value: str
    remedy: str = ""


def tried(what: str, check: Callable[[], str]) -> Finding:
    """What ``check`` says, or its failure as the remedy."""
    try:
        return Finding(what, True, check())
    except HerdLensError as error:
        return Finding(what, False, "missing", str(error))
