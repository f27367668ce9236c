"""The demo bundle's tables: ``python -m evaluation demo``, which ``make eval`` calls.

Held-out clips (seeds from FIRST_SEED on, never seen by training, calibration or library) are drawn by the renderer in
a process of its own, run through everything that matters, and reported in ``build/eval/report``. All models are the
shipped ones, and a data folder of its own keeps the user's library and adapters out. A second call goes on where the
first was stopped and draws nothing twice.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation import runner
from evaluation.data import Item
from evaluation.plan import planned
from evaluation.records import RunSettings
from evaluation.report import read_runs, write_report
from services.errors import InputError, ResourceError
from services.settings import ROOT, Settings

FIRST_SEED = 1_000_000
CLIPS = 400
QUICK_CLIPS = 24
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


def rendered(clips: int, folder: Path) -> Path:
    """Annotations of ``clips`` held-out clips below ``folder``, drawn unless they are there. A folder belongs to one
    state of the renderer's sources, so that clips are drawn again when these change."""
    if clips < 2 or clips % 2:
        raise InputError(f"--clips must be an even number from 2 on (half mounting, half normal), not {clips}.")
    target = folder / f"clips_{clips}_{_renderer_digest()[:8]}"
    annotations = target / "annotations.json"
    if annotations.is_file():
        return annotations
    print(f"Drawing {clips} held-out clips into {target} …", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "training.demo.render", "--clips", str(clips), "--seed", str(FIRST_SEED)]
    done = subprocess.run([*command, "--out", str(target)], cwd=ROOT, check=False)
    if done.returncode or not annotations.is_file():
        raise ResourceError(f"The renderer failed (exit status {done.returncode}); its own message stands above.")
    if len(json.loads(annotations.read_text(encoding="utf-8"))) != clips:
        raise ResourceError(f"The renderer wrote another number of clips than {clips}; remove {target} and try again.")
    return annotations


def _renderer_digest() -> str:
    found = hashlib.sha256()
    for path in sorted((ROOT / "training" / "demo").glob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()
