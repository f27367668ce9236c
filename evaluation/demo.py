"""The demo bundle's runs: ``python -m evaluation demo``, which ``make eval`` calls, and ``calibration``.

Held-out clips are drawn by the renderer and run through everything that matters, or, in greater number, through what
users get.
All models are the shipped ones, and a data folder of its own keeps the user's library and adapters out. A second call
goes on where the first was stopped and draws nothing twice.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from evaluation import runner
from evaluation.data import Item
from evaluation.document import Run
from evaluation.held_out import rendered
from evaluation.plan import planned
from evaluation.records import RunSettings
from evaluation.report import read_runs
from services.settings import Settings

BOTH = ("base", "tuned")
TUNED = ("tuned",)


@dataclass(frozen=True, slots=True)
class Step:
    """One run: ``share`` of the clips (at least 12, all if there are fewer) under ``options``."""

    name: str
    mode: str
    share: float
    options: dict[str, Any]


HALVES: tuple[tuple[tuple[Step, ...], ...], ...] = (
    (
        (
            Step("default", "ensemble", 1.0, {}),
            Step("off", "ensemble", 1.0, {"retrieval": "off"}),
            Step("nearest", "ensemble", 0.5, {"retrieval": "nearest", "variants": TUNED}),
            Step("context_right", "rag", 0.25, {"context": "right", "variants": TUNED}),
            Step("context_wrong", "rag", 0.25, {"context": "wrong", "variants": TUNED}),
            Step("context_random", "rag", 0.25, {"context": "random", "variants": TUNED}),
        ),
        (Step("written", "ensemble", 0.1, {"scored_only": False}),),
    ),
    (
        (
            Step("swapped", "ensemble", 1.0, {"swap_labels": True, "variants": TUNED}),
            Step("text_only", "text", 1.0, {"variants": TUNED}),
            Step("text_random", "text", 1.0, {"context": "random", "variants": TUNED}),
            Step("other_frames", "rag", 1.0, {"frames": "other", "variants": TUNED}),
        ),
        (Step("frames_shuffled", "rag", 0.5, {"frames": "shuffled", "variants": TUNED}),),
        (Step("frames_one", "rag", 0.5, {"frames": "one", "variants": TUNED}),),
    ),
)
"""About equal halves of the work, one process each. Steps in one group share a service: they go clip by clip, so that
a clip is decoded, embedded and looked at once for all of them. All but ``written`` are scored only."""


AT_SIZE = Step("default", "ensemble", 1.0, {"variants": TUNED})
"""What users get, alone: for figures that want more clips than the whole comparison can have."""


def measure(clips: int, folder: Path) -> list[Run]:
    """Draw and run everything. Raises what a run raises."""
    data = rendered(clips, folder)
    results = data.parent / "results"
    print(f"Asking the models about {clips} held-out clips …", file=sys.stderr, flush=True)
    with ProcessPoolExecutor(len(HALVES), mp_context=get_context("spawn"), initializer=_quiet) as pool:
        halves = [pool.submit(_run_half, half, data, results, clips) for half in range(len(HALVES))]
        for half in halves:
            half.result()
    names = [step.name for half in HALVES for group in half for step in group]
    return read_runs([results / f"{name}.json" for name in names])


def measure_at_size(clips: int, folder: Path) -> list[Run]:
    """Draw, and run AT_SIZE alone. Raises what a run raises."""
    data = rendered(clips, folder)
    results = data.parent / "results"
    with tempfile.TemporaryDirectory() as own:
        _run(Settings(data=Path(own)), data, results, (AT_SIZE,), clips)
    return read_runs([results / f"{AT_SIZE.name}.json"])


def _quiet() -> None:
    """A spawned process knows nothing of its parent's filters."""
    warnings.filterwarnings("ignore")
    logging.getLogger().addHandler(logging.NullHandler())


def _run_half(half: int, data: Path, results: Path, clips: int) -> None:
    with tempfile.TemporaryDirectory() as own:
        settings = Settings(data=Path(own))
        for group in HALVES[half]:
            _run(settings, data, results, group, clips)


def _run(settings: Settings, data: Path, results: Path, steps: Sequence[Step], clips: int) -> None:
    jobs = []
    for step in steps:
        plan, items = _planned(step, data, clips)
        jobs.append(runner.Job(plan, items, results / f"{step.name}.json"))
    service = runner.open_service(settings, jobs[0].settings)
    try:
        alone = steps[0].name == "written"  # its seconds are reported, so nothing else is in work meanwhile
        runner.run(service, jobs, parallel=1 if alone else 2, label=steps[0].name, replace=True)
    finally:
        service.close()


def _planned(step: Step, data: Path, clips: int) -> tuple[RunSettings, list[Item]]:
    """The step's settings; its share of the clips is rounded to whole pairs of a mounting and a normal clip."""
    limit = min(clips, max(12, round(clips * step.share / 2) * 2))
    options = {"variants": BOTH, "scored_only": True, "limit": limit, **step.options}
    return planned(data, step.mode, "demo", **options)
