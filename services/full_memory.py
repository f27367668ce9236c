"""A full GPU told in words, by those who let models run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from services.errors import HerdLensError


@contextmanager
def full_memory_told(kind: type[HerdLensError], sentence: str) -> Iterator[None]:
    """Raises ``kind`` with ``sentence``, which says what to do, where torch finds no memory inside the block."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise kind(sentence) from error
