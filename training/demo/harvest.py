"""Stage ``clips``: render the sets that the other stages learn from, once, into the work folder.

``python -m training.demo.harvest SET…`` renders named sets; finished shards are kept, so a killed run goes on.

Each clip is drawn at its sixteen sampling times (and halfway between them where asked), coded as H.264 with one of
several qualities and decoded again (of sets without files only a quarter, for time: after halving the size the code
leaves little trace), and resized by the common rule: what is stored is what serving would see. Per set:

- ``patches.npy`` (N, groups, 112, 1536) uint8, see ``tower``; eight groups of two pictures, of sets for the vision
  tower alone fewer;
- ``between.npy`` (N, 15, 128, 224, 3) uint8, the pictures halfway between neighbouring ones, of sets that the embedder
  looks at as it does when serving;
- ``target_<name>.npy`` (N, groups, 2·C, 112) float16, dense targets of both frames of each group, in patch order;
- ``notes/<shard>.json``: per clip its annotation (without criteria), facts, times (16,) s, degradation; a shard's file
  is written last;
- ``clips/<seed>.mp4`` where the set keeps them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from training.demo import tower
from training.demo.coding import coded, decoded
from training.demo.progress import Progress

WORK = Path("build/demo")
SHARD = 25
DEFINED = "set.json"
GROUPS, FRAMES = 8, 16
SIZE = (448, 256)
DEGRADATIONS = ("none", "blur", "noise", "low_resolution", "dark", "covered")
"""Kinds of ``degrade.degrade`` by their class number."""


@dataclass(frozen=True)
class ClipSet:
    """``seed`` is the first of ``clips`` seeds; ``degraded`` the share of clips that are degraded as a whole."""

    name: str
    seed: int
    clips: int
    viewpoints: Literal["train", "new"] = "train"
    style: Literal["first", "second"] = "first"
    kind: str | None = None
    degraded: float = 0.0
    dense: bool = False
    keep: bool = False
    """Keep the mp4 files."""
    between: bool = False
    """Draw the pictures halfway between the sixteen too."""
    groups: int = GROUPS
    """How many of the eight groups are drawn, chosen by the seed: many scenes for the time of a few."""


SETS = {
    s.name: s
    for s in (
        ClipSet("base", 0, 3000, degraded=0.3, dense=True),
        ClipSet("scenes", 10_000, 8000, degraded=0.3, dense=True, groups=2),
        ClipSet("adapter", 100_000, 4000),
        ClipSet("library", 200_000, 332, keep=True, between=True),
        ClipSet("calibration", 300_000, 1000, between=True),
        ClipSet("steps", 400_000, 400, kind="front_raised"),
        ClipSet("test", 1_000_000, 500, keep=True, between=True),
        ClipSet("new", 2_000_000, 400, viewpoints="new", keep=True, between=True),
        ClipSet("second", 3_000_000, 300, style="second", keep=True, between=True),
        ClipSet("more", 2_100_000, 1200, viewpoints="new", between=True),
    )
}


@dataclass(frozen=True)
class Stored:
    """An opened set. ``patches``, ``between`` and ``targets`` are memory maps."""

    folder: Path
    patches: NDArray[np.uint8]
    between: NDArray[np.uint8] | None
    targets: dict[str, NDArray[np.float16]]
    notes: tuple[dict[str, Any], ...]

    def __len__(self) -> int:
        return len(self.notes)

    def dense(self, row: int) -> NDArray[np.uint8]:
        """(31, 128, 224, 3): the clip's pictures with those between. Only of sets that have them."""
        assert self.between is not None, f"the set {self.folder.name} was drawn without pictures between"
        usual = tower.pictures(np.asarray(self.patches[row]))
        found = np.empty((len(usual) + len(self.between[row]), *usual.shape[1:]), np.uint8)
        found[::2], found[1::2] = usual, self.between[row]
        return found


def folder(name: str, work: Path = WORK) -> Path:
    return work / "sets" / name


