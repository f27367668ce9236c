"""Clips drawn to practise training with, before there are any of one's own: each batch by the demo's renderer in a
process of its own, into ``<folder>/<batch>/clips``. A batch counts once its annotations are written, which is last.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from services import processes
from services.errors import InputError
from services.training_set import ANNOTATIONS, TrainingClip, practice_clips

MODULE = "training.demo.render"
FIRST_SEED = 900_000
"""Below a million, so that no held-out figure of the demo bundle ever reads these clips."""
CLIPS = 16
"""In one batch: half of them mounting, enough to train on."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """The newest batch while it is not whole. ``message``: why it ended before it was; empty while it runs."""

    done: int
    total: int
    message: str = ""


class PracticeClips:
    """Created by the first ``draw``. Safe between processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder).absolute()

    def draw(self) -> None:
        """Begin to draw another batch; InputError while one is being drawn."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / ".lock"):
            if any(processes.alive(batch) for batch in self._batches()):
                raise InputError("Clips are being drawn already; let that end first.")
            for batch in self._batches():
                if not (batch / "clips" / ANNOTATIONS).is_file():
                    shutil.rmtree(batch, ignore_errors=True)
            number = max((int(batch.name.rpartition("-")[2]) + 1 for batch in self._batches()), default=0)
            batch = self.folder / f"batch-{number:03d}"
            batch.mkdir()
            command = [sys.executable, "-m", MODULE, "--clips", str(CLIPS), "--out", str(batch / "clips")]
            processes.start(batch, [*command, "--seed", str(FIRST_SEED + CLIPS * number)])

    def drawing(self) -> Drawing | None:
        """What is being drawn or was broken off; None when every batch is whole."""
        for batch in self._batches():
            alive = processes.alive(batch)  # before the annotations are looked for: they are written last
            if not (batch / "clips" / ANNOTATIONS).is_file():
                done = len(list(batch.glob("clips/*.mp4")))
                ended = "" if alive else processes.last_line(batch) or "The drawing was broken off."
                return Drawing(done, CLIPS, ended)
        return None

    def clips(self) -> list[TrainingClip]:
        """Every clip of the whole batches."""
        return practice_clips(self.folder)

    def _batches(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("batch-[0-9]*") if path.is_dir())
