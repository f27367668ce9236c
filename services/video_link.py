"""The parent's end of the guarded decoder: one worker process, and a small pool of warm ones.

A worker that hangs is killed when the clock runs out, one that dies is noticed at once; either costs the caller one
ClipError, and the next job gets a fresh process. Errors: ClipError, InputError, Cancelled, and ResourceError where no
worker can be started at all.
"""

from __future__ import annotations

import json
import logging
import queue
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from services.errors import Cancelled, ClipError, InputError, ResourceError

ROOT = Path(__file__).resolve().parent.parent
START_S = 60.0
POLL_S = 0.05
JOBS_PER_WORKER = 100  # then it is replaced: whatever its libraries may have leaked goes with it
LONGEST_HEADER = 2**20
LONGEST_PAYLOAD = 2**30

# The path is put in place by hand: "-m" would depend on the working directory and on PYTHONSAFEPATH. NumPy's own
# threads are of no use to a decoder and each reserves address space.
START = (
    "import os, sys; os.environ.update(OMP_NUM_THREADS='1', OPENBLAS_NUM_THREADS='1', MKL_NUM_THREADS='1'); "
    "sys.path.insert(0, sys.argv.pop(1)); from services.video_worker import main; main()"
)

log = logging.getLogger(__name__)

Message = tuple[dict[str, Any], bytes]


class Cancellation(Protocol):
    """``threading.Event`` satisfies it."""

    def is_set(self) -> bool: ...


class Worker:
    """One decoder process. Not thread-safe: one job at a time, by whoever borrowed it."""

    def __init__(self, memory_mb: int) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", START, str(ROOT), str(memory_mb)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except OSError as error:
            raise ResourceError(
                f"The video decoder process cannot be started ({error.strerror}); close other programs and try again."
            ) from error
        self._messages: queue.Queue[Message | None] = queue.Queue(maxsize=2)  # the pipe itself holds the rest back
        self._closed = threading.Event()
        self._reader = threading.Thread(target=self._read, name="video-worker-reader", daemon=True)
        self._reader.start()
        self._ready = False
        self.jobs = 0

    @property
    def usable(self) -> bool:
        return self._process.poll() is None and self.jobs < JOBS_PER_WORKER

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self, cancelled: Cancellation) -> None:
        """Wait for the process to be up, if it is not yet. Errors: ResourceError, Cancelled."""
        if self._ready:
            return
        message = self._next(time.monotonic() + START_S, cancelled)
        if message is None or message[0].get("is") != "ready":
            detail = self._last_words()
            self.kill()
            raise ResourceError(
                f"The video decoder process does not start ({detail or 'no message'}); "
                "install the requirements again with “pip install -r requirements.txt”."
            )
        self._ready = True

    def run(self, job: dict[str, Any], cancelled: Cancellation) -> Generator[Message, None, None]:
        """Messages of one job up to and including ``done``; the worker is killed unless that was reached."""
        self.jobs += 1
        name, timeout_s = job["name"], float(job["timeout_s"])
        deadline = time.monotonic() + timeout_s
        finished = False
        try:
            self._send(job, name)
            while not finished:
                message = self._next(deadline, cancelled)
                if message is None:
                    raise self._died(name) if self._process.poll() is not None else _too_slow(name, timeout_s)
                finished = message[0]["is"] in ("done", "error")
                if message[0]["is"] == "error":
                    raise _reported(message[0])
                yield message
        finally:
            if not finished:
                self.kill()

    def kill(self) -> None:
        """End the process at once and wait until it is gone."""
        self._closed.set()
        self._process.kill()
        self._process.wait()
        self._close_pipes()

    def close(self) -> None:
        """Let an idle process end by itself; kill it if it does not."""
        self._closed.set()
        if self._process.stdin is not None:
            try:
                self._process.stdin.close()
            except OSError:
                log.debug("worker %d was gone before it was closed", self.pid)
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._close_pipes()

    def _send(self, job: dict[str, Any], name: str) -> None:
        stdin = cast(BinaryIO, self._process.stdin)
        try:
            stdin.write(json.dumps(job).encode() + b"\n")
            stdin.flush()
        except OSError as error:
            raise self._died(name) from error

    def _next(self, deadline: float, cancelled: Cancellation) -> Message | None:
        """The next message; None when the process ended or the clock ran out."""
        while True:
            if cancelled.is_set():
                raise Cancelled("The analysis was cancelled.")
            if time.monotonic() > deadline:
                return None
            try:
                return self._messages.get(timeout=POLL_S)
            except queue.Empty:
                continue

    def _read(self) -> None:
        """Own thread: move messages from the pipe to the queue, until the process ends."""
        pipe = cast(BinaryIO, self._process.stdout)
        try:
            while header := pipe.read(4):
                size = struct.unpack("<I", header)[0]
                if size > LONGEST_HEADER:
                    break
                message = json.loads(pipe.read(size))
                length = int(message.get("bytes", 0))
                if not 0 <= length <= LONGEST_PAYLOAD:
                    break
                self._put((message, pipe.read(length)))
        except (OSError, ValueError, struct.error):
            log.debug("the pipe of worker %d broke", self.pid, exc_info=True)
        self._process.wait()
        self._put(None)

    def _put(self, message: Message | None) -> None:
        while not self._closed.is_set():
            try:
                self._messages.put(message, timeout=POLL_S)
                return
            except queue.Full:
                continue

    def _close_pipes(self) -> None:
        self._reader.join(timeout=5)
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except OSError:
                log.debug("a pipe of worker %d was broken", self.pid)
        self._errors.close()

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read()[-4000:].decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def _died(self, name: str) -> ClipError:
        log.warning("video worker ended with %s: %s", self._process.poll(), self._last_words())
        return ClipError(
            f"The decoder broke down over “{name}”: the file is damaged, or needs more memory than it is allowed; "
            "convert it to MP4 (H.264) and try again."
        )


