"""Training runs as files and processes: what is asked is started once, seen by all, stopped, resumed, and not lost.

Real processes: the trainer itself where it must refuse, and small commands where a running one is needed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from services import processes
from services.errors import InputError, ResourceError
from services.training_runs import RECORD, RunSettings, TrainingRuns

SETTINGS = RunSettings("demo")
# A trainer that only keeps its log: it counts steps until it is asked to stop, as the real one does.
STAND_IN = """
import json, signal, sys, time
out = sys.argv[sys.argv.index("--output") + 1] + "/progress.jsonl"
stop = []
signal.signal(signal.SIGINT, lambda *_: stop.append(1))
resumed = "--resume" in sys.argv
with open(out, "w") as log:
    print(json.dumps({"state": "running", "total_steps": 1000, "resumed_at_step": 5 if resumed else 0}), file=log)
    for step in range(1, 1000):
        print(json.dumps({"step": step, "loss": 1 / step}), file=log, flush=True)
        time.sleep(0.02)
        if stop:
            print(json.dumps({"state": "stopped", "message": f"Stopped after step {step}."}), file=log, flush=True)
            sys.exit(130)
"""


def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingRuns:
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    monkeypatch.setattr("services.training_runs.SCRIPT", script)
    return TrainingRuns(tmp_path / "runs")


def empty_set(folder: Path) -> Path:
    folder.mkdir(parents=True)
    file = folder / "annotations.json"
    file.write_text("[]")
    return file


def started(runs: TrainingRuns, name: str = "barn") -> int:
    """Start a run, wait for its first steps; its process id."""
    runs.start(name, SETTINGS, {"mounting": 4, "normal": 4}, empty_set)
    until(lambda: runs.view(name).step >= 2)
    return int(json.loads((runs.folder / name / processes.PROCESS).read_text())["pid"])


def ended(runs: TrainingRuns, name: str = "barn") -> str:
    until(lambda: not runs.view(name).active)
    return runs.view(name).state


def test_a_run_is_seen_by_another_process_and_stops_when_asked(runs: TrainingRuns) -> None:
    pid = started(runs)
    assert os.getsid(pid) == pid, "it leads a session of its own: a Ctrl-C at the app does not reach it"
    other = TrainingRuns(runs.folder)  # as another app, or this one after a restart, sees it
    seen = other.active()
    assert seen.name == "barn" and seen.state == "running" and seen.total_steps == 1000 and not seen.preparing
    assert seen.latest("loss") == pytest.approx(1 / seen.step)
    other.stop("barn")
    assert runs.view("barn").state in ("stopping", "stopped")
    assert ended(runs) == "stopped"
    assert runs.view("barn").message.startswith("Stopped after step")
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_only_one_training_runs_at_a_time(runs: TrainingRuns) -> None:
    started(runs)
    with pytest.raises(InputError, match="'barn' is running"):
        TrainingRuns(runs.folder).start("other", SETTINGS, {}, empty_set)
    with pytest.raises(InputError, match="stop it first"):
        runs.delete("barn")
    assert not (runs.folder / "other").exists()
    runs.stop("barn")
    assert ended(runs) == "stopped"
    runs.delete("barn")
    assert runs.list() == [] and not (runs.folder / "barn").exists()


def test_a_killed_run_shows_as_such_and_goes_on(runs: TrainingRuns) -> None:
    os.kill(started(runs), signal.SIGKILL)
    assert ended(runs) == "killed"
    assert processes.exit_status(runs.folder / "barn") in (-signal.SIGKILL, None)
    runs.resume("barn")
    until(lambda: runs.view("barn").head.get("resumed_at_step") == 5)
    assert runs.view("barn").state == "running"
    runs.stop("barn")
    assert ended(runs) == "stopped"


def test_a_stopped_run_that_goes_on_is_preparing_until_its_log_begins_anew(runs: TrainingRuns, tmp_path: Path) -> None:
    started(runs)
    runs.stop("barn")
    ended(runs)
    (tmp_path / "stand_in.py").write_text("import time; time.sleep(60)")
    runs.resume("barn")
    seen = runs.view("barn")
    assert seen.state == "running" and seen.preparing and seen.step >= 2, "the old curve is still shown"
    runs.stop("barn")
    runs.stop("barn")  # at once: what was started in the background may ignore SIGINT until its own handler stands
    assert ended(runs) in ("stopped", "killed", "failed")


def test_a_run_stopped_before_its_first_step_is_no_failure(tmp_path: Path) -> None:
    """The real trainer, interrupted while it still loads its libraries: no log tells how it ended."""
    runs = TrainingRuns(tmp_path / "runs")
    runs.start("barn", SETTINGS, {}, empty_set)
    runs.stop("barn")
    assert ended(runs) == "stopped" and runs.view("barn").total_steps == 0


def test_another_process_with_the_same_number_is_not_the_run(runs: TrainingRuns) -> None:
    os.kill(started(runs), signal.SIGKILL)
    ended(runs)
    told = {"pid": os.getpid(), "started": psutil.Process().create_time() - 3600}
    (runs.folder / "barn" / processes.PROCESS).write_text(json.dumps(told))
    assert runs.view("barn").state == "killed"


def test_a_run_killed_after_its_adapter_was_written_is_done(runs: TrainingRuns) -> None:
    os.kill(started(runs), signal.SIGKILL)
    assert ended(runs) == "killed"
    output = runs.view("barn").output
    (output / RECORD).write_text("{}")
    assert runs.view("barn").state == "done"
    (output / "checkpoint-000002").mkdir()
    assert runs.view("barn").state == "killed", "the adapter's files may be half written while a checkpoint is there"


def test_a_command_that_could_not_be_noted_does_not_run_on(runs: TrainingRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk at the start: nobody would find the training again, and a second one could be begun beside it."""

    def full(path: Path, value: object) -> None:
        raise OSError(28, "No space left on device")

    begun: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def popen(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        begun.append(real(*arguments, **options))
        return begun[-1]

    monkeypatch.setattr(processes, "_write", full)
    monkeypatch.setattr("services.processes.subprocess.Popen", popen)
    with pytest.raises(ResourceError, match="No space left"):
        runs.start("barn", SETTINGS, {}, empty_set)
    assert begun and begun[0].poll() is not None
    assert runs.list() == []


@pytest.mark.parametrize("accumulation", [1, 4])
def test_clips_of_a_step_are_spread_over_passes_that_fit(accumulation: int) -> None:
    settings = RunSettings("demo", batch=8, at_once=8 // accumulation)
    flags = dict(zip(settings.flags()[::2], settings.flags()[1::2], strict=True))
    assert (flags["--batch"], flags["--accumulation"]) == (str(8 // accumulation), str(accumulation))
    assert "--at-once" not in flags and "--learning-rate" not in flags


@pytest.mark.parametrize("name", ["", "../x", "a b", "x" * 65, ".hidden"])
def test_a_name_that_would_leave_the_folder_is_refused(runs: TrainingRuns, name: str) -> None:
    with pytest.raises(InputError, match="cannot be a name"):
        runs.start(name, SETTINGS, {}, empty_set)
    assert runs.view(name) is None


def test_a_set_that_cannot_be_written_leaves_nothing(runs: TrainingRuns) -> None:
    def broken(folder: Path) -> Path:
        folder.mkdir()
        raise InputError("no")

    with pytest.raises(InputError, match="no"):
        runs.start("barn", SETTINGS, {}, broken)
    assert runs.list() == [] and not (runs.folder / "barn").exists()


def test_the_real_trainer_refuses_in_words_that_the_run_shows(tmp_path: Path) -> None:
    """It ends before its log begins; its last words are the message."""
    runs = TrainingRuns(tmp_path / "runs")
    runs.start("barn", SETTINGS, {}, empty_set)
    assert ended(runs) == "failed"
    message = runs.view("barn").message
    assert "empty list" in message and "Traceback" not in message, message


@pytest.mark.parametrize("status", [0, 2])
def test_no_one_sees_an_end_before_its_status_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """However late the note is written: a page that looked in between would call a refusal a kill."""
    write, held = processes._write, threading.Event()

    def late(path: Path, value: object) -> None:
        if path.name == processes.EXIT:
            held.wait(10)
        write(path, value)

    monkeypatch.setattr(processes, "_write", late)
    processes.start(tmp_path, [sys.executable, "-c", f"raise SystemExit({status})"])
    command = psutil.Process(json.loads((tmp_path / processes.PROCESS).read_text())["pid"])
    until(lambda: command.status() == psutil.STATUS_ZOMBIE)
    assert processes.alive(tmp_path)
    held.set()
    until(lambda: not processes.alive(tmp_path))
    assert processes.exit_status(tmp_path) == status
    until(lambda: not command.is_running())


def test_going_on_that_fails_before_it_writes_a_line_is_told(
    runs: TrainingRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(runs)
    runs.stop("barn")
    assert ended(runs) == "stopped"
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit('The clips are gone.')")
    monkeypatch.setattr("services.training_runs.SCRIPT", broken)
    runs.resume("barn")
    assert ended(runs) == "failed" and runs.view("barn").message == "The clips are gone."


def test_the_adapter_that_a_run_goes_on_from_is_kept_with_it(runs: TrainingRuns, tmp_path: Path) -> None:
    source = tmp_path / "barn-1"
    source.mkdir()
    (source / "adapter_config.json").write_text("{}")
    runs.start("second", replace(SETTINGS, start=str(source)), {}, empty_set)
    until(lambda: runs.view("second").step >= 2)
    runs.stop("second")
    assert ended(runs, "second") == "stopped"
    shutil.rmtree(source)
    kept = Path(runs.view("second").settings["start"])  # type: ignore[union-attr]
    assert kept.name == "barn-1" and (kept / "adapter_config.json").is_file() and kept.is_relative_to(runs.folder)
    told = json.loads((runs.folder / "second" / "run.json").read_text())
    assert told["flags"][told["flags"].index("--start") + 1] == str(kept)


def test_the_flags_are_the_trainers_own() -> None:
    """Fails when a flag of the trainer is renamed and forgotten here."""
    import ast

    source = (Path(processes.ROOT) / "training" / "Qlora_train.py").read_text()
    main = next(n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef) and n.name == "main")
    known = {argument.arg for argument in main.args.args}
    flags = RunSettings("demo", max_steps=3, start="adapters/mounting").flags()
    assert {flag[2:].replace("-", "_") for flag in flags[::2]} <= known
