"""Clips of which a bright block decides the label: learnable in a few steps, made without a renderer."""

from __future__ import annotations

import hashlib

import numpy as np

from services.schema import Frames, Label
from training.data import Sample

REASONS: dict[Label, str] = {
    "mounting": "A brown cow rises and puts its front legs on a white cow from 1.0 to 2.5 seconds.",
    "normal": "Two cows stand close and one rests its chin on the other.",
}


def picture(seed: int, label: Label, count: int = 4) -> Frames:
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 60, (count, 128, 128, 3), dtype=np.uint8)
    if label == "mounting":
        rgb[:, 40:90, 30:100] += np.uint8(150)
    return Frames(rgb, np.linspace(0.0, 3.0, count))


def toy(seed: int, label: Label, reason: str | None = None) -> Sample:
    return Sample(
        digest=hashlib.sha256(f"toy {seed} {label}".encode()).hexdigest(),
        frames=lambda: picture(seed, label),
        label=label,
        reason=reason or REASONS[label],
    )


def quiet(line: str) -> None:
    """Where the reports of a training go that nobody reads."""
