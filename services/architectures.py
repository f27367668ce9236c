"""The published architectures that the profiles run, written down in ``assets/architectures`` with their sources.

A file holds the checkpoint's config.json, its processor settings and the ids of its special tokens, so that much can be
proved without the weights: that adapters attach, what memory is needed, what the processor prepares. Models are built
on torch's meta device, where a parameter has a shape and no memory.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText

from services.errors import InputError, ModelError
from services.settings import ROOT

FOLDER = ROOT / "assets" / "architectures"


@dataclass(frozen=True, slots=True)
class Architecture:
    """``models``: hub ids with this architecture; ``sources``: where each value was read; ``unverified``: what could
    not be checked against the original; ``published_parameters``: as published, rounded (``2.21B``)."""

    name: str
    models: tuple[str, ...]
    sources: tuple[str, ...]
    unverified: tuple[str, ...]
    published_parameters: str | None
    published_source: str | None
    config: dict[str, Any] = field(repr=False)
    processor: str
    image_processor: dict[str, Any] = field(repr=False)
    video_processor: dict[str, Any] = field(repr=False)
    special_tokens: dict[str, int] = field(repr=False)


@lru_cache(maxsize=1)
def architectures() -> dict[str, Architecture]:
    """All written architectures by name, such as ``qwen3-vl-2b``."""
    return {path.stem: _read(path) for path in sorted(FOLDER.glob("*.json"))}


def architecture(name: str) -> Architecture:
    """The architecture called ``name``, or that of the hub model ``name``; InputError lists the known ones."""
    known = architectures()
    found = known.get(name) or next((item for item in known.values() if name in item.models), None)
    if found is None:
        raise InputError(f"The architecture of {name!r} is not written down; known are {', '.join(known)}.")
    return found


def described(model: str) -> Any:
    """The transformers configuration of ``model``: a folder with config.json, a name of ``architecture``, or a hub id
    with a written architecture. Reads no weights. InputError or ModelError where there is none."""
    folder = Path(model)
    if (folder / "config.json").is_file():
        return config_of(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    return config_of(architecture(model).config)


def config_of(values: dict[str, Any]) -> Any:
    """A transformers configuration from the values of a config.json, as ``from_pretrained`` would make it."""
    rest = {key: value for key, value in values.items() if key not in ("model_type", "quantization_config")}
    try:
        return AutoConfig.for_model(values["model_type"], **rest)
    except (KeyError, ValueError, TypeError) as error:
        raise ModelError(f"The model configuration cannot be used: {error}.") from error


def on_meta(config: Any) -> nn.Module:
    """The model of ``config`` without weights, on the meta device, shared weights shared."""
    with torch.device("meta"):
        model: nn.Module = AutoModelForImageTextToText.from_config(config)
    model.tie_weights()
    return model


def parameters(model: nn.Module) -> int:
    """How many parameters ``model`` has; shared ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def _read(path: Path) -> Architecture:
    values = json.loads(path.read_text(encoding="utf-8"))
    lists: dict[str, Any] = {key: tuple(values.pop(key)) for key in ("models", "sources", "unverified")}
    return Architecture(name=path.stem, **lists, **values)
