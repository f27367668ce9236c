"""Commands that outlive the page, the browser and the app: each runs in a folder that says which process it is.

``process.json`` holds pid and start time (a pid alone is given again to others), ``exit.json`` the exit status where
the app that started it saw the end, ``output.log`` what the command printed. The command is the leader of a session of
its own, so that a Ctrl-C at the app does not reach it, and runs at low priority beside the analyses.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from services.errors import ResourceError
from services.settings import ROOT

PROCESS = "process.json"
EXIT = "exit.json"
LOG = "output.log"
SAME_START_S = 2.0
"""Two start times this close are one process: the clock they are counted from may be set."""
LOW_PRIORITY = 10
TAIL_BYTES = 20_000


def start(folder: Path, command: Sequence[str]) -> None:
    """Run ``command`` from the project's folder, its output appended to the log in ``folder``. Returns at once.
    Raises ResourceError when it cannot be started."""
    (folder / EXIT).unlink(missing_ok=True)
    try:
        with open(folder / LOG, "ab") as log:
            process = subprocess.Popen(
                list(command),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        with contextlib.suppress(psutil.Error):
            known = psutil.Process(process.pid)
            _write(folder / PROCESS, {"pid": process.pid, "started": known.create_time()})
            if os.name == "posix":
                known.nice(LOW_PRIORITY)
    except OSError as error:
        raise ResourceError(f"The work in {folder} could not be started ({error.strerror}); try again.") from error
    threading.Thread(target=_wait, args=(process, folder), name=f"wait-{process.pid}", daemon=True).start()


def alive(folder: Path) -> bool:
    """Whether the command of ``folder`` is running, whoever started it."""
    return _process(folder) is not None


def exit_status(folder: Path) -> int | None:
    """Its exit status (negative: the signal that ended it); None while it runs and where nobody saw the end."""
    try:
        return int(json.loads((folder / EXIT).read_text(encoding="utf-8"))["status"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def me() -> dict[str, float]:
    """What identifies this process: its id and its start time."""
    known = psutil.Process()
    return {"pid": known.pid, "started": known.create_time()}


def is_running(told: Mapping[str, float]) -> bool:
    """Whether the process that called itself ``told`` is still there."""
    return _told(told) is not None


def interrupt(folder: Path, *, hard: bool = False) -> None:
    """Ask the command to stop as Ctrl-C would (``hard``: as ``kill`` would); nothing when it does not run."""
    process = _process(folder)
    if process is not None:
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGTERM if hard else signal.SIGINT)


def last_line(folder: Path) -> str:
    """The last line that the command printed, empty where there is none."""
    try:
        with open(folder / LOG, "rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL_BYTES))
            text = log.read().decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _process(folder: Path) -> psutil.Process | None:
    try:
        return _told(json.loads((folder / PROCESS).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def _told(told: Mapping[str, float]) -> psutil.Process | None:
    try:
        process = psutil.Process(int(told["pid"]))
        same = abs(process.create_time() - float(told["started"])) < SAME_START_S
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except (ValueError, KeyError, TypeError, psutil.Error):
        return None


def _wait(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Collect the child, so that it does not stay as a zombie, and note how it ended."""
    status = process.wait()
    with contextlib.suppress(OSError):  # the folder may have been deleted meanwhile
        _write(folder / EXIT, {"status": status, "pid": process.pid})


def _write(path: Path, value: object) -> None:
    part = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}.part")
    part.write_text(json.dumps(value), encoding="utf-8")
    os.replace(part, path)
