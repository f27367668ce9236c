"""Degraded renders for the quality task, as pictures and short clips with annotations.

    python -m training.demo.quality_data --clips 200 --seed 0 --out DIR

writes DIR/media/… and DIR/annotations.json. Each seed draws one scene of the renderer's default camera and spoils it in
one of five ways and four strengths, or not at all (a fifth of them); dark and covered are one class, so each comes half
as often. A quarter are clips (H.264, 12 frames per second, 1.3 s), the others pictures (JPEG, WebP or PNG), 448 x 256.
Each medium has two entries with the question of ``agent.prompts``: the bare status, which scoring reads, and the answer
with what is seen and what to do. Seeds below 1,000,000 are for training.
"""

from __future__ import annotations

import io
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from agent.prompts import quality_question
from services.annotations import write
from services.errors import HerdLensError, InputError
from training.demo import quality_answers
from training.demo.coding import coded
from training.demo.degrade import LEVELS, degrade
from training.demo.draw import draw_frames
from training.demo.plan import Viewpoints, plan_clip
from training.demo.render import Parser, frame_times

CLIP_FRAMES = 16
CLIP_SHARE = 0.25
KINDS = ("none", "none", "blur", "blur", "noise", "noise", "low_resolution", "low_resolution", "dark", "covered")
"""Drawn in this proportion: five classes alike."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One spoilt scene: ``name`` of its file below media/, what was done, and in which light."""

    name: str
    seed: int
    kind: str
    level: int
    light: str

    @property
    def is_clip(self) -> bool:
        return self.name.endswith(".mp4")


def draw(seed: int, folder: Path, viewpoints: Viewpoints = "train") -> Drawn:
    """Render, spoil and write the medium of ``seed`` below ``folder``; the same on every run. What is there stays."""
    rng = np.random.default_rng([seed, 8])
    kind, level = str(rng.choice(KINDS)), int(rng.choice(LEVELS))
    level = 0 if kind == "none" else level
    suffix = "mp4" if rng.random() < CLIP_SHARE else str(rng.choice(["jpg", "jpg", "webp", "png"]))
    plan = plan_clip(seed, viewpoints=viewpoints)
    drawn = Drawn(f"{seed:07d}.{suffix}", seed, kind, level, plan.light)
    path = folder / drawn.name
    if path.exists():
        return drawn
    times = frame_times(plan)
    count = CLIP_FRAMES if drawn.is_clip else 1
    first = int(rng.integers(len(times) - count))
    frames = draw_frames(plan, times[first : first + count])
    if level:
        frames = degrade(frames, kind, level, seed)
    if drawn.is_clip:
        data = coded(frames, crf=int(rng.choice((20, 23, 25, 28))), preset="fast")
    else:
        data = _picture(frames[0], suffix, rng)
    part = path.with_suffix(".part")
    part.write_bytes(data)
    part.replace(path)
    return drawn


def _picture(rgb: NDArray[np.uint8], suffix: str, rng: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    options: dict[str, Any] = {} if suffix == "png" else {"quality": int(rng.integers(80, 96))}
    Image.fromarray(rgb).save(buffer, {"jpg": "JPEG", "webp": "WEBP", "png": "PNG"}[suffix], **options)
    return buffer.getvalue()


def entries(drawn: Drawn) -> list[dict[str, Any]]:
    """The two annotation entries of one medium."""
    medium = "video" if drawn.is_clip else "image"
    grade = quality_answers.grade(drawn.kind, drawn.level)
    metadata = {"task": "quality", "class": grade.kind, "severity": grade.severity, "degradation": drawn.kind}
    metadata |= {"light": drawn.light, "seed": drawn.seed}
    return [
        {
            medium: f"media/{drawn.name}",
            "conversations": [
                {"from": "human", "value": f"<{medium}>\n{quality_question()}"},
                {"from": "gpt", "value": answer(drawn.kind, drawn.level)},
            ],
            "metadata": metadata,
        }
        for answer in (quality_answers.bare, quality_answers.full)
    ]


def make(
    clips: int, seed: int, out: Path, *, processes: int = 1, viewpoints: Viewpoints = "train", quiet: bool = False
) -> list[Drawn]:
    """Write media and annotations of ``clips`` seeds from ``seed`` on; what was drawn, in order of the seed."""
    media = out / "media"
    media.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(min(processes, clips), get_context("spawn"), cv2.setNumThreads, (1,)) as pool:
        jobs = [pool.submit(draw, seed + i, media, viewpoints) for i in range(clips)]
        drawn = [job.result() for job in tqdm(jobs, unit="picture", desc="rendering", disable=quiet)]
    write(out / "annotations.json", [entry for one in drawn for entry in entries(one)])
    return drawn


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    parser = Parser(prog="python -m training.demo.quality_data", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--clips", type=int, required=True, help="how many pictures and clips")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first; below 1,000,000 is for training")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--viewpoints", choices=("train", "new"), default="train", help="camera positions")
    parser.add_argument("--processes", type=int, default=2)
    try:
        a = parser.parse_args(arguments)
        if a.clips < 1 or a.seed < 0 or a.processes < 1:
            raise InputError("--clips and --processes must be at least 1 and --seed at least 0.")
        if a.out.exists() and not a.out.is_dir():
            raise InputError(f"{a.out} is a file; name a folder with --out.")
        make(a.clips, a.seed, a.out, processes=a.processes, viewpoints=a.viewpoints)
    except HerdLensError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    except OSError as error:
        print(f"The pictures could not be written to {a.out}: {error.strerror or error}.", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
