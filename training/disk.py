"""A disk that is full or gone, told in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from services.errors import ResourceError


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """What fails while it is written to ``folder`` becomes a ResourceError that says how to go on."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error).strip()
        raise ResourceError(
            f"{folder} cannot be written to ({reason}); the last checkpoint, if there was one, is kept: make room and "
            "go on with --resume."
        ) from error
