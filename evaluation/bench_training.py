"""Fine-tuning with and without the feature cache, and by transformers' Trainer: the same clips, side by side.

Each way runs in a process of its own, so that its memory counts alone. Filling the cache is part of the cached way's
time; loading the model and libraries is not part of anyone's (``wall_s`` has it). Same base, precision, seed, batches
and learning rates, no dropout, one question a clip, so the losses can be compared step by step. One more run takes the
precision that is not chosen on this machine.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from services.settings import ROOT

CLIPS, EPOCHS, BATCH, SEED = 24, 3, 4, 700_000
ALONE = ("--context", "off", "--bare-share", "0", "--dropout", "0", "--validation-share", "0")
RATE = "0.001"


def measure(clips: int = CLIPS) -> dict[str, Any]:
    """Samples a second and peak memory (MB, with the decoding process) of each way, ratios, and how far losses lie
    apart at most, relative to the loss."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "clips" / "annotations.json"
        render = ("-m", "training.demo.render", "--clips", str(clips), "--seed", str(SEED), "--out", str(data.parent))
        _run(render, folder)
        cached = _own(data, folder / "cached")
        live = _own(data, folder / "live", "--no-cache")
        other = _own(data, folder / "other", "--precision", "fp32" if cached["precision"] == "bf16" else "bf16")
        stock = _stock(data, folder)
    return {
        "cached": _shown(cached),
        "without_cache": _shown(live),
        "stock_trainer": _shown(stock),
        "precision": cached["precision"],
        f"over_{other['precision']}": cached["samples_per_s"] / other["samples_per_s"],
        "cached_over_without": cached["samples_per_s"] / live["samples_per_s"],
        "cached_over_stock": cached["samples_per_s"] / stock["samples_per_s"],
        "losses_apart_without_cache": _apart(cached["losses"], live["losses"]),
        "losses_apart_stock": _apart(cached["losses"], stock["losses"]),
    }


def _own(data: Path, output: Path, *more: str) -> dict[str, Any]:
    """``training/Qlora_train.py`` on all of ``data``."""
    shape = ("--epochs", str(EPOCHS), "--batch", str(BATCH), "--learning-rate", RATE, "--output", str(output))
    taken = _run(("training/Qlora_train.py", "--data", str(data), *shape, *ALONE, *more), output.parent)
    metrics = json.loads((output / "metrics.json").read_text(encoding="utf-8"))
    with open(output / "loss.csv", newline="", encoding="utf-8") as table:
        losses = [float(row["loss"]) for row in csv.DictReader(table) if row["loss"]]
    seconds = metrics["training_seconds"] + metrics["vision_seconds"]
    return {
        **taken,
        "samples_per_s": metrics["samples"] * EPOCHS / seconds,
        "losses": losses,
        "precision": metrics["settings"]["precision"],
    }


def _stock(data: Path, folder: Path) -> dict[str, Any]:
    """``training.stock_trainer`` on the same."""
    shape = ("--epochs", str(EPOCHS), "--batch", str(BATCH), "--learning-rate", RATE)
    taken = _run(("-m", "training.stock_trainer", "--data", str(data), *shape), folder)
    told = json.loads(taken.pop("output").splitlines()[-1])
    return {**taken, "samples_per_s": told["samples"] / told["seconds"], "losses": told["losses"]}


def _run(arguments: Sequence[str], folder: Path) -> dict[str, Any]:
    """Run a command of this project to its end; its memory is looked at every 50 ms."""
    peak, begun = 0.0, time.perf_counter()
    with open(folder / "stdout", "w+") as out, open(folder / "stderr", "w+") as errors:
        process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, stdout=out, stderr=errors, text=True)
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, _memory_mb(watched))
            time.sleep(0.05)
        out.seek(0)
        errors.seek(0)
        if process.returncode:
            raise SystemExit(f"bench: {arguments[0]} {arguments[1]} failed: {errors.read().strip().splitlines()[-1:]}")
        return {"wall_s": time.perf_counter() - begun, "peak_mb": peak, "output": out.read()}


def _memory_mb(process: psutil.Process) -> float:
    """Of the process and its children; those that end meanwhile count nothing."""
    total = 0
    try:
        for part in (process, *process.children(recursive=True)):
            total += part.memory_info().rss
    except psutil.Error:
        pass
    return total / 2**20


def _apart(first: Sequence[float], second: Sequence[float]) -> float:
    return max(abs(a - b) / max(a, b) for a, b in zip(first, second, strict=True))


def _shown(taken: dict[str, Any]) -> dict[str, float]:
    last = taken["losses"][-BATCH:]
    return {
        **{key: taken[key] for key in ("samples_per_s", "peak_mb", "wall_s")},
        "first_loss": taken["losses"][0],
        "last_loss": sum(last) / len(last),
    }


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
