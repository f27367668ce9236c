"""Rebuild the demo bundle: ``python -m training.demo.build [--from STAGE] [--only STAGE]``.

Stages in order: clips, vision, base, embedder, library, novelty, adapter, quality, samples, calibrate, card. Finished
stages are kept in ``build/demo`` (not in git) and skipped, so that a killed build goes on where it was; inside a stage,
rendering goes on with the next shard, vision tower, text model and quality adapter with their last checkpoint.
``--from STAGE`` makes that stage and everything after it anew, on what was shipped by the stages before. About two
and a half hours on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

from training.demo.bundle import BUNDLE, Bundle
from training.demo.harvest import WORK
from training.demo.stages import STAGES, done_file

MINUTES = {
    "clips": 15, "vision": 45, "base": 34, "embedder": 14, "library": 1, "novelty": 3, "adapter": 25, "quality": 12,
    "samples": 1, "calibrate": 4, "card": 15,
}  # fmt: skip
"""What a stage takes on two cores, for the time left."""


def build(bundle: Bundle, first: str | None, only: str | None) -> None:
    """Run what is missing; ``first`` and everything after it even if it was done."""
    names = list(STAGES)
    if first is not None:
        for name in names[names.index(first) :]:
            done_file(bundle.work, name).unlink(missing_ok=True)
    wanted = [only] if only else names[names.index(first) :] if first else names
    todo = [name for name in wanted if only or not done_file(bundle.work, name).exists()]
    for position, name in enumerate(todo):
        left = sum(MINUTES[n] for n in todo[position:])
        print(f"stage {name} ({position + 1} of {len(todo)}, about {left} min left)", file=sys.stderr, flush=True)
        began = time.monotonic()
        STAGES[name](Bundle(bundle.folder, bundle.work, bundle.scale))
        _mark(bundle.work, name, (time.monotonic() - began) / 60)


def _mark(work: Path, name: str, minutes: float) -> None:
    path = done_file(work, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(
        json.dumps({"stage": name, "minutes": round(minutes, 1), "cores": os.cpu_count()}), encoding="utf-8"
    )
    part.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Rebuild the demo bundle from nothing, or from a stage on.")
    parser.add_argument("--from", dest="first", choices=list(STAGES), help="make this stage and all after it anew")
    parser.add_argument("--only", choices=list(STAGES), help="run this stage alone")
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
