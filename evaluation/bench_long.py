"""Sixteen exact frames of a long clip by seeking, against decoding all of it, and the memory that seeking takes.

The clip repeats coded packets with new time stamps: 1080p, 25 frames a second, a key frame every 250. Decoding
everything is timed on a stretch and scaled up, because the whole hour would take most of an hour's bench.
"""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path

import av
import psutil

from services.schema import Sampling, Window
from services.video import VideoReader
from tests.media import make_long_clip

STRETCH_S = 60.0


def measure(minutes: int) -> dict[str, float]:
    """Seconds for both ways, their ratio, and the peak memory (MB, this process and its worker) over idle."""
    with tempfile.TemporaryDirectory() as folder:
        clip = make_long_clip(Path(folder) / "long.mp4", minutes)
        reader = VideoReader()
        sampling = Sampling(window_s=minutes * 60.0 + 1)
        reader.open(str(clip), Sampling(), Window(0.0, 5.0), threading.Event())  # a warm worker
        idle = _memory_mb()
        with _Peak() as peak:
            started = time.perf_counter()
            reader.open(str(clip), sampling, None, threading.Event())
            seek = time.perf_counter() - started
        reader.close()
        everything = _decode_s(clip, STRETCH_S) * minutes * 60 / STRETCH_S
    return {
        "seek_s": seek,
        "decode_all_s": everything,
        "decode_over_seek": everything / seek,
        "added_memory_mb": peak.highest - idle,
    }


def _decode_s(clip: Path, seconds: float) -> float:
    """Seconds it takes to decode the first ``seconds`` of ``clip`` to RGB, with the decoder's own threads."""
    started = time.perf_counter()
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            if frame.time is not None and frame.time >= seconds:
                break
            frame.to_ndarray(format="rgb24")
    return time.perf_counter() - started


def _memory_mb() -> float:
    me = psutil.Process()
    return sum(process.memory_info().rss for process in (me, *me.children(recursive=True))) / 2**20


class _Peak:
    """Highest memory of this process and its children while the block runs, sampled every 20 ms."""

    def __enter__(self) -> _Peak:
        self.highest = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            try:
                self.highest = max(self.highest, _memory_mb())
            except psutil.Error:
                continue
