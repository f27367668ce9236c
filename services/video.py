"""The video service: probe, validate, sample and decode a clip once, in a guarded worker process.

``VideoReader`` is the service; ``display_proxy``, ``plays_in_browser`` and ``thumbnail`` make clips and frames
presentable, ``file_digest`` names their content. This process never parses media itself: it looks at the path, hands
it to a worker (``video_link``, ``video_worker``) that may hang or die without harm, and receives pictures. Nothing but
``services.errors`` leaves this module.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import logging
import os
import stat
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.errors import Cancelled, ClipError, ResourceError
from services.schema import Clip, Frames, Sampling, Window
from services.video_link import Cancellation, Message, Worker, WorkerPool
from services.video_names import shown_name

log = logging.getLogger(__name__)

DIGEST_BLOCK = 4 * 2**20
THUMBNAIL_WIDTH = 224
PROXY_WIDTH = 1280
# A whole proxy of an hour would take longer than anybody waits: beyond this only the window looked at is re-coded.
PROXY_WHOLE_S = 600.0
# What current Chrome, Edge, Firefox and Safari all play without doubt; anything else gets a proxy.
BROWSER_PLAYS = {"mp4": frozenset({"h264"}), "webm": frozenset({"vp8", "vp9"})}


class VideoReader:
    """Opens clips for any number of threads at once; at most ``workers`` decode at the same time, the rest wait.

    ``timeout_s``: seconds one clip may take in the worker; ``memory_mb``: address space of a worker (enforced where
    the platform can); ``max_pixels``: of one coded picture; ``max_decoded_frames``: frames decoded to reach those
    that are wanted.
    """

    def __init__(
        self,
        *,
        timeout_s: float = 60,
        memory_mb: int = 2048,
        max_pixels: int = 36_000_000,
        max_duration_s: float = 24 * 3600,
        min_duration_s: float = 0.5,
        max_decoded_frames: int = 30_000,
        workers: int = 2,
    ) -> None:
        self._timeout_s = timeout_s
        self._limits = {
            "max_pixels": max_pixels,
            "max_duration_s": max_duration_s,
            "min_duration_s": min_duration_s,
            "max_decoded_frames": max_decoded_frames,
        }
        self._pool = WorkerPool(workers, memory_mb)

    def warm(self) -> None:
        """Start a worker ahead of the first clip; returns at once."""
        self._pool.warm()

    def open(
        self,
        path: str,
        sampling: Sampling,
        window: Window | None,
        cancelled: Cancellation,
        *,
        between_pixels: int = 0,
    ) -> tuple[Clip, Frames]:
        """Probe, validate and sample ``path``: ``sampling.frames`` pictures evenly spaced in time over the window
        (the one given, else the whole clip, else, beyond ``sampling.window_s``, the window with the most motion).
        ``between_pixels`` asks for ``Frames.between`` too, from the same decoding, averaged down to so many pixels.

        Errors: ClipError (one sentence: what is wrong with the clip and what to do), InputError (an impossible
        window), Cancelled, ResourceError (no worker can be started).
        """
        return self._open("sample", path, sampling, window, cancelled, between_pixels)

    def open_still(self, path: str, sampling: Sampling, cancelled: Cancellation) -> tuple[Clip, Frames]:
        """Read a JPEG, PNG or WebP picture: one frame at time 0 of a clip without length (``fps`` 0, ``container``
        ``picture``), capped by ``sampling.max_frame_pixels``. Errors as of ``open``."""
        return self._open("still", path, dataclasses.replace(sampling, frames=1), None, cancelled)

    def _open(
        self,
        op: str,
        path: str,
        sampling: Sampling,
        window: Window | None,
        cancelled: Cancellation,
        between_pixels: int = 0,
    ) -> tuple[Clip, Frames]:
        before = check_path(path)
        stop_hashing = threading.Event()
        with ThreadPoolExecutor(1, "file-digest") as hashing:
            digest = hashing.submit(_digest, path, (cancelled, stop_hashing))
            try:
                receiver = self._decode(op, path, sampling, window, cancelled, between_pixels)
                sha256 = digest.result()
            except BaseException:
                stop_hashing.set()
                raise
        if _identity(check_path(path)) != _identity(before):
            raise ClipError(f"“{shown_name(path)}” changed while it was read; wait until it is complete and try again.")
        return receiver.clip(path, sha256, before.st_size), receiver.frames()

    def close(self) -> None:
        """End the worker processes. Calls under way finish first."""
        self._pool.close()

    def _decode(
        self,
        op: str,
        path: str,
        sampling: Sampling,
        window: Window | None,
        cancelled: Cancellation,
        between_pixels: int,
    ) -> _Receiver:
        job = {
            "op": op,
            "path": os.path.abspath(path),
            "name": shown_name(path),
            "timeout_s": self._timeout_s,
            "limits": self._limits,
            "sampling": dataclasses.asdict(sampling),
            "window": dataclasses.astuple(window) if window is not None else None,
            "between_pixels": between_pixels,
        }
        receiver = _Receiver(sampling, between_pixels)
        with self._pool.borrow(cancelled) as worker, closing(worker.run(job, cancelled)) as messages:
            for message in messages:
                receiver.take(message)
        return receiver


class _Receiver:
    """Puts a worker's messages together: an array each for the pictures and for those between, filled as they come."""

    def __init__(self, sampling: Sampling, between_pixels: int) -> None:
        self._most = [(sampling.frames, sampling.max_frame_pixels)]
        if between_pixels:
            self._most.append((sampling.frames - 1, between_pixels))
        self._parts: list[NDArray[np.uint8]] = []
        self._pts_s: NDArray[np.float64] = np.zeros(sampling.frames)
        self._result: dict[str, Any] = {}

    def take(self, message: Message) -> None:
        head, payload = message
        if head["is"] == "shape":
            count, high, wide = head["frames"], head["height"], head["width"]
            known = len(self._parts) < len(self._most)
            if not known or count != self._most[len(self._parts)][0] or high * wide > self._most[len(self._parts)][1]:
                raise ResourceError(
                    f"The video decoder sent {count} pictures of {wide} × {high}, start HerdLens again."
                )
            self._parts.append(np.empty((count, high, wide, 3), np.uint8))
        elif head["is"] == "picture":
            first = len(self._pts_s)
            part = int(head["slots"][0] >= first)
            slots = [slot - part * first for slot in head["slots"]]
            self._parts[part][slots] = np.frombuffer(payload, np.uint8).reshape(self._parts[part].shape[1:])
            if part == 0:
                self._pts_s[slots] = head["pts_s"]
        elif head["is"] == "done":
            self._result = head["result"]
            self._fill(self._result["filled"])

    def _fill(self, missing: list[int]) -> None:
        """Slots without a picture take that of the nearest slot before them that has one, else after them; of those
        between, that of the usual picture before them."""
        rgb, first = self._parts[0], len(self._pts_s)
        present = [slot for slot in range(first) if slot not in missing]
        for slot in missing:
            if slot >= first:
                between = self._parts[1]
                size = (between.shape[2], between.shape[1])
                between[slot - first] = cv2.resize(rgb[slot - first], size, interpolation=cv2.INTER_AREA)
                continue
            source = max((p for p in present if p < slot), default=min(present, key=lambda p: abs(p - slot)))
            rgb[slot], self._pts_s[slot] = rgb[source], self._pts_s[source]

    def clip(self, path: str, sha256: str, size_bytes: int) -> Clip:
        told = self._result
        return Clip(
            path=path,
            sha256=sha256,
            size_bytes=size_bytes,
            duration_s=told["duration_s"],
            fps=Fraction(*told["fps"]),
            width=told["width"],
            height=told["height"],
            codec=told["codec"],
            container=told["container"],
            window=Window(*told["window"]),
            warnings=tuple(told["warnings"]),
        )

    def frames(self) -> Frames:
        between = self._parts[1] if len(self._parts) > 1 else None
        return Frames(self._parts[0], np.maximum.accumulate(self._pts_s), between)


