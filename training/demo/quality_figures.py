"""The card's figures of the quality task, on held-out degraded renders: ``python -m training.demo.quality_figures``.

Renders pictures and clips from held-out seeds (``quality_data``), sends each through the agent as the app does, base
and tuned, and counts classes and severities of both models and of the classical measures. ``--footage DIR`` also takes
pictures of the real clips there, spoils copies of them in growing strength, and counts how many neighbouring pairs come
out in the right order. Writes into ``figures.json`` beside the bundle's card.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from services.errors import HerdLensError
from services.model_service import ModelService
from services.schema import DEGRADATION_WORDS, Grade, Report, Request, Sampling
from services.video import VideoReader
from training.demo.bundle import BUNDLE, Bundle, reported
from training.demo.degrade import degrade
from training.demo.figures_file import Figures, keep
from training.demo.harvest import WORK
from training.demo.progress import Progress
from training.demo.quality_answers import grade
from training.demo.quality_data import Drawn, make
from training.demo.shares import share

SEED = 1_500_000
COUNT = 480
TITLE = "Picture quality, held-out renders"
FOOTAGE_TITLE = "Picture quality, real footage and spoilt copies of it"
FOOTAGE_PICTURES = 6
"""Pictures taken of each real clip."""
WHO = ("tuned", "base", "measures")


@dataclass(frozen=True, slots=True)
class Row:
    """What was done to one medium and what each of ``WHO`` says (None: nothing readable)."""

    drawn: Drawn
    truth: Grade
    said: dict[str, Grade | None]
    advice: str


def _request(path: Path) -> Request:
    return Request(str(path), ("base", "tuned"), task="quality")


def rows(service: ModelService, folder: Path, drawn: Sequence[Drawn]) -> list[Row]:
    """Every medium below ``folder`` through the agent."""
    progress = Progress("quality", len(drawn))
    found = []
    for one in drawn:
        report = reported(service, _request(folder / "media" / one.name))
        said: dict[str, Grade | None] = {"measures": report.quality.grade}
        for variant in report.variants:
            if variant.error:
                raise HerdLensError(variant.error)
            known = variant.severity is not None and variant.verdict in DEGRADATION_WORDS
            said[variant.name] = Grade(variant.verdict, variant.severity or 0) if known else None  # type: ignore[arg-type]
        found.append(Row(one, grade(one.kind, one.level), said, report.reason))
        progress.step()
    return found


def count(figures: Figures, found: Sequence[Row]) -> None:
    """Accuracy over the five classes, severity within one step, both by kind; for the tuned model in full."""
    for who in WHO:
        right = [_kind(row, who) == row.truth.kind for row in found]
        spoilt = [row for row in found if row.truth.severity]
        near = [_near(row, who) for row in spoilt]
        figures.add(TITLE, f"{who}: class, of five", share(right))
        figures.add(TITLE, f"{who}: severity within one step of four (class right too)", share(near))
    for name, chosen in _slices():
        part = [row for row in found if chosen(row)]
        for who in ("tuned", "measures"):
            figures.add(TITLE, f"{who}: {name}", share([_kind(row, who) == row.truth.kind for row in part]))
    named = [_names(row) for row in found]
    figures.add(TITLE, "tuned: the written answer names what was done and what to do", share(named))


def _kind(row: Row, who: str) -> str | None:
    said = row.said[who]
    return said.kind if said else None


def _near(row: Row, who: str) -> bool:
    said = row.said[who]
    return said is not None and said.kind == row.truth.kind and abs(said.severity - row.truth.severity) <= 1


def _slices() -> list[tuple[str, Callable[[Row], bool]]]:
    kinds: list[tuple[str, Callable[[Row], bool]]] = [
        (f"class where it is {word.lower()}", lambda row, kind=kind: row.truth.kind == kind)  # type: ignore[misc]
        for kind, word in DEGRADATION_WORDS.items()
    ]
    return [
        *kinds,
        ("class at severity 1", lambda row: row.truth.severity == 1),
        ("class by day", lambda row: row.drawn.light == "day"),
        ("class at night", lambda row: row.drawn.light == "night"),
        ("class of clips", lambda row: row.drawn.is_clip),
        ("class of pictures", lambda row: not row.drawn.is_clip),
    ]


_WORDS = {
    "none": ("sharp", "Nothing"),
    "blur": ("blurred", "focus"),
    "noise": ("noisy", "light"),
    "low_resolution": ("coarse", "resolution"),
    "dark": ("dark", "light"),
    "covered": ("covered", "Clean the lens"),
}


def _names(row: Row) -> bool:
    return all(word in row.advice for word in _WORDS[row.drawn.kind])


def footage(figures: Figures, service: ModelService, folder: Path) -> None:
    """Pictures of each clip in ``folder``, and copies blurred and noised in four strengths: is each stronger copy
    judged worse than the one before? By the measures' score, and by the tuned model's expected severity."""
    right: dict[tuple[str, str], list[bool]] = {}
    clean: list[bool] = []
    with tempfile.TemporaryDirectory() as place:
        for clip in sorted(folder.glob("*.mp4")):
            for picture in _pictures(clip):
                for kind in ("blur", "noise"):
                    scores: dict[str, list[float]] = {"measures": [], "tuned": []}
                    for level in range(5):
                        path = Path(place) / "picture.png"
                        shown = degrade(picture[None], kind, level, 1)[0] if level else picture
                        Image.fromarray(shown).save(path)
                        report = reported(service, _request(path))
                        scores["measures"].append(report.quality.score)
                        scores["tuned"].append(-_badness(report))
                        if not level and kind == "blur":
                            clean.append(report.quality.grade.kind == "clean")
                    for who, seen in scores.items():
                        steps = [worse < better for better, worse in pairwise(seen)]
                        right.setdefault((who, kind), []).extend(steps)
    for (who, kind), values in sorted(right.items()):
        figures.add(FOOTAGE_TITLE, f"{who}: {kind}, neighbouring strengths in the right order", share(values))
    figures.add(FOOTAGE_TITLE, "measures: the untouched pictures are clean", share(clean))


def _pictures(clip: Path) -> list[np.ndarray]:
    reader = VideoReader(workers=1)
    try:
        frames = reader.open(str(clip), Sampling(frames=FOOTAGE_PICTURES), None, threading.Event())[1]
    finally:
        reader.close()
    return list(frames.rgb)


def _badness(report: Report) -> float:
    """Severity of the tuned model's finding, 0 for clean, weighted by the probability that it is not clean."""
    tuned = next(variant for variant in report.variants if variant.name == "tuned")
    clean = (tuned.class_scores or {}).get("clean", 1.0)
    return (1.0 - clean) * (1 + (tuned.severity or 0))


