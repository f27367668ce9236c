"""The settings of one fine-tuning run: one frozen value, written next to the adapter and compared on ``--resume``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from services.adapters_check import MAX_RANK
from services.errors import SettingsError
from services.settings import profile

ContextMode = Literal["off", "contrastive", "mixed"]
Targets = Literal["language", "vision", "all"]
Precision = Literal["auto", "bf16", "fp32"]
Device = Literal["auto", "cpu", "cuda"]
Expand = Literal["auto", "on", "off"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """``model``: folder of a Qwen-VL checkpoint (or a hub id that is already on this machine). ``frames``,
    ``window_s``, ``min_pixels`` and ``max_pixels`` are the profile's and make the preprocessing contract.

    ``bare_share`` is the weight of the bare ``Status: …`` answer (the form that scoring reads) against the answer
    with its reason; ``context_share`` how often ``mixed`` also asks with two reference cases, ``contrastive`` always
    does, ``off`` never. ``max_length`` counts tokens of the longest single question with its answer.

    ``targets``: the language layers' projections, the vision tower's linears, or both. A tower that is trained itself
    runs for every batch; and neither vLLM nor this program serves an adapter with a vision side.

    ``start``: folder of a finished adapter that the run goes on from, instead of random weights: more clips, or another
    way of asking. Base, preprocessing, task, rank and alpha have to be its own; only adapters of the language side are
    gone on from.

    ``precision``: what is multiplied in; ``auto`` is chosen for the device (``training.precision``). What was chosen
    stands in the adapter's card, in its metrics and in checkpoints, and a resumed run keeps to it.

    ``expand``: hold the NF4 weights dequantised while training. They keep exactly the NF4 values, so the arithmetic
    is the same; it costs 2 bytes a weight, in float32 4, and spares the slow 4-bit product of CPUs (``auto``: on CPU
    only)."""

    model: str
    output: Path
    name: str = "mounting"
    task: str = "mounting"

    frames: int = 16
    window_s: float = 60.0
    min_pixels: int = 16384
    max_pixels: int = 30400

    start: Path | None = None

    targets: Targets = "language"
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.05
    precision: Precision = "auto"
    device: Device = "auto"
    expand: Expand = "auto"
    gradient_checkpointing: bool = False

    epochs: int = 6
    max_steps: int | None = None
    batch: int = 16
    accumulation: int = 1
    learning_rate: float = 2e-3
    warmup_share: float = 0.05
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    patience: int = 3
    seed: int = 0

    bare_share: float = 0.5
    context: ContextMode = "mixed"
    context_share: float = 0.5
    context_neighbours: int = 8
    max_length: int = 2048

    validation_share: float = 0.1
    save_every: int = 200
    cache: Path | None = None

    def __post_init__(self) -> None:
        problems = [text for wrong, text in self._checks() if wrong]
        if problems:
            raise SettingsError(f"The training settings cannot be used: {'; '.join(problems)}.")

    def _checks(self) -> tuple[tuple[bool, str], ...]:
        shares = {
            "bare_share": self.bare_share,
            "context_share": self.context_share,
            "warmup_share": self.warmup_share,
        }
        counts = {
            "rank": self.rank,
            "alpha": self.alpha,
            "epochs": self.epochs,
            "batch": self.batch,
            "accumulation": self.accumulation,
            "patience": self.patience,
            "save_every": self.save_every,
            "context_neighbours": self.context_neighbours,
            "max_length": self.max_length,
        }
        return (
            *((not 0.0 <= value <= 1.0, f"{key} is {value}, it must lie in 0…1") for key, value in shares.items()),
            *((value < 1, f"{key} is {value}, it must be 1 or more") for key, value in counts.items()),
            (self.rank > MAX_RANK, f"rank is {self.rank}, at most {MAX_RANK} is allowed"),
            (not 0.0 <= self.dropout < 1.0, f"dropout is {self.dropout}, it must lie in 0…1"),
            (not 0.0 <= self.validation_share < 0.9, f"validation_share is {self.validation_share}, take 0…0.9"),
            (not self.learning_rate > 0.0, f"learning_rate is {self.learning_rate}, it must be positive"),
            (not self.clip_norm > 0.0, f"clip_norm is {self.clip_norm}, it must be positive"),
            (self.targets not in get_args(Targets), f"targets is {self.targets!r}, take {_either(Targets)}"),
            (self.context not in get_args(ContextMode), f"context is {self.context!r}, take {_either(ContextMode)}"),
            (self.precision not in get_args(Precision), f"precision is {self.precision!r}, take {_either(Precision)}"),
            (self.expand not in get_args(Expand), f"expand is {self.expand!r}, take {_either(Expand)}"),
            (self.device not in get_args(Device), f"device is {self.device!r}, take {_either(Device)}"),
            (self.max_steps is not None and self.max_steps < 1, f"max_steps is {self.max_steps}, take 1 or more"),
        )


def _either(choices: Any) -> str:
    return " or ".join(get_args(choices))


SMALLEST_TOKEN = 28 * 28
"""Pixels behind one token of the architecture with the smallest patches (Qwen2-VL: 14, two by two merged)."""
MARKS, WORDS = 16, 1024
"""Tokens of a group's time and marks, and of question and answer, at most."""


def longest(frames: int, pixels: int) -> int:
    """Tokens that one question about one clip may need: ``frames`` two by two of ``pixels`` each, times and marks,
    question and answer; at least 2,048 and a multiple of 256."""
    groups = math.ceil(frames / 2)
    needed = groups * (math.ceil(pixels / SMALLEST_TOKEN) + MARKS) + WORDS
    return max(2048, math.ceil(needed / 256) * 256)


def from_profile(known: str, /, model: str | None = None, **values: Any) -> TrainConfig:
    """Settings with the base model, frames, pixel budget and training defaults of profile ``known``; what is None in
    ``values`` is the profile's. SettingsError on a wrong value."""
    chosen = profile(known)
    base = {
        **chosen.training.model_dump(),
        "max_length": longest(chosen.frames, chosen.max_pixels),
        "model": model or chosen.base_model,
        "frames": chosen.frames,
        "window_s": chosen.window_s,
        "min_pixels": chosen.min_pixels,
        "max_pixels": chosen.max_pixels,
    }
    return TrainConfig(**{**base, **{key: value for key, value in values.items() if value is not None}})
