"""How a file is called in a sentence. Shared by both sides of the worker's pipe; needs neither PyAV nor NumPy."""

from __future__ import annotations

import os


def shown_name(path: str) -> str:
    """A file's name as messages show it: one line, printable, not endless."""
    name = "".join(char if char.isprintable() else "?" for char in os.path.basename(path) or path)
    return name if len(name) <= 80 else f"{name[:50]}…{name[-25:]}"