def measure(bundle: Bundle, count_: int = COUNT, footage_folder: Path | None = None) -> Figures:
    """All figures; what has to be rendered lies in the work folder afterwards."""
    figures = Figures()
    folder = bundle.work / "quality" / "held_out"
    drawn = make(count_, SEED, folder, quiet=True)
    service = bundle.service()
    try:
        count(figures, rows(service, folder, drawn))
        if footage_folder is not None:
            footage(figures, service, footage_folder)
    finally:
        service.close()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure picture quality on held-out renders.")
    parser.add_argument("--bundle", type=Path, default=BUNDLE)
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--count", type=int, default=COUNT, help="how many held-out pictures and clips")
    parser.add_argument("--scale", type=float, default=1.0, help="as the build's")
    parser.add_argument("--footage", type=Path, help="folder with real clips, to rank spoilt copies of them")
    parser.add_argument("--print", action="store_true", dest="only_print", help="leave figures.json as it is")
    a = parser.parse_args()
    if a.scale < 1.0 and a.bundle == BUNDLE and not a.only_print:
        parser.error("a rehearsal's figures would replace those of the shipped bundle; give --bundle and --work too")
    torch.set_num_threads(1)
    bundle = Bundle(a.bundle, a.work, a.scale)
    figures = measure(bundle, bundle.count(a.count), a.footage)
    if not a.only_print:
        keep(figures, a.bundle)
    for title, table in figures.tables.items():
        print(f"\n{title}")
        for name, value in table.items():
            print(f"  {name}: {value}")


if __name__ == "__main__":
    main()
