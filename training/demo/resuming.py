"""A stage's training in the middle: weights, optimisers and where it stood, in one file that is there whole or not."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

EVERY_S = 120.0


class Resume:
    """The state of one training in ``path`` (None: nothing is kept). ``writes``: whether this process keeps it. ``of``:
    digest of what is trained on what; a state of anything else is not gone on with."""

    def __init__(self, path: Path | None, writes: bool = True, of: str = "") -> None:
        self.path, self.writes, self.of = path, writes, of
        self._saved_at = time.monotonic()

    def holds(self, run: str) -> bool:
        """Whether the kept state is of the training called ``run``."""
        return self._read(run) is not None

    def load(self, module: nn.Module, optimisers: Sequence[torch.optim.Optimizer], run: str) -> float | None:
        """Put the kept state of ``run`` into module and optimisers; where it stood, or None where nothing of it is
        kept."""
        state = self._read(run)
        if state is None:
            return None
        module.load_state_dict(state["weights"])
        for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        return float(state["at"])

    def save(
        self,
        module: nn.Module,
        optimisers: Sequence[torch.optim.Optimizer],
        run: str,
        at: float,
        *,
        now: bool = False,
    ) -> None:
        """Keep the state, at most every ``EVERY_S`` seconds unless ``now``."""
        if self.path is None or not self.writes or (not now and time.monotonic() - self._saved_at < EVERY_S):
            return
        self._saved_at = time.monotonic()
        part = self.path.with_suffix(".part")
        states = [optimiser.state_dict() for optimiser in optimisers]
        torch.save({"of": self.of, "run": run, "weights": module.state_dict(), "optimisers": states, "at": at}, part)
        part.replace(self.path)

    def forget(self) -> None:
        """Delete the state of a stage that is done, so that the stage can be made anew."""
        if self.path is not None and self.writes:
            self.path.unlink(missing_ok=True)

    def _read(self, run: str) -> dict[str, Any] | None:
        if self.path is None or not self.path.exists():
            return None
        found: dict[str, Any] = torch.load(self.path, weights_only=True)
        return found if (found.get("of"), found["run"]) == (self.of, run) else None
