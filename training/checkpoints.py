"""Durable state of a run: a checkpoint is there whole or not at all.

A checkpoint is a folder ``checkpoint-NNNNNN`` (optimizer steps done) under the run's output. It is written under
another name, flushed to disk, and renamed; only then are older ones removed. One of the same step (a step's own and its
epoch's end) is put aside as ``.checkpoint-NNNNNN.before`` first: there is a whole one at every moment. Tensors are
safetensors, the rest JSON: nothing is unpickled.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from services.errors import InputError
from training.disk import writing

PREFIX = "checkpoint-"


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """``state``: counters and history as JSON; ``weights``: trained parameters by name; ``best``: those of the best
    epoch so far, empty before the first; ``optimizer``: ``<parameter>/<slot>``; ``rng``: torch's generators."""

    state: Mapping[str, Any]
    weights: Mapping[str, torch.Tensor]
    best: Mapping[str, torch.Tensor]
    optimizer: Mapping[str, torch.Tensor]
    rng: Mapping[str, torch.Tensor]


def save(folder: Path, step: int, checkpoint: Checkpoint) -> Path:
    """Write ``checkpoint`` and remove older ones. On any failure the last good one stays; ResourceError when the disk
    is full."""
    final = folder / f"{PREFIX}{step:06d}"
    part = folder / f".{final.name}.{os.getpid()}.part"
    aside = folder / f".{final.name}.before"
    shutil.rmtree(part, ignore_errors=True)
    try:
        with writing(folder):
            part.mkdir(parents=True)
            for name in ("weights", "best", "optimizer", "rng"):
                tensors = {key: value.contiguous() for key, value in getattr(checkpoint, name).items()}
                save_file(tensors, part / f"{name}.safetensors")
            (part / "state.json").write_text(json.dumps(checkpoint.state), encoding="utf-8")
            for file in (*part.iterdir(), part):
                _flush(file)
            if final.exists():
                shutil.rmtree(aside, ignore_errors=True)
                os.replace(final, aside)
            os.replace(part, final)
            _flush(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    _remove(place for place in _all(folder) if place != final)
    return final


def present(folder: Path) -> Path | None:
    """The newest checkpoint's folder."""
    found = sorted(folder.glob(f"{PREFIX}*")) or sorted(folder.glob(f".{PREFIX}*.before"))
    return found[-1] if found else None


def latest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint under ``folder``; None when there is none. InputError when it is damaged."""
    place, told = present(folder), state(folder)
    if place is None or told is None:
        return None
    try:
        tensors = {name: load_file(place / f"{name}.safetensors") for name in ("weights", "best", "optimizer", "rng")}
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(_damaged(place)) from error
    return Checkpoint(told, **tensors)


def state(folder: Path) -> Mapping[str, Any] | None:
    """The newest checkpoint's ``state`` alone; None when there is none, InputError when it is damaged."""
    place = present(folder)
    if place is None:
        return None
    try:
        found: Mapping[str, Any] = json.loads((place / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(_damaged(place)) from error
    return found


def _damaged(place: Path) -> str:
    return f"The checkpoint {place} cannot be read; delete it to start anew."


def remove_all(folder: Path) -> None:
    """Checkpoints and their unfinished parts, once the adapter itself is written."""
    _remove(_all(folder))


def _remove(places: Iterable[Path]) -> None:
    """Each is taken away under another name first: killed half-way, no damaged checkpoint is left."""
    for place in places:
        gone = place
        if place.name.startswith(PREFIX):
            gone = place.with_name(f".{place.name}.gone")
            with suppress(OSError):
                os.replace(place, gone)
        shutil.rmtree(gone, ignore_errors=True)


def _all(folder: Path) -> list[Path]:
    """Checkpoints, those put aside, and what killed runs left unfinished."""
    return [place for shape in (f"{PREFIX}*", f".{PREFIX}*") for place in folder.glob(shape)]


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: Mapping[str, nn.Parameter]) -> dict[str, torch.Tensor]:
    """The optimizer's state by parameter name and slot."""
    return {
        f"{name}/{slot}": torch.as_tensor(value).cpu()
        for name, parameter in names.items()
        for slot, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer(
    optimizer: torch.optim.Optimizer, names: Mapping[str, nn.Parameter], tensors: Mapping[str, torch.Tensor]
) -> None:
    """Put ``tensors`` back; the counterpart of ``optimizer_tensors``."""
    for key, value in tensors.items():
        name, _, slot = key.rpartition("/")
        parameter = names[name]
        optimizer.state[parameter][slot] = value if slot == "step" else value.to(parameter.device)


def rng_tensors() -> dict[str, torch.Tensor]:
    """States of torch's generators: dropout continues where it was."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def load_rng(tensors: Mapping[str, torch.Tensor]) -> None:
    torch.set_rng_state(tensors["cpu"])
    if "cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["cuda"])


def _flush(place: Path) -> None:
    """fsync a file or folder (folders cannot be flushed on Windows)."""
    if place.is_dir() and os.name == "nt":
        return
    handle = os.open(place, os.O_RDONLY if place.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
