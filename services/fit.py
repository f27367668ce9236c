"""Whether a profile's base model is whole and fits this machine: what doctor asks. Predictions, no loading."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from services.errors import ModelError
from services.memory import CONTEXT, GIB, Form, inference, sizes
from services.settings import Profile

NEEDED = ("config.json", "tokenizer_config.json")
PROCESSOR = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")
INDEX = "model.safetensors.index.json"
QUESTION_TOKENS = 1024
"""Tokens around the pictures that are counted on: question, two described cases, times."""
NATIVE_FP8 = (8, 9)
"""Compute capability from which NVIDIA GPUs multiply in FP8; vLLM unpacks the weights on older ones."""


@dataclass(frozen=True, slots=True)
class Fit:
    """Bytes that an analysis needs and that the device has; ``device`` in words."""

    need: int
    there: int
    device: str

    @property
    def good(self) -> bool:
        return self.need <= self.there

    def __str__(self) -> str:
        return f"{self.need / GIB:.1f} GB needed, {self.there / GIB:.1f} GB on {self.device}"


def incomplete(folder: Path, *, weights: bool = True) -> list[str]:
    """Names of files that the model in ``folder`` lacks; every shard that its index names has to be there."""
    lacking = [name for name in NEEDED if not (folder / name).is_file()]
    if not any((folder / name).is_file() for name in PROCESSOR):
        lacking.append(PROCESSOR[0])
    if not weights:
        return lacking
    index = folder / INDEX
    if index.is_file():
        try:
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, AttributeError):
            return [*lacking, INDEX]
        return [*lacking, *sorted(name for name in shards if not (folder / name).is_file())]
    if not any(folder.glob("*.safetensors")):
        lacking.append("model.safetensors")
    return lacking


def quantisation_of(folder: Path) -> str:
    """``quant_method`` of the checkpoint's configuration; empty where it is not quantised."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder} holds no readable config.json, so it is not a model folder.") from error
    return str(config.get("quantization_config", {}).get("quant_method", ""))


def fit(profile: Profile, folder: Path, device: str) -> Fit:
    """Memory of one analysis by both variants against what ``device`` (``cpu`` or ``cuda``) has in all."""
    form: Form = "nf4" if profile.quantisation == "nf4" else "fp8" if quantisation_of(folder) == "fp8" else "none"
    estimate = inference(
        sizes(str(folder)),
        form=form,
        dtype=profile.dtype,
        frames=profile.frames,
        pixels=profile.max_pixels,
        text_tokens=QUESTION_TOKENS,
        new_tokens=profile.max_tokens,
        context=CONTEXT if device == "cuda" else 0,
    )
    if device == "cuda":
        return Fit(estimate.total, torch.cuda.get_device_properties(0).total_memory, torch.cuda.get_device_name(0))
    return Fit(estimate.total, psutil.virtual_memory().total, "this machine")


def server_device() -> str:
    """Where ``make serve`` would run a model on this machine."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def context_needed(profile: Profile, folder: Path) -> int:
    """Tokens of one question with its clip in the largest size and the longest answer."""
    pictures = sizes(str(folder)).tokens(profile.frames, profile.max_pixels)
    return pictures + QUESTION_TOKENS + profile.max_tokens
