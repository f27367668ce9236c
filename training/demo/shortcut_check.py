"""Checks that nothing but the behaviour tells the label.

A logistic regression from light, viewpoint, herd size, length, mean brightness and colour must stay at chance.

    python -m training.demo.shortcut_check                     plans 2,000 clips and draws 2 frames of each
    python -m training.demo.shortcut_check --data FILE         the same on rendered clips, file size included

Prints balanced accuracy by 5-fold cross-validation with its Wilson interval; exit status 1 above .55.
"""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from services.errors import InputError
from training.demo.camera import VIEWS
from training.demo.draw import draw_frames
from training.demo.geometry import visible
from training.demo.plan import plan_clip
from training.demo.shares import balanced

LIMIT = 0.55
F64 = NDArray[np.float64]
_NAMES = sorted({view[0] for group in VIEWS.values() for view in group})


def _row(light: str, viewpoint: str, animals: int, duration_s: float, frames: NDArray[np.uint8]) -> list[float]:
    """Features: light, viewpoint (one-hot), herd (one-hot), length, mean and spread of brightness, mean colour."""
    small = np.stack([cv2.resize(f, (28, 16), interpolation=cv2.INTER_AREA) for f in frames]).astype(np.float64) / 255
    colour = small.mean((0, 1, 2))
    return [
        float(light == "night"), *[float(viewpoint == n) for n in _NAMES], *[float(animals == n) for n in range(1, 6)],
        float(animals), duration_s, float(small.mean()), float(small.mean(-1).std()), *colour.tolist(),
        float(colour[0] - colour[2]),
    ]  # fmt: skip


def _planned(seed: int) -> tuple[list[float], bool]:
    cv2.setNumThreads(1)
    plan = plan_clip(seed)
    frames = draw_frames(plan, [0.25 * plan.duration_s, 0.75 * plan.duration_s], width=224, height=128)
    return _row(plan.light, plan.camera.name, sum(visible(plan)), plan.duration_s, frames), plan.mounting


def _rendered(job: tuple[str, dict[str, Any]]) -> tuple[list[float], bool]:
    folder, entry = job
    path = Path(folder) / entry["video"]
    facts = entry["metadata"]
    with av.open(str(path)) as container:
        decoded = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    frames = np.stack(decoded[::24]).astype(np.uint8)
    size = path.stat().st_size
    row = _row(facts["light"], facts["viewpoint"], facts["animals"], facts["duration_s"], frames)
    return [*row, float(np.log(size)), float(np.log(size / facts["duration_s"]))], facts["label"] == "mounting"


def guesses(x: F64, y: F64, folds: int = 5, seed: int = 0) -> NDArray[np.bool_]:
    """(N,) the label of each row x (N, F), y (N,) in {0, 1}, as a logistic regression on the other folds tells it."""
    reader = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    split = KFold(folds, shuffle=True, random_state=seed)
    guess: NDArray[np.bool_] = cross_val_predict(reader, x, y > 0.5, cv=split)
    return guess


def features(clips: int, seed: int, data: Path | None, processes: int) -> tuple[F64, F64]:
    """Features (N, F) and labels (N,) of planned clips or of an annotation file."""
    jobs: list[Any] = list(range(seed, seed + clips))
    work: Any = _planned
    if data is not None:
        if not data.is_file():
            raise InputError(f"{data} does not exist; name the annotations.json of rendered clips.")
        try:
            entries = json.loads(data.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{data} is not JSON; name the annotations.json of rendered clips.") from error
        jobs, work = [(str(data.parent), entry) for entry in entries], _rendered
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        rows = list(tqdm(pool.map(work, jobs, chunksize=8), total=len(jobs), unit="clip", desc="measuring"))
    return np.array([r[0] for r in rows]), np.array([r[1] for r in rows], np.float64)


def main(arguments: list[str] | None = None) -> int:
    """Runs the check; 0 when the label cannot be told."""
    parser = argparse.ArgumentParser(
        prog="python -m training.demo.shortcut_check", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=500_000)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--processes", type=int, default=2)
    a = parser.parse_args(arguments)
    try:
        if a.clips < 10:
            raise InputError(f"--clips is {a.clips}; take at least 10, of which it can learn.")
        x, y = features(a.clips, a.seed, a.data, a.processes)
    except InputError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    told = balanced(guesses(x, y), y > 0.5)
    print(f"{x.shape[1]} features: balanced accuracy {told}, limit {LIMIT}")
    return 0 if told.value <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