def check_path(path: str) -> os.stat_result:
    """The state of a readable, non-empty, regular file. Errors: ClipError."""
    try:
        state = os.stat(path)
        if stat.S_ISDIR(state.st_mode):
            raise ClipError(f"“{shown_name(path)}” is a folder, not a video; name a file in it.")
        if not stat.S_ISREG(state.st_mode):  # opening a pipe or device could block for ever
            raise ClipError(f"“{shown_name(path)}” is a device or a pipe, not a file; name a video file.")
        if not state.st_size:
            raise ClipError(f"“{shown_name(path)}” is empty (0 bytes); copy it from the camera again.")
        with open(path, "rb"):
            return state
    except FileNotFoundError as error:
        raise ClipError(f"“{shown_name(path)}” does not exist; check the name and the folder.") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "its name is impossible"
        raise ClipError(f"“{shown_name(path)}” cannot be read ({reason}); check its name and permissions.") from error


def file_digest(path: str) -> str:
    """SHA-256 of the file's bytes, lower-case hexadecimal; read in blocks. Errors: ClipError."""
    return _digest(path, ())


def _digest(path: str, stops: tuple[Cancellation, ...]) -> str:
    digest = hashlib.sha256()
    try:
        with open(path, "rb", buffering=0) as file:
            while block := file.read(DIGEST_BLOCK):
                if any(stop.is_set() for stop in stops):
                    raise Cancelled("The analysis was cancelled.")
                digest.update(block)
    except (OSError, ValueError) as error:
        raise ClipError(f"“{shown_name(path)}” cannot be read to its end; check the disk and try again.") from error
    return digest.hexdigest()


