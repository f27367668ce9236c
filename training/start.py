"""A run may go on from a finished adapter: checked before the base is loaded, then put where random weights stand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file

from services.adapters import AdapterRecord, check_base, validate
from services.adapters_check import CONFIG, WEIGHTS, read_json
from services.errors import AdapterError
from training.settings import TrainConfig


def check_start(config: TrainConfig, record: Mapping[str, Any]) -> AdapterRecord | None:
    """The adapter that ``config.start`` names, or None. AdapterError unless it is of the base, preprocessing and task
    of this run's own ``record``, and of its rank and alpha."""
    if config.start is None:
        return None
    start = validate(config.start)
    if start.task != record["task"]:
        raise AdapterError(
            f"The adapter {start.name!r} was trained for the task {start.task!r}, this run is for {record['task']!r}; "
            "start from another, or name its task with --task."
        )
    check_base(start, record["base_model"], record["architecture"], record["weights"], record["preprocessing"])
    if start.alpha % 1 or read_json(config.start / CONFIG).get("use_rslora"):
        raise AdapterError(
            f"The adapter {start.name!r} is scaled as no training here does (alpha {start.alpha:g}); start from one "
            "that training/Qlora_train.py made."
        )
    if (start.rank, start.alpha) != (config.rank, config.alpha):
        raise AdapterError(
            f"The adapter {start.name!r} has rank {start.rank} and alpha {start.alpha:g}, this run {config.rank} and "
            f"{config.alpha}; leave --rank and --alpha out, or give its own."
        )
    return start


def going_on(start: AdapterRecord | None) -> list[str]:
    """What is told of it before the run."""
    return [] if start is None else [f"It goes on from the adapter {start.name!r} in {start.folder}."]


def begin_with(peft: PeftModel, folder: Path) -> None:
    """Copy the adapter in ``folder`` over the random weights of ``peft``; AdapterError where it has other layers."""
    weights = load_file(folder / WEIGHTS)
    if weights.keys() != get_peft_model_state_dict(peft).keys():
        raise AdapterError(
            f"The adapter in {folder} was trained on other layers than this run trains; start from one that "
            "training/Qlora_train.py made with the same --targets."
        )
    set_peft_model_state_dict(peft, weights)
