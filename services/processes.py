"""Commands that outlive the page, the browser and the app: each runs in a folder that says which process it is.

``process.json`` holds pid and start time (a pid alone is given again to others) of the command and of its starter,
``exit.json`` the exit status where the starter saw the end, ``output.log`` what the command printed. The command is the
leader of a session of its own, so that a Ctrl-C at the app does not reach it, and runs at low priority beside the
analyses.

A command that ended and whose starter has yet to note how counts as alive: nobody sees an end without its status.
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
from typing import Any

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
    process: subprocess.Popen[bytes] | None = None
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
            _write(folder / PROCESS, {"pid": process.pid, "started": known.create_time(), "starter": me()})
            if os.name == "posix":
                known.nice(LOW_PRIORITY)
    except OSError as error:
        if process is not None:  # nobody could find it again
            process.kill()
            process.wait()
        raise ResourceError(f"The work in {folder} could not be started ({error.strerror}); try again.") from error
    threading.Thread(target=_wait, args=(process, folder), name=f"wait-{process.pid}", daemon=True).start()


def alive(folder: Path) -> bool:
    """Whether the command of ``folder`` is running, whoever started it, or has just ended and will say how."""
    told = _read(folder / PROCESS)
    process = _known(told)
    if process is None or not _is_zombie(process):
        return process is not None
    return is_running(told.get("starter", {})) and exit_status(folder) is None


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
    return _told(_read(folder / PROCESS))


def _told(told: Mapping[str, Any]) -> psutil.Process | None:
    process = _known(told)
    return None if process is None or _is_zombie(process) else process


def _known(told: Mapping[str, Any]) -> psutil.Process | None:
    """The process that ``told`` names while the system knows it, running or ended and not collected."""
    try:
        process = psutil.Process(int(told["pid"]))
        same = abs(process.create_time() - float(told["started"])) < SAME_START_S
        return process if same else None
    except (ValueError, KeyError, TypeError, psutil.Error):
        return None


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:  # it was collected between two looks
        return True


def _wait(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Note how the child ended, then collect it, so that it does not stay as a zombie."""
    status = _ended(process)
    try:
        _write(folder / EXIT, {"status": status, "pid": process.pid})
    except OSError:  # the folder may have been deleted meanwhile
        pass
    finally:
        process.wait()


def _ended(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end without collecting the child, where the system can; its status as ``Popen`` counts it."""
    if not hasattr(os, "waitid"):
        return process.wait()
    end = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    if end is None:
        return process.wait()
    return end.si_status if end.si_code == os.CLD_EXITED else -end.si_status


def _read(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _write(path: Path, value: object) -> None:
    part = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}.part")
    part.write_text(json.dumps(value), encoding="utf-8")
    os.replace(part, path)
