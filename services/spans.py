"""Overlapping spans of a clip, each looked at as if it were a clip: what an embedder of order and speed compares.

A vector of the whole clip alone says little about when something happens, and at sixteen pictures over many seconds
quick movement falls between them. The halves are seen at twice the rate; their vectors stand one behind the other, so
that the first half is compared with the first and the last with the last.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SHARES = ((0.0, 1.0), (0.0, 0.5), (0.25, 0.75), (0.5, 1.0))
"""Start and end of each span, as shares of the time from the first picture to the last. The whole comes first."""
NAME = "whole, first, middle and last half in order"


def positions(pictures: int, frames: int) -> NDArray[np.int64]:
    """(spans, frames): which of ``pictures`` evenly spaced ones each span shows, ascending."""
    last = pictures - 1
    rows = [np.floor(np.linspace(a * last, b * last, frames) + 0.5) for a, b in SHARES]
    return np.asarray(rows, np.int64)