def opened(name: str, work: Path = WORK, limit: int | None = None) -> Stored:
    """The finished part of a set, from its first clip on without gaps, or its first ``limit`` clips."""
    root = folder(name, work)
    notes: list[dict[str, Any]] = []
    for shard in sorted((root / "notes").glob("*.json")):
        if int(shard.stem) != len(notes):
            break
        notes += json.loads(shard.read_text(encoding="utf-8"))
    targets = {p.stem.removeprefix("target_"): np.load(p, mmap_mode="r") for p in sorted(root.glob("target_*.npy"))}
    between = np.load(root / "between.npy", mmap_mode="r") if SETS[name].between else None
    return Stored(root, np.load(root / "patches.npy", mmap_mode="r"), between, targets, tuple(notes[:limit]))


def small(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(T, 256, 448, 3) to (T, 128, 224, 3), by the rule of ``services.dialog.resize``."""
    import torch
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional as tvf

    video = torch.from_numpy(frames).permute(0, 3, 1, 2)
    size = [tower.HEIGHT, tower.WIDTH]
    video = tvf.resize(video, size, interpolation=InterpolationMode.BICUBIC, antialias=True)
    return video.permute(0, 2, 3, 1).contiguous().numpy()


@dataclass(frozen=True)
class _Drawn:
    """One clip: stored ``patches``, pictures in ``between``, dense ``targets`` (8, 2·channels, 112), ``note``, mp4."""

    patches: NDArray[np.uint8]
    between: NDArray[np.uint8] | None
    targets: dict[str, NDArray[Any]]
    note: dict[str, Any]
    data: bytes


def _clip(which: ClipSet, seed: int) -> _Drawn:
    from training.demo import scene
    from training.demo.annotate import told
    from training.demo.degrade import LEVELS, degrade
    from training.demo.draw import draw_frames
    from training.demo.facts import facts
    from training.demo.render import frame_times
    from training.demo.targets import draw_both

    rng = np.random.default_rng([seed, 77])
    plan = scene.plan_clip(seed, kind=which.kind, viewpoints=which.viewpoints, style=which.style)
    file_times = frame_times(plan)
    count = 2 * FRAMES - 1 if which.between else FRAMES
    drawn = file_times[np.round(np.linspace(0, len(file_times) - 1, count)).astype(int)]
    if which.groups < GROUPS:
        chosen = np.sort(rng.choice(GROUPS, which.groups, replace=False))
        drawn = drawn.reshape(GROUPS, 2)[chosen].ravel()
    times = drawn[::2] if which.between else drawn
    targets: dict[str, NDArray[Any]] = {}
    if which.dense:
        frames, dense = draw_both(plan, drawn, width=SIZE[0], height=SIZE[1], grid=tower.GRID)
        targets = {name: _grouped(value) for name, value in dense.items()}
    else:
        frames = draw_frames(plan, drawn)
    kind, level = "none", 0
    if rng.random() < which.degraded:
        kind, level = str(rng.choice(DEGRADATIONS[1:])), int(rng.choice(LEVELS))
        frames = degrade(frames, kind, level, seed)
    data = b""
    if which.keep or rng.random() < 0.25:
        data = coded(frames, crf=int(rng.choice((20, 20, 24, 28))), preset="veryfast", times_s=drawn)
        frames = decoded(data)
    between = small(frames[1::2]) if which.between else None
    frames = frames[::2] if which.between else frames
    note = {
        "seed": seed,
        "times_s": np.round(times, 3).tolist(),
        "degradation": [kind, level],
        "facts": facts(plan, times.reshape(which.groups, 2).mean(1)),
        "annotation": told(plan, f"clips/{seed}.mp4"),
    }
    return _Drawn(tower.patches(small(frames)), between, targets, note, data)


def _grouped(value: NDArray[Any]) -> NDArray[Any]:
    """(2·n, 8, 14[, C]) per frame to (n, 2·C, 112) per group in patch order, first frame's channels first."""
    planes = value if value.ndim == 4 else value[..., None]
    planes = planes.transpose(0, 3, 1, 2).reshape(len(planes) // 2, 2 * planes.shape[-1], *tower.GRID)
    return tower.in_patch_order(planes)


def _shard(which: ClipSet, first: int, work: Path) -> int:
    """Render one shard; returns its number of clips."""
    root = folder(which.name, work)
    patches = np.load(root / "patches.npy", mmap_mode="r+")
    between = np.load(root / "between.npy", mmap_mode="r+") if which.between else None
    targets: dict[str, NDArray[np.float16]] = {}
    notes = []
    for row in range(first, min(first + SHARD, which.clips)):
        clip = _clip(which, which.seed + row)
        patches[row] = clip.patches
        if between is not None:
            between[row] = clip.between
        for name, value in clip.targets.items():
            if name not in targets:
                targets[name] = np.load(root / f"target_{name}.npy", mmap_mode="r+")
            targets[name][row] = value
        if which.keep:
            (root / "clips" / f"{which.seed + row}.mp4").write_bytes(clip.data)
        notes.append(clip.note)
    patches.flush()
    if between is not None:
        between.flush()
    part = root / "notes" / f"{first:06d}.part"
    part.write_text(json.dumps(notes), encoding="utf-8")
    os.replace(part, part.with_suffix(".json"))
    return len(notes)


def _prepare(which: ClipSet, work: Path) -> None:
    """Make the empty arrays; the first clip says which dense targets there are."""
    root = folder(which.name, work)
    (root / "notes").mkdir(parents=True, exist_ok=True)
    (root / "clips").mkdir(exist_ok=True)
    (root / DEFINED).write_text(json.dumps(_definition(which), indent=1) + "\n", encoding="utf-8")
    shape = _shape(which)
    if which.dense and not any(root.glob("target_*.npy")):
        for name, value in _clip(which, which.seed).targets.items():
            np.lib.format.open_memmap(root / f"target_{name}.npy", "w+", np.float16, (which.clips, *value.shape))
    if not (root / "patches.npy").exists():
        np.lib.format.open_memmap(root / "patches.npy", "w+", np.uint8, shape)
    if which.between and not (root / "between.npy").exists():
        pictures = (which.clips, FRAMES - 1, tower.HEIGHT, tower.WIDTH, 3)
        np.lib.format.open_memmap(root / "between.npy", "w+", np.uint8, pictures)


def _shape(which: ClipSet) -> tuple[int, int, int, int]:
    return which.clips, which.groups, tower.PATCHES, tower.PATCH_VALUES


@cache
def _definition(which: ClipSet) -> dict[str, Any]:
    """What a set is rendered by, and its first clip's digest, which tells another renderer."""
    first = hashlib.sha256(_clip(which, which.seed).patches.tobytes()).hexdigest()
    return {**asdict(which), "first_clip": first}


def _discard_others(which: ClipSet, work: Path) -> None:
    """Delete what was rendered by another definition of the set, or by another renderer."""
    root = folder(which.name, work)
    patches, defined = root / "patches.npy", root / DEFINED
    other = defined.exists() and json.loads(defined.read_text(encoding="utf-8")) != _definition(which)
    if other or (patches.exists() and np.load(patches, mmap_mode="r").shape != _shape(which)):
        shutil.rmtree(root)


def harvest(names: list[str], work: Path = WORK, workers: int = 2, limit: int | None = None) -> None:
    """Render the missing shards of these sets; ``limit`` stops each set after so many clips. A set that was rendered
    by another definition is rendered anew. One process renders at a time; another one waits."""
    work.mkdir(parents=True, exist_ok=True)
    with FileLock(work / "sets.lock"):
        for name in names:
            _discard_others(SETS[name], work)
        _render(names, work, workers, limit)


def _render(names: list[str], work: Path, workers: int, limit: int | None) -> None:
    todo = [(which, first) for which in (SETS[name] for name in names) for first in _missing(which, work, limit)]
    if not todo:
        return
    for which in {which.name: which for which, _ in todo}.values():
        _prepare(which, work)
    progress = Progress("clips", len(todo))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_single_thread) as pool:
        jobs = [pool.submit(_shard, which, first, work) for which, first in todo]
        for job in as_completed(jobs):
            job.result()
            progress.step()


def _missing(which: ClipSet, work: Path, limit: int | None) -> Iterator[int]:
    done = {int(p.stem) for p in (folder(which.name, work) / "notes").glob("*.json")}
    for first in range(0, min(which.clips, limit or which.clips), SHARD):
        if first not in done:
            yield first


def _single_thread() -> None:
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def main() -> None:
    parser = argparse.ArgumentParser(description="Render the demo's clip sets into the work folder.")
    parser.add_argument("sets", nargs="+", choices=sorted(SETS))
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--limit", type=int)
    arguments = parser.parse_args()
    harvest(arguments.sets, arguments.work, arguments.workers, arguments.limit)


if __name__ == "__main__":
    main()
