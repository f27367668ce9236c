"""Ways of reading a result: whose answer counts. One run of the ensemble holds several.

- *final*: the verdict that a user gets (calibrated rule; may be ``unclear``)
- *model*: the model alone, mounting where its own probability is at least one half
- *neighbours*: the reference clips' vote alone, mounting where it is at least one half
- *text*: what the last ``Status:`` line says
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evaluation.records import ClipRecord, ResultFile, VariantRecord
from services.schema import Label

OPPOSITE: dict[str, Label] = {"mounting": "normal", "normal": "mounting"}
Reading = Literal["final", "model", "neighbours", "text"]


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One clip under one reading. ``p``: probability of mounting, None where the reading has none."""

    key: str
    truth: str
    answer: str
    p: float | None
    record: ClipRecord
    said: VariantRecord | None = None

    @property
    def right(self) -> bool:
        return self.answer == self.truth


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """All clips of a result under one reading; ``title`` names both for people. Failed clips have the answer
    ``failed``."""

    title: str
    reading: Reading
    variant: str | None
    result: ResultFile
    rows: tuple[Row, ...]

    @property
    def truth(self) -> list[str]:
        return [row.truth for row in self.rows]

    @property
    def answers(self) -> list[str]:
        return [row.answer for row in self.rows]

    def scored(self) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """(truth is mounting (N,), p (N,)) of the rows that have a probability."""
        rows = [row for row in self.rows if row.p is not None]
        return np.array([row.truth == "mounting" for row in rows], bool), np.array([row.p for row in rows], float)


def views(result: ResultFile, name: str) -> list[View]:
    """What can be read from ``result``, the reading that its mode is for first."""
    mode, found = result.settings.mode, []
    if mode == "ensemble":
        found += [_view(result, name, "final", variant) for variant in _speaking_order(result)]
    if mode in ("ensemble", "rag", "vlm", "text"):
        found += [_view(result, name, "model", variant) for variant in _speaking_order(result)]
    if mode == "source":
        found.append(_view(result, name, "text", "base"))
    if mode == "knn" or (mode == "ensemble" and any(clip.vote is not None for clip in result.clips)):
        found.append(_view(result, name, "neighbours", None))
    return found


def main_view(result: ResultFile, name: str) -> View:
    """The reading that the result's mode is for; of both variants the tuned one."""
    return views(result, name)[0]


def common(first: View, second: View) -> list[tuple[Row, Row]]:
    """Rows about the same clips, in the order of ``first``."""
    others = {row.key: row for row in second.rows}
    return [(row, others[row.key]) for row in first.rows if row.key in others]


def _speaking_order(result: ResultFile) -> Sequence[str]:
    return sorted(result.settings.variants, key=["tuned", "base"].index)


def _view(result: ResultFile, name: str, reading: Reading, variant: str | None) -> View:
    title = name if reading in ("text",) else f"{name}: {variant + ', ' if variant else ''}{reading}"
    return View(title, reading, variant, result, tuple(_row(clip, reading, variant) for clip in result.clips))


def _row(clip: ClipRecord, reading: Reading, variant: str | None) -> Row:
    key = clip.sha256 or clip.video
    said = clip.variant(variant) if variant else None
    if clip.error or (said is not None and said.error):
        return Row(key, clip.truth, "failed", None, clip, said)
    if reading == "neighbours":
        return Row(key, clip.truth, side(clip.vote, "unclear"), clip.vote, clip)
    if said is None:
        return Row(key, clip.truth, "failed", None, clip)
    if reading == "final":
        return Row(key, clip.truth, said.verdict or "unclear", said.p_final, clip, said)
    if reading == "model":
        return Row(key, clip.truth, side(said.p_model, said.text_verdict), said.p_model, clip, said)
    return Row(key, clip.truth, said.text_verdict, None, clip, said)


def side(p: float | None, otherwise: str) -> str:
    """mounting from one half on; ``otherwise`` without a probability."""
    return otherwise if p is None else "mounting" if p >= 0.5 else "normal"
