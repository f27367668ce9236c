"""Rebuild the demo bundle: ``python -m training.demo.build [--from STAGE] [--only STAGE …]``.

Stages in order: clips, vision, base, embedder, library, novelty, adapter, quality, samples, calibrate, card. Finished
stages are kept in ``build/demo`` (not in git) and skipped, so that a killed build goes on where it was; inside a stage,
rendering goes on with the next shard, vision tower, text model and both adapters with their last checkpoint.
``--from STAGE`` makes that stage and everything after it anew, on what was shipped by the stages before; clips that the
present renderer drew stay. Stages that need one core and nothing of each other run side by side. A little over three
hours on two idle cores that multiply bfloat16. Others multiply in float32 and take longer, or, where a stage's minutes
are set, get less far.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from filelock import FileLock

from services.settings import environment_with
from training.demo.bundle import BUNDLE, Bundle
from training.demo.card import TIMES, write_card
from training.demo.harvest import WORK
from training.demo.stages import STAGES, done_file, recipe
from training.demo.together import ONE_THREAD

MINUTES = {
    "clips": 37, "vision": 43, "base": 55, "embedder": 14, "library": 1, "novelty": 6, "adapter": 52, "quality": 11,
    "samples": 1, "calibrate": 4, "card": 18,
}  # fmt: skip
"""What a stage takes on two cores, for the time left."""
LANES = (("embedder", "library", "novelty"), ("adapter",), ("quality",))
"""Stages that use one core each and need nothing of another lane run at the same time."""


def build(bundle: Bundle, first: str | None, only: Sequence[str]) -> None:
    """Run what is missing; ``first`` and everything after it, and all of ``only``, even if it was done."""
    names = list(STAGES)
    only = [name for name in names if name in only]
    if first is not None:
        for name in names[names.index(first) :]:
            done_file(bundle.work, name).unlink(missing_ok=True)
    wanted = only or (names[names.index(first) :] if first else names)
    todo = [name for name in wanted if only or not done_file(bundle.work, name).exists()]
    steps = grouped(todo)
    for position, lanes in enumerate(steps):
        left = round(sum(minutes(rest) for rest in steps[position:]))
        told = " beside ".join(", ".join(lane) for lane in lanes)
        print(f"stage {told} ({position + 1} of {len(steps)}, about {left} min left)", file=sys.stderr, flush=True)
        if len(lanes) > 1:
            _side_by_side(bundle, lanes)
        else:
            for name in lanes[0]:
                began = time.monotonic()
                STAGES[name](Bundle(bundle.folder, bundle.work, bundle.scale))
                _mark(bundle, name, (time.monotonic() - began) / 60)


def grouped(todo: Sequence[str]) -> list[list[list[str]]]:
    """The stages to do as steps in order, each of one or more lanes of stages in order."""
    beside = [own for lane in LANES if (own := [name for name in lane if name in todo])]
    steps: list[list[list[str]]] = []
    for name in todo:
        step = beside if any(name in lane for lane in beside) else [[name]]
        if step not in steps:
            steps.append(step)
    return steps


def minutes(lanes: list[list[str]]) -> float:
    """What a step takes on two cores."""
    each = [sum(MINUTES[name] for name in lane) for lane in lanes]
    return max(*each, sum(each) / 2) if len(each) > 1 else each[0]


def _side_by_side(bundle: Bundle, lanes: list[list[str]]) -> None:
    """A process of one thread for each lane; only the longest shows its progress, the others' goes into logs."""
    command = [sys.executable, "-m", "training.demo.build", "--scale", str(bundle.scale)]
    command += ["--bundle", str(bundle.folder), "--work", str(bundle.work), "--only"]
    one_thread = environment_with(ONE_THREAD)
    shown = max(lanes, key=lambda lane: minutes([lane]))
    runs: list[tuple[str, subprocess.Popen[bytes]]] = []
    with ExitStack() as stack:
        for lane in lanes:
            log = bundle.work / f"{lane[0]}.log"
            said = None if lane is shown else stack.enter_context(log.open("wb"))
            run = subprocess.Popen([*command, *lane], stderr=said, env=one_thread)
            stack.callback(run.kill)
            runs.append((f"stage {lane[0]} failed" + (f"; see {log}" if said else ""), run))
        failed = [sentence for sentence, run in runs if run.wait()]
    if failed:
        raise RuntimeError("; ".join(failed))


def _mark(bundle: Bundle, name: str, minutes: float) -> None:
    """Say that a stage is done, and for the card how long it took; the card itself is written with its own time."""
    path = done_file(bundle.work, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    bundle.folder.mkdir(parents=True, exist_ok=True)
    times = bundle.folder / TIMES
    with FileLock(bundle.work / "times.lock"):
        known = json.loads(times.read_text(encoding="utf-8")) if times.exists() else {}
        known[name] = {"minutes": round(minutes, 1), "cores": os.cpu_count()}
        rows = {stage: known[stage] for stage in STAGES if stage in known}
        part = times.with_suffix(".part")
        part.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        part.replace(times)
    path.touch()
    if name == "card":
        write_card(bundle.folder, recipe())


def main() -> None:
    parser = argparse.ArgumentParser(description="Rebuild the demo bundle from nothing, or from a stage on.")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--from", dest="first", choices=list(STAGES), help="make this stage and all after it anew")
    which.add_argument("--only", choices=list(STAGES), nargs="+", default=[], help="run these stages alone")
    parser.add_argument("--bundle", type=Path, default=BUNDLE)
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--scale", type=float, default=1.0, help="below 1: a rehearsal with so much less of everything")
    a = parser.parse_args()
    a.work.mkdir(parents=True, exist_ok=True)
    if not 0.0 < a.scale <= 1.0:
        parser.error(f"--scale is {a.scale}; it must be above 0 and at most 1")
    if a.scale < 1.0 and a.bundle == BUNDLE:
        parser.error("a rehearsal would replace the shipped bundle by a useless one; give --bundle and --work too")
    build(Bundle(a.bundle, a.work, a.scale), a.first, a.only)


if __name__ == "__main__":
    main()