def _identity(state: os.stat_result) -> tuple[int, ...]:
    return state.st_ino, state.st_size, state.st_mtime_ns


def display_proxy(
    path: str,
    clip: Clip,
    out_path: str,
    *,
    span: Window | None = None,
    cancelled: Cancellation | None = None,
    timeout_s: float | None = None,
    memory_mb: int = 2048,
) -> Window:
    """Write an H.264 MP4 that any browser plays to ``out_path`` (at most 1280 wide, no sound, frame times kept).

    Returns the span of the clip that it shows: ``span``; without one, ``shown_span``. The proxy's time 0 is the span's
    start. Made in a worker process of its own; ``out_path`` appears only when complete. ``timeout_s``
    defaults to a minute and three times the span. Errors: ClipError, Cancelled, ResourceError.
    """
    check_path(path)
    span = span or shown_span(clip)
    job = {
        "op": "proxy",
        "path": os.path.abspath(path),
        "name": shown_name(path),
        "out": os.path.abspath(out_path),
        "part": f"{os.path.abspath(out_path)}.{uuid.uuid4().hex}.part",
        "span": dataclasses.astuple(span),
        "max_width": PROXY_WIDTH,
        "timeout_s": timeout_s if timeout_s is not None else 60 + 3 * span.length_s,
        "limits": {},
    }
    stop = cancelled if cancelled is not None else threading.Event()
    worker = Worker(memory_mb)
    try:
        worker.wait_ready(stop)
        for _ in worker.run(job, stop):
            log.debug("proxy of %s is ready", job["name"])
    finally:
        worker.close()
        if os.path.exists(str(job["part"])):  # the worker was killed
            os.remove(str(job["part"]))
    return span


def shown_span(clip: Clip) -> Window:
    """What a proxy of ``clip`` shows: all of it up to ten minutes, else the window that was looked at."""
    return Window(0.0, clip.duration_s) if clip.duration_s <= PROXY_WHOLE_S else clip.window


def plays_in_browser(clip: Clip) -> bool:
    """Whether today's browsers play the file as it is, judged by codec and container."""
    return clip.codec in BROWSER_PLAYS.get(clip.container, frozenset())


def thumbnail(frames: Frames, width: int = THUMBNAIL_WIDTH) -> bytes:
    """JPEG of the middle frame, ``width`` pixels wide."""
    picture = Image.fromarray(frames.rgb[len(frames) // 2])
    height = max(1, round(picture.height * width / picture.width))
    buffer = io.BytesIO()
    picture.resize((width, height), Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
