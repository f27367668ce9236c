"""Pictures of a report as PNG bytes. Figures are drawn without pyplot, so nothing global changes."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve

from evaluation.metrics import confusion
from evaluation.reliability import calibrated, coverage_curve
from evaluation.views import View

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c6d31")
"""Okabe and Ito's palette: told apart by colour-blind readers too."""
MOST = len(COLOURS)


def confusion_png(views: Sequence[View]) -> bytes:
    """One small table for each view: truth in rows, answers in columns."""
    columns = min(3, len(views))
    rows = -(-len(views) // columns)
    figure, axes = _figure(rows, columns, (3.4, 2.5))
    for axis, view in zip(axes, views, strict=False):
        table = np.array(confusion(view.truth, view.answers).rows())
        shares = table / np.maximum(table.sum(1, keepdims=True), 1)
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for (i, j), count in np.ndenumerate(table):
            axis.text(j, i, str(count), ha="center", va="center", color="white" if shares[i, j] > 0.55 else "black")
        axis.set_xticks(range(3), ["Mounting", "Normal", "no answer"])
        axis.set_yticks(range(2), ["Mounting", "Normal"], rotation=90, va="center")
        axis.set_title(view.title, fontsize=9)
    for axis in axes[len(views) :]:
        axis.set_axis_off()
    return _png(figure)


def roc_pr_png(views: Sequence[View]) -> bytes:
    """ROC on the left, precision over recall on the right."""
    figure, (left, right) = _figure(1, 2, (4.4, 4.0))
    for view, colour in zip(views, COLOURS, strict=False):
        truth, p = view.scored()
        false, true, _ = roc_curve(truth, p)
        precision, recall, _ = precision_recall_curve(truth, p)
        left.plot(false, true, color=colour, label=view.title)
        right.step(recall, precision, color=colour, where="post")
    left.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
    _label(left, "share of normal clips called mounting", "share of mounting clips found")
    _label(right, "recall", "precision")
    left.legend(fontsize=7, loc="lower right")
    return _png(figure)


def reliability_png(views: Sequence[View]) -> bytes:
    """Mean probability of each bin against the share of mounting in it, with Wilson's intervals; a panel for each
    view, because the intervals of several would cover each other."""
    columns = min(3, len(views))
    rows = -(-len(views) // columns)
    figure, axes = _figure(rows, columns, (3.4, 3.1))
    for axis, view, colour in zip(axes, views, COLOURS, strict=False):
        bins = calibrated(*view.scored()).bins
        x, y = [b.p for b in bins], [b.share.value for b in bins]
        below = [b.share.value - b.share.low for b in bins]
        above = [b.share.high - b.share.value for b in bins]
        axis.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
        axis.errorbar(x, y, yerr=[below, above], color=colour, marker="o", markersize=4, linewidth=1)
        _label(axis, "probability, as said", "share of mounting, as found")
        axis.set_title(view.title, fontsize=9)
    for axis in axes[len(views) :]:
        axis.set_axis_off()
    return _png(figure)


def coverage_png(views: Sequence[View]) -> bytes:
    """Accuracy among answered clips when only the surest share is answered; a dot where the verdict rule stands."""
    figure, axes = _figure(1, 1, (5.2, 4.2))
    axis = axes[0]
    for view, colour in zip(views, COLOURS, strict=False):
        coverage, accuracy = coverage_curve(*view.scored())
        axis.plot(coverage, accuracy, color=colour, label=view.title)
        counts = confusion(view.truth, view.answers)
        if view.reading == "final" and counts.answered:
            axis.plot(counts.answered / counts.n, (counts.tp + counts.tn) / counts.answered, "o", color=colour)
    _label(axis, "share of clips answered", "accuracy among them")
    axis.set_ylim(0.45, 1.01)
    axis.legend(fontsize=7, loc="lower left")
    return _png(figure)


def _figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(np.ravel(figure.subplots(rows, columns, squeeze=False)))


def _label(axis: Axes, x: str, y: str) -> None:
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.set_xlim(-0.01, 1.01)
    axis.set_ylim(-0.01, 1.01)
    axis.grid(alpha=0.25)


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110, metadata={"Software": None})
    return out.getvalue()
