"""What a run's numbers are multiplied in, chosen for the device where nothing else is said."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch

from services.errors import ModelError
from training.settings import TrainConfig

NATIVE = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
"""Names that ``torch.cpu.get_capabilities`` gives to multiplying bfloat16, on x86-64 and on Arm."""


def device_of(config: TrainConfig) -> torch.device:
    """ModelError where a GPU was asked for and none can be used."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ModelError("Training on 'cuda' was asked for, but no GPU can be used; take --device cpu.")
    if config.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def settled(config: TrainConfig) -> TrainConfig:
    """``config`` with the precision that it leaves open: bfloat16 on a GPU and on a CPU that multiplies it, else
    float32, because a CPU that only imitates bfloat16 takes several times as long (``make bench``)."""
    if config.precision != "auto":
        return config
    return replace(config, precision=multiplied() if device_of(config).type == "cpu" else "bf16")


def native_bfloat16() -> bool:
    """Whether this machine's CPU has instructions that multiply bfloat16."""
    return any(torch.cpu.get_capabilities().get(name, False) for name in NATIVE)


def multiplied() -> Literal["bf16", "fp32"]:
    """What is multiplied fastest on this CPU, by the name that settings give it."""
    return "bf16" if native_bfloat16() else "fp32"


def cpu_dtype() -> torch.dtype:
    """The type of ``multiplied``."""
    return torch.bfloat16 if native_bfloat16() else torch.float32


def cpu_autocast() -> torch.autocast:
    """Under it float32 modules multiply in ``cpu_dtype``."""
    return torch.autocast("cpu", torch.bfloat16, enabled=native_bfloat16())
