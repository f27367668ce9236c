"""What a finished run leaves: the adapter as stock PEFT reads it, its record, metrics, losses and a model card."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from peft import get_peft_model_state_dict
from safetensors.torch import save_file

from services.adapters import write_record
from services.dialog import Dialog
from services.model_identity import identify
from services.training_runs import START
from training.base import Base, base_folder
from training.card import card
from training.curves import draw
from training.progress import COLUMNS, MEASURED
from training.settings import TrainConfig

METRICS = "metrics.json"


@dataclass(frozen=True, slots=True)
class Result:
    """``folder`` holds the adapter; ``metrics`` is what stands in its metrics.json."""

    folder: Path
    metrics: Mapping[str, Any]


def write_outputs(
    config: TrainConfig, base: Base, history: Mapping[str, Any], weights: Mapping[str, torch.Tensor]
) -> Result:
    """Write the adapter folder. The record comes last: a folder with a record is complete."""
    with torch.no_grad():
        parameters = dict(base.peft.named_parameters())
        for name, value in weights.items():
            parameters[name].copy_(value)
    part = config.output / f".adapter.{os.getpid()}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    metrics = _metrics(config, history)
    state = get_peft_model_state_dict(base.peft)
    tensors = {name: value.detach().cpu().to(torch.bfloat16).contiguous() for name, value in state.items()}
    save_file(tensors, part / "adapter_model.safetensors", {"format": "pt"})
    settings = base.peft.peft_config["default"]
    settings.base_model_name_or_path = _public(config.model)
    settings.inference_mode = True
    settings.save_pretrained(str(part))
    (part / METRICS).write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    with open(part / "loss.csv", "w", newline="", encoding="utf-8") as table:
        writer = csv.DictWriter(table, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(history["rows"])
    draw(history["rows"], part / "loss.png")
    text = card(config, _public(config.model), base.describe(), metrics)
    (part / "README.md").write_text(text, encoding="utf-8")
    for file in sorted(part.iterdir()):
        os.replace(file, config.output / file.name)
    part.rmdir()
    write_record(config.output, _record(config, base.dialog, metrics))
    return Result(config.output, metrics)


def _metrics(config: TrainConfig, history: Mapping[str, Any]) -> dict[str, Any]:
    losses = [row["loss"] for row in history["rows"] if "loss" in row]
    validations = [row for row in history["rows"] if "validation_loss" in row and row["step"]]
    base: Mapping[str, Any] = next((row for row in history["rows"] if not row["step"]), {})
    chosen = (row for row in validations if row["epoch"] == history["best_epoch"])
    best: Mapping[str, Any] = next(chosen, {})  # the epoch whose weights were kept
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(config).items()}
    for key in ("output", "cache", "start"):
        settings.pop(key)
    return {
        "steps": history["step"],
        "epochs": history["epoch"],
        "samples": history["samples"],
        "held_out": history["held_out"],
        "training_strata": history["training_strata"],
        "held_out_strata": history["held_out_strata"],
        "training_seconds": round(history["seconds"], 1),
        "vision_seconds": round(history["vision_seconds"], 1),
        "samples_per_s": round(
            sum(r["samples_per_s"] for r in history["rows"] if "loss" in r) / max(len(losses), 1), 2
        ),
        "first_loss": losses[0] if losses else None,
        "last_loss": sum(losses[-10:]) / len(losses[-10:]) if losses else None,
        **{key: value for key, value in best.items() if key in MEASURED},
        **{f"base_{key}": value for key, value in base.items() if key in MEASURED},
        **{key: value for key, value in base.items() if key.startswith(START)},
        "best_epoch": history["best_epoch"],
        "started_from": history["started_from"],
        "settings": settings | {"model": _public(config.model)},
    }


def _public(model: str) -> str:
    """The model's name without this machine's folders."""
    return Path(model).name if Path(model).is_absolute() else model


def check_record(config: TrainConfig, dialog: Dialog) -> Mapping[str, Any]:
    """The run's record, as far as it is known. Raises now what writing it would raise after hours: a bad name or task,
    a base without weights."""
    record = _record(config, dialog, {})
    with TemporaryDirectory() as folder:
        write_record(Path(folder), record)
    return record


def _record(config: TrainConfig, dialog: Dialog, metrics: Mapping[str, Any]) -> dict[str, Any]:
    base = identify(base_folder(config.model), _public(config.model))
    return {
        "name": config.name,
        "task": config.task,
        "base_model": base.model,
        "architecture": base.architecture,
        "weights": base.weights,
        "preprocessing": dialog.rule.digest,
        "metrics": {key: value for key, value in metrics.items() if isinstance(value, int | float)},
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
