"""What a linear reader finds in the frozen tower's features: a measure of what the text model can be told by them.

A logistic regression on each clip's features (mean over tokens and time, and mean over time of the largest token, of
the pooled tokens and both deepstack levels), learnt on the calibration set, which the tower never saw.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from training.demo.harvest import Stored
from training.demo.shares import Share, share

Clips = tuple[Stored, NDArray[np.float16]]
"""A set with the tower's features (N, groups, 3, tokens, width)."""
STRENGTH = 0.01
"""Inverse of the regularisation (scikit-learn's ``C``): there are as many features as clips."""
ASKED: dict[str, Callable[[dict[str, Any]], str]] = {
    "number of animals": lambda facts: str(facts["animals"]),
    "behaviour": lambda facts: "mounting" if facts["label"] == "mounting" else facts["kind"],
    "label": lambda facts: facts["label"],
}


def probe(known: Clips, seen: Clips) -> dict[str, Share]:
    """By what was asked, the share of ``seen`` that is named rightly after learning on ``known``."""
    table, own = _table(known[1]), _table(seen[1])
    found = {}
    for name, answer in ASKED.items():
        truth, true = (np.array([answer(note["facts"]) for note in stored.notes]) for stored, _ in (known, seen))
        reader = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=500)).fit(table, truth)
        found[name] = share(reader.predict(own) == true)
    return found


def _table(features: NDArray[np.float16]) -> NDArray[np.float32]:
    """(N, 6 · width) of (N, groups, 3, tokens, width)."""
    values = np.asarray(features, np.float32)
    return np.concatenate(
        [values.mean((1, 3)).reshape(len(values), -1), values.max(3).mean(1).reshape(len(values), -1)], 1
    )
