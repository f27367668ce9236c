"""The parts of a report, free of any format; ``report.py`` renders them as Markdown and HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from evaluation.metrics import confusion
from evaluation.records import ResultFile
from evaluation.views import View, views


@dataclass(frozen=True, slots=True)
class Table:
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """``data``: PNG or JPEG bytes, written as ``name`` beside the Markdown."""

    name: str
    data: bytes
    caption: str

    @property
    def media_type(self) -> str:
        return "image/png" if self.name.endswith(".png") else "image/jpeg"


@dataclass(slots=True)
class Section:
    """Paragraphs, then tables, then pictures, then remarks."""

    title: str
    text: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Run:
    """One result file of a report, with every way of reading it; ``views[0]`` is the one its mode is for."""

    name: str
    result: ResultFile
    views: tuple[View, ...]

    @property
    def is_control(self) -> bool:
        """Whether something was changed on purpose, so that the run says nothing about accuracy."""
        s = self.result.settings
        return s.mode == "text" or s.frames is not None or s.context is not None or s.swap_labels


def runs(named: Sequence[tuple[str, ResultFile]]) -> list[Run]:
    """Runs in the order given; those without any clip are left out by their readers, not here."""
    return [Run(name, result, tuple(views(result, name))) for name, result in named]


def scored_views(found: Sequence[Run]) -> list[View]:
    """Views with probabilities and both classes among them."""
    return [view for run in found for view in run.views if _both_classes(view)]


def _both_classes(view: View) -> bool:
    truth, _ = view.scored()
    return bool(truth.any() and not truth.all())


def count_of(view: View) -> str:
    """``398 of 400 answered``."""
    counts = confusion(view.truth, view.answers)
    return f"{counts.answered} of {counts.n} answered"
