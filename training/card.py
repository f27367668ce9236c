"""The model card of an adapter: base, data, settings, figures with their numbers, limits. Nothing in it is written by
hand: every figure is of the run's own metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from services.training_runs import START
from training.progress import COLUMNS
from training.settings import TrainConfig

MEASURES = {
    "validation_loss": "loss per answer token",
    "balanced_accuracy_off": "balanced accuracy of the scored verdict, clip alone",
    "balanced_accuracy_contrastive": "balanced accuracy of the scored verdict, with two reference cases",
}
SHOWN = (
    *("targets", "rank", "alpha", "dropout", "precision", "batch", "accumulation", "epochs", "learning_rate"),
    *("warmup_share", "weight_decay", "clip_norm", "patience", "bare_share", "context", "context_share"),
    *("frames", "window_s", "min_pixels", "max_pixels", "max_length", "validation_share", "seed"),
)
"""Settings that change what the adapter learns."""


def card(config: TrainConfig, model: str, described: Sequence[str], metrics: Mapping[str, Any]) -> str:
    """Markdown. ``model`` is the base's public name, ``described`` what was done to it, ``metrics`` as in
    metrics.json."""
    parts = [
        [f"# {config.name}"],
        [f"LoRA adapter for `{model}`, task `{config.task}`, trained by training/Qlora_train.py (QLoRA)."],
        ["## Base", "", *[f"- {line}" for line in described]],
        ["## Data", "", *_data(metrics)],
        ["## Figures", "", *_figures(metrics)],
        ["## Settings", "", "| setting | value |", "|---|---|"]
        + [f"| {key} | {getattr(config, key)} |" for key in SHOWN],
        ["## Limits", "", *[f"- {line}" for line in _limits(config, metrics)]],
    ]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _data(metrics: Mapping[str, Any]) -> list[str]:
    rows = ["| | samples | of which |", "|---|---|---|"]
    for name, number, key in (
        ("to train on", metrics["samples"], "training_strata"),
        ("held out", metrics["held_out"], "held_out_strata"),
    ):
        mixed = ", ".join(f"{count} {label}" for label, count in metrics[key].items())
        rows.append(f"| {name} | {number} | {mixed} |")
    return rows


def _figures(metrics: Mapping[str, Any]) -> list[str]:
    """What was measured on the held-out samples, the base beside the adapter, and of how many."""
    ran = [
        f"{metrics['steps']} steps in {metrics['training_seconds']} s, {metrics['samples_per_s']} samples a second; "
        f"loss of the first step {_number(metrics['first_loss'])}, mean of the last ten "
        f"{_number(metrics['last_loss'])}."
    ]
    start = metrics.get("started_from")
    if start is not None:
        ran.append(f"It went on from the adapter `{start['name']}` of {start['created_at'] or 'an unknown date'}.")
    found = [key for key in COLUMNS if key in MEASURES and metrics.get(key) is not None]
    if not found:
        return [*ran, "", "Nothing was held out, so nothing was measured on samples that were not trained on."]
    columns = {"base": "base_", **({"started from": START} if start else {}), "adapter": ""}
    rows = [
        [MEASURES[key], *(_number(metrics.get(f"{of}{key}")) for of in columns.values()), _counted(key, metrics)]
        for key in found
    ]
    best = f"The weights are those of epoch {metrics['best_epoch'] + 1}, which had the lowest held-out loss."
    return [
        *ran,
        best,
        "",
        f"| held out | {' | '.join(columns)} | n |",
        f"|---|{'---|' * len(columns)}---|",
        *[f"| {' | '.join(row)} |" for row in rows],
    ]


def _counted(key: str, metrics: Mapping[str, Any]) -> str:
    """How many samples a figure is of: balanced accuracy looks at clips with a label only."""
    if key == "validation_loss":
        return str(metrics["held_out"])
    return str(sum(metrics["held_out_strata"].get(label, 0) for label in ("mounting", "normal")))


def _limits(config: TrainConfig, metrics: Mapping[str, Any]) -> list[str]:
    lines = [
        "Held-out figures are of the training run: quantised base, verdict by score at one half, not calibrated. The "
        "epoch was chosen on the same samples, so they flatter a little.",
        "The adapter knows only what its samples and those before them show; check it on your own barn before you rely "
        "on it."
        if metrics.get("started_from")
        else "The adapter knows only what its samples show; check it on your own barn before you rely on it.",
        f"It fits this base and preprocessing ({config.frames} frames, {config.min_pixels} to {config.max_pixels} "
        "pixels) and is refused elsewhere.",
    ]
    if metrics.get("started_from") and metrics["held_out"]:
        lines.append("The adapter that it went on from may have been trained on the samples that were held out here.")
    if 0 < metrics["held_out"] < 100:
        lines.append(f"{metrics['held_out']} held-out samples are few: one more error moves a share by about "
                     f"{1 / metrics['held_out']:.0%}.")  # fmt: skip
    if config.targets != "language":
        lines.append("It reaches into the vision tower: PEFT loads it, HerdLens and vLLM do not serve it.")
    return lines


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
