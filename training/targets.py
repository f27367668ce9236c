"""Which linears LoRA attaches to, by full module path: suffixes alone would mix language and vision, because Qwen2.5-VL
calls the parts of its vision MLP ``gate_proj``, ``up_proj`` and ``down_proj`` too."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import nn

from services.errors import ModelError
from training.settings import Targets

SUFFIXES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The projections of a language layer."""


def pattern(model: nn.Module, targets: Targets) -> str:
    """Regular expression over full module paths for ``targets``; ModelError where the model has no such part."""
    if targets == "language":
        return language_pattern(model)
    if targets == "vision":
        return vision_pattern(model)
    return f"({language_pattern(model)})|({vision_pattern(model)})"


def language_pattern(model: nn.Module) -> str:
    """The seven projections of every language layer and nothing else."""
    path = next((name for name, _ in model.named_modules() if name.endswith("language_model")), None)
    if path is None:
        raise ModelError(f"{type(model).__name__} has no language_model part; use a Qwen-VL base.")
    return rf"{re.escape(path)}\.layers\.\d+\.(self_attn|mlp)\.({'|'.join(SUFFIXES)})"


def vision_pattern(model: nn.Module) -> str:
    """Every linear of every block of the vision tower, whatever it is called there (``qkv``, ``proj``, and ``fc1``,
    ``linear_fc1`` or ``gate_proj``), and nothing else; the mergers stay as they are."""
    found = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and re.search(r"(^|\.)visual\.blocks\.\d+\.", name)
    ]
    if not found:
        raise ModelError(f"{type(model).__name__} has no visual.blocks part; use a Qwen-VL base.")
    path = found[0].partition(".blocks.")[0]
    inner = sorted({re.sub(r"^.*?\.blocks\.\d+\.", "", name) for name in found})
    return rf"{re.escape(path)}\.blocks\.\d+\.({'|'.join(map(re.escape, inner))})"


def counted(paths: Sequence[str]) -> str:
    """How many linears of which kinds, in how many language layers and vision blocks: for a person."""
    parts = []
    for side, of in (("layers", "language layers"), ("blocks", "vision blocks")):
        own = [path for path in paths if f".{side}." in path]
        if own:
            kinds = sorted({path.rpartition(".")[2] for path in own}, key=_order)
            number = len({re.sub(rf"(\.{side}\.\d+)\..*", r"\1", path) for path in own})
            parts.append(f"{len(own)} linears ({', '.join(kinds)} of {number} {of})")
    return " and ".join(parts)


def _order(kind: str) -> tuple[int, str]:
    return (SUFFIXES.index(kind) if kind in SUFFIXES else len(SUFFIXES), kind)
