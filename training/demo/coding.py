"""Drawn pictures to H.264 and back."""

from __future__ import annotations

import io
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from numpy.typing import NDArray

FPS = 12
"""Frames per second of the clips that are written."""
TICKS_PER_S = 1000
"""Where pictures stand at times of their own, these are rounded to milliseconds."""
ASSUMED_FPS = 25
"""What the encoder is told of pictures at times of their own; it plans its bits by a rate."""


def write_mp4(path: Path, frames: Iterable[NDArray[np.uint8]], *, crf: int, preset: str) -> None:
    """An mp4 of these frames, (H, W, 3) RGB each, at FPS, that plays before it is all there (faststart)."""
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        _encode(container, enumerate(frames), crf, preset)


def coded(frames: NDArray[np.uint8], *, crf: int, preset: str, times_s: NDArray[np.float64] | None = None) -> bytes:
    """An mp4 of these frames (T, H, W, 3), at exactly ``times_s`` (T,), else at FPS."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        if times_s is None:
            _encode(container, enumerate(frames), crf, preset)
        else:
            ticks = [round(float(t) * TICKS_PER_S) for t in times_s]
            _encode(container, zip(ticks, frames, strict=True), crf, preset, ASSUMED_FPS, TICKS_PER_S)
    return buffer.getvalue()


def decoded(data: bytes) -> NDArray[np.uint8]:
    """All frames (T, H, W, 3) RGB."""
    with av.open(io.BytesIO(data), "r") as container:
        frames = [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in container.decode(video=0)]
    return np.stack(frames)


def _encode(
    container: OutputContainer,
    frames: Iterable[tuple[int, NDArray[np.uint8]]],
    crf: int,
    preset: str,
    fps: int = FPS,
    ticks_per_s: int = FPS,
) -> None:
    """``frames``: each with its presentation time in ticks. One thread, so that any number of cores codes the same."""
    stream = container.add_stream("libx264", rate=fps, options={"crf": str(crf), "preset": preset, "threads": "1"})
    stream.codec_context.time_base = Fraction(1, ticks_per_s)
    stream.pix_fmt = "yuv420p"
    for number, (ticks, rgb) in enumerate(frames):
        if number == 0:
            stream.height, stream.width = rgb.shape[:2]
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
        frame.pts, frame.time_base = ticks, Fraction(1, ticks_per_s)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
