"""The losses of a run as a picture, drawn without pyplot, so that nothing global changes and no screen is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"
"""Of Okabe and Ito's palette: told apart by colour-blind readers too."""

SCORES = {"balanced_accuracy_off": (ORANGE, "alone"), "balanced_accuracy_contrastive": (GREEN, "with cases")}


def draw(rows: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Write ``file`` (PNG): loss of each step and of each validation (step 0: the base) and, where the held-out clips
    have both labels, balanced accuracy below. ``rows`` as in loss.csv."""
    scored = any(row.get(key) is not None for row in rows for key in SCORES)
    figure = Figure(figsize=(7.0, 5.6 if scored else 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2 if scored else 1, 1, sharex=True, squeeze=False)[:, 0]
    top = panels[0]
    top.plot(*_series(rows, "loss"), color=BLUE, linewidth=0.9, label="training")
    steps, values = _series(rows, "validation_loss")
    if steps:
        top.plot(steps, values, "o-", color=ORANGE, markersize=4, label="held out (step 0: the base)")
    top.set_ylabel("loss per answer token")
    top.legend(fontsize=8)
    if scored:
        for key, (colour, name) in SCORES.items():
            steps, values = _series(rows, key)
            if steps:
                panels[1].plot(steps, values, "o-", color=colour, markersize=4, label=name)
        panels[1].set_ylim(-0.02, 1.02)
        panels[1].set_ylabel("balanced accuracy, held out")
        panels[1].legend(fontsize=8)
    for panel in panels:
        panel.grid(alpha=0.25)
    panels[-1].set_xlabel("step")
    figure.savefig(file, format="png", dpi=110, metadata={"Software": None})


def _series(rows: Sequence[Mapping[str, Any]], key: str) -> tuple[list[int], list[float]]:
    found = [(int(row["step"]), float(row[key])) for row in rows if row.get(key) is not None]
    return [step for step, _ in found], [value for _, value in found]
