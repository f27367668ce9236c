"""How good the adapter is on held-out clips: the training loss, and the verdict as serving scores it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from agent.verdict import softmax_mounting
from services.schema import LABELS, Label
from training.base import Base
from training.data import Sample
from training.questions import scored_name
from training.steps import Examples, losses


@dataclass(frozen=True, slots=True)
class Validation:
    """``loss``: mean of the samples' losses. ``balanced``: balanced accuracy of the scored verdict at ½, by context
    mode (empty without mounting clips of both labels)."""

    loss: float
    balanced: dict[str, float]

    def text(self) -> str:
        named = {"off": "alone", "contrastive": "with cases"}
        scores = ", ".join(f"{named[mode]} {value:.3f}" for mode, value in self.balanced.items())
        return f"validation loss {self.loss:.4f}" + (f", balanced accuracy {scores}" if scores else "")


def validate(base: Base, examples: Examples, samples: Sequence[Sample], order: Sequence[Sequence[int]]) -> Validation:
    """Run ``samples`` in the batches of ``order`` without dropout; leaves the model in training mode."""
    base.model.eval()
    try:
        total, count = 0.0, 0
        verdicts: dict[str, list[tuple[Label, bool]]] = defaultdict(list)
        for indices in order:
            part = [samples[i] for i in indices]
            batch = examples.validation_batch(part)
            with torch.no_grad():
                found = losses(base, batch).cpu()
            total += float((found * batch.weight).sum()) * len(part)
            count += len(part)
            sums = torch.zeros(len(batch.branches)).index_add_(0, batch.branch, -found).tolist()
            scores = {(row, branch.name): sums[i] for i, (row, branch) in enumerate(batch.branches)}
            for row, sample in enumerate(part):
                if sample.label is None:
                    continue
                for mode in ("off", "contrastive"):
                    pair = [scores.get((row, scored_name(mode, label))) for label in LABELS]
                    if pair[0] is not None and pair[1] is not None:
                        said_mounting = softmax_mounting((pair[0], pair[1])) >= 0.5
                        verdicts[mode].append((sample.label, said_mounting == (sample.label == "mounting")))
    finally:
        base.model.train()
    balanced = {mode: _balanced(found) for mode, found in verdicts.items()}
    return Validation(total / max(count, 1), {mode: value for mode, value in balanced.items() if value is not None})


def _balanced(verdicts: Sequence[tuple[Label, bool]]) -> float | None:
    """Mean of the two labels' shares of right verdicts; None when a label is absent."""
    shares = []
    for label in LABELS:
        right = [ok for of, ok in verdicts if of == label]
        if not right:
            return None
        shares.append(sum(right) / len(right))
    return sum(shares) / len(shares)
