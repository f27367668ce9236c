"""Draws clips and writes what happened in them.

    python -m training.demo.render --clips 20 --seed 0 --out DIR

writes DIR/clip_000000.mp4 … (H.264, 448x256, 12 frames per second) and DIR/annotations.json; clip i has seed S + i.
The raw frames are the same on every run; ``--digests`` writes their SHA-256 to DIR/digests.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from services.errors import HerdLensError, InputError
from training.demo import degrade as spoil
from training.demo.annotate import annotation
from training.demo.camera import GROUPS
from training.demo.coding import FPS, write_mp4
from training.demo.draw import draw_frames
from training.demo.plan import DIFFICULTIES, KINDS, ClipPlan, plan_clip

_CHUNK = 24  # frames drawn at a time, so that memory stays small


def frame_times(plan: ClipPlan) -> np.ndarray:
    """Presentation times (T,) in seconds of the file's frames."""
    return np.arange(int(plan.duration_s * FPS + 1e-6)) / FPS


def write_clip(plan: ClipPlan, path: Path, degrade: tuple[str, int] | None = None) -> str:
    """Draws and encodes one clip; returns the SHA-256 of its raw RGB frames."""
    digest = hashlib.sha256()
    write_mp4(path, _drawn(plan, degrade, digest.update), crf=25, preset="fast")
    return digest.hexdigest()


def _drawn(
    plan: ClipPlan, degrade: tuple[str, int] | None, seen: Callable[[bytes], None]
) -> Iterator[NDArray[np.uint8]]:
    """The file's frames (H, W, 3), drawn a few at a time; ``seen`` gets their bytes."""
    times = frame_times(plan)
    for first in range(0, len(times), _CHUNK):
        frames = draw_frames(plan, times[first : first + _CHUNK])
        if degrade is not None:
            frames = spoil.degrade(frames, *degrade, seed=plan.seed)
        seen(frames.tobytes())
        yield from frames


def _one(job: tuple[int, dict[str, Any], str, tuple[str, int] | None]) -> tuple[dict[str, Any], str]:
    """Worker: one clip and its annotation."""
    seed, choices, out, degrade = job
    cv2.setNumThreads(1)
    plan = plan_clip(seed, **choices)
    name = f"clip_{seed:06d}.mp4"
    digest = write_clip(plan, Path(out) / name, degrade)
    entry = annotation(plan, f"./{name}")
    if degrade is not None:
        entry["metadata"]["degradation"] = {"kind": degrade[0], "level": degrade[1]}
    return entry, digest


def render(
    clips: int, seed: int, out: Path, *, choices: dict[str, Any], degrade: tuple[str, int] | None = None,
    processes: int = 2, quiet: bool = False,
) -> tuple[list[dict[str, Any]], list[str]]:  # fmt: skip
    """Writes the clips and annotations.json; returns the entries and the raw frames' digests, in order of the seed."""
    out.mkdir(parents=True, exist_ok=True)
    jobs = [(seed + i, choices, str(out), degrade) for i in range(clips)]
    entries: list[dict[str, Any]] = []
    digests: list[str] = []
    with ProcessPoolExecutor(min(processes, clips), mp_context=get_context("spawn")) as pool:
        results = pool.map(_one, jobs, chunksize=1)
        for entry, digest in tqdm(results, total=clips, unit="clip", desc="rendering", disable=quiet):
            entries.append(entry)
            digests.append(digest)
    (out / "annotations.json").write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    return entries, digests


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise InputError(message[0].upper() + message[1:] + ("" if message.endswith(".") else "."))


def _degradation(text: str) -> tuple[str, int]:
    kind, _, level = text.partition(":")
    if kind not in spoil.KINDS or level not in ("1", "2", "3", "4"):
        raise argparse.ArgumentTypeError(f"{text!r} is not KIND:LEVEL with one of {', '.join(spoil.KINDS)} and 1 to 4")
    return kind, int(level)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m training.demo.render", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--clips", type=int, required=True, help="how many clips")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first clip; below 1,000,000 is for training")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--viewpoints", choices=GROUPS, default="train", help="camera positions")
    parser.add_argument("--style", choices=("first", "second"), default="first", help="second: a look never trained on")
    parser.add_argument("--difficulty", choices=DIFFICULTIES, help="default: all")
    parser.add_argument("--kind", choices=KINDS, help="default: all, half of the clips mounting")
    parser.add_argument("--degrade", type=_degradation, metavar="KIND:LEVEL", help="spoil the pictures, e.g. blur:2")
    parser.add_argument("--digests", action="store_true", help="write digests.json with the raw frames' SHA-256")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    try:
        a = _parser().parse_args(arguments)
        if a.clips < 1 or a.seed < 0:
            raise InputError(f"--clips must be at least 1 and --seed at least 0, not {a.clips} and {a.seed}.")
        if a.out.exists() and not a.out.is_dir():
            raise InputError(f"{a.out} is a file; name a folder with --out.")
        choices = {"viewpoints": a.viewpoints, "style": a.style, "difficulty": a.difficulty, "kind": a.kind}
        entries, digests = render(a.clips, a.seed, a.out, choices=choices, degrade=a.degrade)
        if a.digests:
            named = {e["video"]: d for e, d in zip(entries, digests, strict=True)}
            (a.out / "digests.json").write_text(json.dumps(named, indent=1) + "\n", encoding="utf-8")
    except HerdLensError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    except OSError as error:
        print(f"The clips could not be written to {a.out}: {error.strerror or error}.", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
