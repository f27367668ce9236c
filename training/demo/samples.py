"""Stage ``samples``: six clips that one can try without owning a cow.

Their seeds are held out (1,000,000 and above) and fixed here; they were picked to be easy for a person to judge. They
are coded so that each stays below 150 KB.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from training.demo.annotate import annotation
from training.demo.coding import write_mp4
from training.demo.draw import draw_frames
from training.demo.plan import plan_clip
from training.demo.render import frame_times

LARGEST = 150 * 1000


@dataclass(frozen=True, slots=True)
class Sample:
    """``name`` is the file's stem and, with spaces, its title in the browser."""

    name: str
    seed: int


SAMPLES = (
    Sample("mounting_from_behind", 1_000_061),
    Sample("mounting_from_the_side", 1_000_048),
    Sample("normal_front_feet_on_a_step", 1_000_030),
    Sample("normal_head_pushing", 1_000_069),
    Sample("mounting_at_night", 1_000_039),
    Sample("normal_standing_close_at_night", 1_000_054),
)


def write(folder: Path) -> None:
    """The clips and ``annotations.json`` in the source's format."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for sample in SAMPLES:
        plan = plan_clip(sample.seed)
        frames = draw_frames(plan, frame_times(plan))
        path = folder / f"{sample.name}.mp4"
        for crf in range(23, 47, 2):
            write_mp4(path, frames, crf=crf, preset="slower")
            if path.stat().st_size < LARGEST:
                break
        entries.append(annotation(plan, f"./{sample.name}.mp4"))
    (folder / "annotations.json").write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