def _too_slow(name: str, timeout_s: float) -> ClipError:
    return ClipError(
        f"“{name}” took longer than {timeout_s:g} s to decode and was given up; "
        "cut a shorter piece or convert it to MP4 (H.264) in 1080p."
    )


def _reported(message: dict[str, Any]) -> ClipError | InputError:
    log.info("worker: %s (%s)", message["text"], message.get("detail", ""))
    return ClipError(message["text"]) if message["kind"] == "clip" else InputError(message["text"])


class WorkerPool:
    """At most ``size`` warm workers, shared by all threads; who comes later waits."""

    def __init__(self, size: int, memory_mb: int) -> None:
        self._size, self._memory_mb = size, memory_mb
        self._changed = threading.Condition()
        self._idle: list[Worker] = []
        self._busy = 0
        self._closed = False

    @contextmanager
    def borrow(self, cancelled: Cancellation) -> Iterator[Worker]:
        """A worker for one job. Errors: Cancelled while waiting, ResourceError if none can be started."""
        worker = self._take(cancelled)
        try:
            worker.wait_ready(cancelled)
            yield worker
        finally:
            self._give_back(worker)

    def warm(self) -> None:
        """Start a worker ahead of the first job; returns at once."""
        with self._changed:
            if not self._idle and not self._busy and not self._closed:
                self._idle.append(Worker(self._memory_mb))

    def close(self) -> None:
        """End all idle workers; those at work end with their job."""
        with self._changed:
            self._closed = True
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.close()

    def _take(self, cancelled: Cancellation) -> Worker:
        with self._changed:
            while not self._closed:
                if cancelled.is_set():
                    raise Cancelled("The analysis was cancelled.")
                while self._idle:
                    worker = self._idle.pop()
                    if worker.usable:
                        self._busy += 1
                        return worker
                    worker.close()
                if self._busy < self._size:
                    worker = Worker(self._memory_mb)
                    self._busy += 1
                    return worker
                self._changed.wait(POLL_S)
        raise ResourceError("The video service was closed; start HerdLens again.")

    def _give_back(self, worker: Worker) -> None:
        with self._changed:
            self._busy -= 1
            if worker.usable and not self._closed:
                self._idle.append(worker)
            else:
                worker.close()
                if not self._closed and not self._idle:
                    self._idle.append(Worker(self._memory_mb))  # warm again before it is needed
            self._changed.notify()
