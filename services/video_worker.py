"""The guarded decoder: a process of its own that samples clips and writes display proxies, one job at a time.

Started by ``services.video_link`` as a plain Python process (never by multiprocessing, whose start would import the
application's main script). It imports PyAV and NumPy only (Pillow with the first still picture), limits its own
address space and processor time where the platform can (Linux, in part macOS; on Windows the parent's clock is the
only limit), and writes no core dump.

Protocol, over standard input and output. A job is one line of JSON: ``{"op": "sample" | "still" | "proxy",
"timeout_s": …, "limits": {…}, …arguments}``. An answer is a sequence of messages, each a little-endian uint32 length,
that many bytes of JSON, and ``"bytes"`` further bytes where the JSON says so:

    {"is": "ready"}                                        once, after start-up
    {"is": "shape", "frames", "height", "width"}           before the first picture; once more for those between
    {"is": "picture", "slots", "pts_s", "bytes"} + RGB     each picture once, for the sampling slots it fills
    {"is": "done", "result"}                               the end of a job that went well
    {"is": "error", "kind": "clip" | "input", "text", "detail"}   the end of one that did not
"""

from __future__ import annotations

import dataclasses
import json
import os
import struct
import sys
import time
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from services.errors import ClipError, InputError
from services.schema import Sampling, Window
from services.video_names import shown_name
from services.video_probe import Limits
from services.video_proxy import write_proxy
from services.video_sampling import sample
from services.video_still import PICTURE, read_still

MEMORY_TEXT = "needs more memory to decode than HerdLens allows it; convert it to MP4 (H.264) in 1080p and try again."


class Channel:
    """Messages to the parent. Owns the process's real standard output; what else prints goes to standard error."""

    def __init__(self) -> None:
        self._out: BinaryIO = os.fdopen(os.dup(1), "wb", buffering=0)
        os.dup2(2, 1)
        if sys.platform == "win32":
            import msvcrt

            msvcrt.setmode(self._out.fileno(), os.O_BINARY)

    def send(self, message: dict[str, Any], payload: memoryview | None = None) -> None:
        if payload is not None:
            message = message | {"bytes": payload.nbytes}
        header = json.dumps(message).encode()
        self._write(memoryview(struct.pack("<I", len(header)) + header))
        if payload is not None:
            self._write(payload)

    def _write(self, data: memoryview) -> None:
        while data:
            data = data[self._out.write(data) :]


def main() -> None:
    """Serve jobs until standard input closes. ``argv[1]``: megabytes of address space."""
    channel = Channel()
    limit_memory(int(sys.argv[1]))
    channel.send({"is": "ready"})
    for line in sys.stdin.buffer:
        job = json.loads(line)
        limit_processor_time(float(job["timeout_s"]))
        channel.send(_run(job, channel))


def _run(job: dict[str, Any], channel: Channel) -> dict[str, Any]:
    try:
        return {"is": "done", "result": _OPERATIONS[job["op"]](job, channel)}
    except BrokenPipeError:
        raise SystemExit(0) from None  # nobody listens any more
    except ClipError as error:
        return _error("clip", str(error), error.__cause__)
    except InputError as error:
        return _error("input", str(error), error.__cause__)
    except MemoryError as error:
        return _error("clip", f"“{shown_name(job['path'])}” {MEMORY_TEXT}", error)
    except Exception as error:  # PyAV reports odd files by ten different kinds, AttributeError among them
        text = f"“{shown_name(job['path'])}” cannot be decoded; convert it to MP4 (H.264) and try again."
        return _error("clip", text, error)


def _error(kind: str, text: str, cause: BaseException | None) -> dict[str, Any]:
    detail = f"{type(cause).__name__}: {cause}" if cause is not None else ""
    return {"is": "error", "kind": kind, "text": text, "detail": detail[:2000]}


def _sample(job: dict[str, Any], channel: Channel) -> dict[str, Any]:
    def started(frames: int, height: int, width: int) -> None:
        channel.send({"is": "shape", "frames": frames, "height": height, "width": width})

    def sink(slots: Sequence[int], pts_s: float, picture: NDArray[np.uint8]) -> None:
        channel.send({"is": "picture", "slots": list(slots), "pts_s": pts_s}, picture.reshape(-1).data)

    window = Window(*job["window"]) if job["window"] else None
    limits = Limits(**job["limits"])
    sampling, between = Sampling(**job["sampling"]), int(job["between_pixels"])
    return dataclasses.asdict(sample(job["path"], sampling, window, limits, started, sink, between))


def _still(job: dict[str, Any], channel: Channel) -> dict[str, Any]:
    still = read_still(job["path"], Limits(**job["limits"]), job["sampling"]["max_frame_pixels"])
    high, wide = still.rgb.shape[:2]
    channel.send({"is": "shape", "frames": 1, "height": high, "width": wide})
    channel.send({"is": "picture", "slots": [0], "pts_s": 0.0}, still.rgb.reshape(-1).data)
    told = {"width": still.width, "height": still.height, "codec": still.codec, "warnings": still.warnings}
    return told | {"duration_s": 0.0, "fps": (0, 1), "container": PICTURE, "window": (0.0, 0.0), "filled": []}


def _proxy(job: dict[str, Any], channel: Channel) -> dict[str, Any]:
    write_proxy(job["path"], job["out"], job["part"], Window(*job["span"]), job["max_width"], Limits(**job["limits"]))
    return {}


_OPERATIONS = {"sample": _sample, "still": _still, "proxy": _proxy}


def limit_memory(megabytes: int) -> None:
    """Cap the address space, and let a crash leave no core file."""
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    for kind, value in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_AS, megabytes * 2**20)):
        try:
            resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))
        except (ValueError, OSError):  # macOS refuses some; the parent's clock remains
            continue


def limit_processor_time(seconds: float) -> None:
    """Let the system end this process should the parent be gone and a decoder hang."""
    try:
        import resource
    except ImportError:
        return
    budget = int(time.process_time() + seconds * (os.cpu_count() or 1)) + 5
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (budget, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    except (ValueError, OSError):
        return
