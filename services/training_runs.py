"""Fine-tuning runs that outlive page, browser and app: ``training/Qlora_train.py`` in a process of its own.

``<folder>/<name>/`` holds ``run.json`` (what was asked), ``data/`` (the training set), ``output/`` (checkpoints, later
the adapter; ``progress.jsonl`` is the trainer's own log) and the files of ``services.processes``. The state of a run is
read from these files alone, so any number of browsers and processes see the same. One training runs at a time.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from services import processes
from services.errors import Cancelled, HerdLensError, InputError, ResourceError
from services.settings import ROOT

RunState = Literal["running", "stopping", "done", "stopped", "failed", "killed"]
SCRIPT = ROOT / "training" / "Qlora_train.py"
RUN = "run.json"
OUTPUT = "output"
PROGRESS = "progress.jsonl"
RECORD = "herdlens.json"
START = "start_"
"""In the log, before the keys of what the adapter that a run goes on from made of the held-out clips."""
STOPPING = "stopping"
CHECKPOINTS = "*checkpoint-*"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What can be chosen in the browser; the rest is the trainer's default. ``batch`` clips make one step, ``at_once``
    of them one pass; no ``learning_rate``: the profile's. ``context`` as in its ``--context``; ``start``: folder of the
    adapter that it goes on from."""

    profile: str
    epochs: int = 6
    batch: int = 8
    at_once: int = 16
    learning_rate: float | None = None
    context: Literal["off", "mixed"] = "mixed"
    validation_share: float = 0.2
    max_steps: int | None = None
    save_every: int = 20
    start: str | None = None

    def flags(self) -> list[str]:
        values = {key: value for key, value in asdict(self).items() if value is not None and key != "at_once"}
        values["batch"] = min(self.batch, self.at_once)
        values["accumulation"] = math.ceil(self.batch / values["batch"])
        return [part for key, value in values.items() for part in (f"--{key.replace('_', '-')}", str(value))]


@dataclass(frozen=True, slots=True)
class RunView:
    """A run as its files say. ``head`` is the first line of the trainer's log, ``rows`` its steps and validations,
    ``message`` the sentence that it ended with. ``preparing``: it runs and has not begun to count steps."""

    name: str
    folder: Path
    state: RunState
    settings: Mapping[str, Any]
    clips: Mapping[str, int]
    created_at: str
    message: str = ""
    head: Mapping[str, Any] = field(default_factory=dict)
    rows: tuple[Mapping[str, Any], ...] = ()
    preparing: bool = False

    @property
    def active(self) -> bool:
        return self.state in ("running", "stopping")

    @property
    def output(self) -> Path:
        """The trainer's output folder: an adapter once ``state`` is done."""
        return self.folder / OUTPUT

    @property
    def total_steps(self) -> int:
        return int(self.head.get("total_steps", 0))

    @property
    def step(self) -> int:
        return int(self.rows[-1]["step"]) if self.rows else 0

    def latest(self, key: str) -> float | None:
        """The newest value of ``key`` in the log."""
        return next((float(row[key]) for row in reversed(self.rows) if row.get(key) is not None), None)

    @property
    def base(self) -> Mapping[str, Any]:
        """The validation of the base, before the first step; empty until it was measured."""
        return next((row for row in self.rows if row["step"] == 0), {})

    @property
    def started_from(self) -> str | None:
        """Name of the adapter that it goes on from."""
        start = self.settings.get("start")
        return Path(start).name if start else None

    @property
    def began(self) -> Mapping[str, Any]:
        """The validation before the first step of that adapter, or else of the base; empty until it was measured."""
        if self.started_from is None:
            return self.base
        return {key.removeprefix(START): value for key, value in self.base.items() if key.startswith(START)}

    @property
    def best(self) -> Mapping[str, Any]:
        """The validation with the lowest loss, whose weights the adapter has; empty before the first."""
        found = [row for row in self.rows if row.get("validation_loss") is not None and row["step"]]
        return min(found, key=lambda row: float(row["validation_loss"]), default={})


RunViews = list[RunView]


