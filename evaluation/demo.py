"""The demo bundle's tables: ``python -m evaluation demo``, which ``make eval`` calls.

Held-out clips are drawn by the renderer, run through everything that matters, and reported in ``build/eval/report``.
All models are the shipped ones, and a data folder of its own keeps the user's library and adapters out. A second call
goes on where the first was stopped and draws nothing twice.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation import runner
from evaluation.data import Item
from evaluation.held_out import rendered
from evaluation.plan import planned
from evaluation.records import RunSettings
from evaluation.report import read_runs, write_report
from services.settings import Settings

PARALLEL = 2
BOTH = ("base", "tuned")


@dataclass(frozen=True, slots=True)
class Step:
    """One run: ``share`` of the clips (at least 12, all if there are fewer) under ``options``."""

    name: str
    mode: str
    share: float
    options: dict[str, Any]


TOGETHER = (
    Step("default", "ensemble", 1.0, {}),
    Step("off", "ensemble", 1.0, {"retrieval": "off"}),
    Step("swapped", "ensemble", 1.0, {"swap_labels": True}),
    Step("nearest", "ensemble", 0.5, {"retrieval": "nearest"}),
    Step("text_only", "text", 1.0, {}),
    Step("other_frames", "rag", 1.0, {"frames": "other", "variants": ("tuned",)}),
    Step("context_right", "rag", 0.25, {"context": "right", "variants": ("tuned",)}),
    Step("context_wrong", "rag", 0.25, {"context": "wrong", "variants": ("tuned",)}),
    Step("context_random", "rag", 0.25, {"context": "random", "variants": ("tuned",)}),
)
"""Scored only, clip by clip, so that each clip is decoded, embedded and looked at once for all of them."""
APART = (
    Step("written", "ensemble", 0.1, {"scored_only": False}),
    Step("frames_shuffled", "rag", 0.5, {"frames": "shuffled", "variants": ("tuned",)}),
    Step("frames_one", "rag", 0.5, {"frames": "one", "variants": ("tuned",)}),
)
"""Runs that need the clip once more: with answers written out (for cost and text), and with altered pictures."""


def measure(clips: int, folder: Path, *, parallel: int = PARALLEL) -> list[Path]:
    """Draw, run and report; the report's files, ``report.md`` first."""
    data = rendered(clips, folder)
    results = data.parent / "results"
    with tempfile.TemporaryDirectory() as own:
        settings = Settings(data=Path(own))
        print(f"Asking the models about {clips} held-out clips …", file=sys.stderr, flush=True)
        _run(settings, data, results, TOGETHER, clips, parallel)
        for step in APART:
            _run(settings, data, results, (step,), clips, parallel if step.name != "written" else 1)
    names = [step.name for step in (*TOGETHER, *APART)]
    found = read_runs([results / f"{name}.json" for name in names])
    title = f"The demo bundle on {clips} held-out rendered clips"
    return write_report(found, folder / "report", title)


def _run(settings: Settings, data: Path, results: Path, steps: Sequence[Step], clips: int, parallel: int) -> None:
    jobs = []
    for step in steps:
        plan, items = _planned(step, data, clips)
        jobs.append(runner.Job(plan, items, results / f"{step.name}.json"))
    service = runner.open_service(settings, jobs[0].settings)
    try:
        runner.run(service, jobs, parallel=parallel, label=steps[0].name, replace=True)
    finally:
        service.close()


def _planned(step: Step, data: Path, clips: int) -> tuple[RunSettings, list[Item]]:
    """The step's settings; its share of the clips is rounded to whole pairs of a mounting and a normal clip."""
    limit = min(clips, max(12, round(clips * step.share / 2) * 2))
    options = {"variants": BOTH, "scored_only": True, "limit": limit, **step.options}
    return planned(data, step.mode, "demo", **options)
