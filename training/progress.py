"""The run's live log, ``progress.jsonl`` in the output folder: what a screen in another process reads.

First line: ``{"state": "running", "started_at", "resumed_at_step", "total_steps", "samples", "held_out", "settings"}``.
Then one line for each step and each validation, with the keys of ``COLUMNS`` that it has, ``seconds`` (elapsed, earlier
parts of a resumed run included) and ``left_s`` (to the last step; early stopping may end sooner). The validation of
step 0 is the base's, before anything was learned, with that of the adapter that the run goes on from, if there is one,
under the same keys after ``start_``. Last line:
``{"state": "done" | "stopped" | "failed", "message"}``, for bad data with ``problems``. A run that fails before its
first step has the last line only. Lines are flushed one by one; on ``--resume`` the log is cut back to the checkpoint.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from services.training_runs import START
from training.disk import writing

LOG = "progress.jsonl"
COLUMNS = (
    "step",
    "epoch",
    "loss",
    "learning_rate",
    "grad_norm",
    "samples_per_s",
    "validation_loss",
    "balanced_accuracy_off",
    "balanced_accuracy_contrastive",
)
"""Columns of ``loss.csv``: a step has loss to samples_per_s, a validation the last three."""

State = Literal["done", "stopped", "failed"]
MEASURED = COLUMNS[6:]
"""What a validation measures."""
_KEYS = (*COLUMNS, *(f"{START}{key}" for key in MEASURED), "seconds", "left_s")


class ProgressLog:
    """The log of the run whose output folder is ``folder``. Nothing is held open between lines."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / LOG

    def begin(self, head: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
        """Start the log anew with ``head`` and the ``rows`` that a resumed run has already; whole or not at all."""
        part = self._file.with_suffix(f".{os.getpid()}.part")
        lines = [_line({"state": "running", **head}), *(_line(_of_row(row)) for row in rows)]
        with writing(self._file.parent):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            part.write_text("".join(lines), encoding="utf-8")
            os.replace(part, self._file)

    def row(self, row: Mapping[str, Any]) -> None:
        """Append one step or validation."""
        with writing(self._file.parent):
            self._append(_of_row(row))

    def end(self, state: State, message: str, problems: Sequence[str] = ()) -> None:
        """Append how the run ended. Never raises: a full disk must not hide the error that is being told."""
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._append({"state": state, "message": message} | ({"problems": list(problems)} if problems else {}))

    def _append(self, value: Mapping[str, Any]) -> None:
        with open(self._file, "a", encoding="utf-8") as log:
            log.write(_line(value))


def _of_row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in _KEYS if key in row}


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, default=str) + "\n"