class TrainingRuns:
    """The runs in ``folder``, which the first start creates. Thread-safe and safe between processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder).absolute()

    def list(self) -> RunViews:
        """All runs, newest first."""
        found = [self.view(path.parent.name) for path in self.folder.glob(f"[!.]*/{RUN}")]
        return sorted((run for run in found if run is not None), key=lambda run: run.created_at, reverse=True)

    def view(self, name: str) -> RunView | None:
        """The run as it stands now; None when there is no such run."""
        folder = self.folder / name
        try:
            told = json.loads((folder / RUN).read_text(encoding="utf-8")) if _NAME.fullmatch(name) else None
        except (OSError, ValueError):
            return None
        if told is None:
            return None
        running = processes.alive(folder)  # before the log is read: a run that ends meanwhile has its last line then
        head, rows, ending = _log(folder / OUTPUT / PROGRESS)
        state, message = self._state(folder, running, ending)
        return RunView(
            name=name,
            folder=folder,
            state=state,
            settings=told["settings"],
            clips=told["clips"],
            created_at=told["created_at"],
            message=message,
            head=head,
            rows=tuple(rows),
            preparing=running and (not head or bool(ending)),
        )

    def active(self) -> RunView | None:
        """The run whose process is alive, if there is one."""
        return next((run for run in self.list() if run.active), None)

    def start(
        self, name: str, settings: RunSettings, clips: Mapping[str, int], write_set: Callable[[Path], Path]
    ) -> None:
        """Begin a new run called ``name``, which becomes the adapter's name. ``write_set(folder)`` writes the training
        set and returns its annotation file; ``clips`` counts it by label. InputError when the name cannot be used or
        a training is running. The adapter that it goes on from is copied, so that the run can be resumed without it."""
        if not _NAME.fullmatch(name):
            raise InputError(f"{name!r} cannot be a name; use up to 64 letters, digits, dashes and underscores.")
        with self._only_one():
            folder = self.folder / name
            if folder.exists():
                raise InputError(f"There is a training run {name!r} already; choose another name or delete it.")
            try:
                (folder / OUTPUT).mkdir(parents=True)
                data = write_set(folder / "data")
                settings = _with_own_start(folder, settings)
                told = {
                    "settings": asdict(settings),
                    "flags": settings.flags(),
                    "data": data.relative_to(folder).as_posix(),
                    "clips": dict(clips),
                    "created_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
                }
                (folder / RUN).write_text(json.dumps(told, indent=1), encoding="utf-8")
                self._launch(folder, resume=False)
            except BaseException as error:
                shutil.rmtree(folder, ignore_errors=True)
                if isinstance(error, OSError) and not isinstance(error, HerdLensError):
                    raise ResourceError(f"The run could not be written to {folder} ({error.strerror}).") from error
                raise

    def resume(self, name: str) -> None:
        """Go on from the last checkpoint (from the beginning where there is none)."""
        with self._only_one():
            self._launch(self._require(name).folder, resume=True)

    def stop(self, name: str) -> None:
        """Ask the run to save and stop; asked a second time, it stops at once and keeps its last checkpoint."""
        run = self._require(name)
        if run.active:
            processes.interrupt(run.folder, hard=run.state == "stopping")
            (run.folder / STOPPING).touch()

    def delete(self, name: str) -> None:
        """Delete the run with its data and checkpoints. An adapter that was put to use is a copy and stays."""
        with FileLock(self.folder / ".lock"):
            run = self._require(name)
            if run.active:
                raise InputError(f"The training {name!r} is running; stop it first.")
            shutil.rmtree(run.folder, ignore_errors=True)

    def _launch(self, folder: Path, *, resume: bool) -> None:
        told = json.loads((folder / RUN).read_text(encoding="utf-8"))
        command = [sys.executable, str(SCRIPT), "--data", str(folder / told["data"]), "--name", folder.name]
        command += ["--output", str(folder / OUTPUT), *told["flags"], *(["--resume"] if resume else [])]
        (folder / STOPPING).unlink(missing_ok=True)
        processes.start(folder, command)

    @contextmanager
    def _only_one(self) -> Iterator[None]:
        """Held while a training is started: two browsers that press at the same moment start one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / ".lock"):
            busy = self.active()
            if busy is not None:
                raise InputError(f"The training {busy.name!r} is running; only one can run at a time.")
            yield

    def _require(self, name: str) -> RunView:
        run = self.view(name)
        if run is None:
            raise InputError(f"There is no training run {name!r}; it may have been deleted.")
        return run

    @staticmethod
    def _state(folder: Path, running: bool, ending: Mapping[str, Any]) -> tuple[RunState, str]:
        message = str(ending.get("message", ""))
        if running:
            return ("stopping" if (folder / STOPPING).exists() else "running"), ""
        whole = not any((folder / OUTPUT).glob(CHECKPOINTS))  # they go once the adapter is written
        if (folder / OUTPUT / RECORD).is_file() and (whole or ending.get("state") == "done"):
            return "done", message
        status = processes.exit_status(folder)
        if ending.get("state") == "stopped" and status not in (None, Cancelled.exit_status) and status > 0:
            return "failed", processes.last_line(folder)  # going on failed before it wrote a line of its own
        if ending.get("state") in ("stopped", "failed"):
            problems = [str(problem) for problem in ending.get("problems", ())]
            return ending["state"], " ".join([message, *problems])
        if (folder / STOPPING).exists():  # asked to stop before its log began
            return "stopped", ""
        if status is not None and status > 0:  # it ended by itself before its log began: its last words say why
            return "failed", processes.last_line(folder)
        return "killed", ""


def _with_own_start(folder: Path, settings: RunSettings) -> RunSettings:
    """``settings`` with a copy in ``folder`` of the adapter that they start from; its own folder's name stays."""
    if settings.start is None:
        return settings
    source = Path(settings.start)
    return replace(settings, start=str(shutil.copytree(source, folder / "start" / source.name)))


def _log(file: Path) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    """(first line, steps and validations, last line) of a trainer's log; empty where it has none. A line that is
    being written is left out."""
    try:
        lines = file.read_text(encoding="utf-8").split("\n")[:-1]
        values = [json.loads(line) for line in lines]
    except (OSError, ValueError):
        return {}, [], {}
    head = values[0] if values and values[0].get("state") == "running" else {}
    ending = values[-1] if values and values[-1].get("state") in ("done", "stopped", "failed") else {}
    return head, [value for value in values if "step" in value], ending
