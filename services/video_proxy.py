"""Write what a browser can play: H.264 yuv420p in an MP4 whose index comes first. Runs in the worker process."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from services.errors import ClipError
from services.schema import Window
from services.video_pictures import frames_of
from services.video_probe import Limits, Source
from services.video_survey import Survey, survey

TICKS_PER_S = 90000
BT709, LIMITED = 1, 1  # AVCOL_SPC_BT709, AVCOL_RANGE_MPEG


def write_proxy(path: str, out: str, part: str, span: Window, max_width: int, limits: Limits) -> None:
    """Re-code the frames of ``path`` presented within ``span`` to ``out``, without sound.

    Each frame keeps its presentation time, counted from the span's start, so that the proxy runs as long as the span
    and a variable rate stays one. At most ``max_width`` wide, square pixels; a rotation is passed on as the file's
    display matrix. Written to ``part``, which becomes ``out`` when it is complete. Errors: ClipError.
    """
    source = Source(path, limits)
    try:
        times = survey(source)
        with av.open(part, "w", format="mp4", options={"movflags": "+faststart"}) as target:
            writer = _Writer(target, source, times.rate, max_width)
            for seconds, frame in _presented(source, times, span):
                writer.write(frame, seconds - span.start_s)
            writer.finish(min(span.end_s, times.duration_s) - span.start_s)
        os.replace(part, out)
    finally:
        source.close()
        if os.path.exists(part):
            os.remove(part)


def _presented(source: Source, times: Survey, span: Window) -> Iterator[tuple[float, Any]]:
    """Frames shown within ``span`` in order of presentation, with seconds from the first frame of the file."""
    start, stop = times.tick_from(span.start_s), times.tick_until(span.end_s)
    line = times.whole.line if times.whole is not None else None
    counted = source.container == "avi" and source.reorders if line is None else line.counted
    context = source.stream.codec_context
    stamps: deque[int] = deque(line.times.tolist() if line is not None and line.counted else ())
    packets = source.packets(start if line is None and span.start_s > 0 else None)
    for packet in _and_end(packets):
        if packet is not None and counted and line is None:
            stamps.append(packet.dts)
        for frame in frames_of(context, packet):
            tick = (stamps.popleft() if stamps else None) if counted else frame.pts
            if tick is not None and start <= tick <= stop:
                yield times.seconds(tick), frame
        if packet is not None and not counted and packet.dts is not None and packet.dts > stop:
            return


def _and_end(packets: Iterator[Any]) -> Iterator[Any]:
    yield from packets
    yield None  # makes the decoder give what it still holds


class _Writer:
    """One H.264 stream. Frames come with ascending times; a frame lasts until the next one."""

    def __init__(self, target: Any, source: Source, rate: Fraction, max_width: int) -> None:
        self._target, self._source, self._max_width = target, source, max_width
        self._rate = rate
        self._stream: Any = None
        self._scaler = VideoReformatter()
        self._waiting: Any = None

    def write(self, frame: Any, seconds: float) -> None:
        if self._stream is None:
            self._start(frame)
        picture = self._scaler.reformat(
            frame, self._stream.width, self._stream.height, "yuv420p",
            dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG, interpolation=Interpolation.AREA,
        )  # fmt: skip
        picture.pts, picture.time_base = round(seconds * TICKS_PER_S), Fraction(1, TICKS_PER_S)
        picture.pict_type = 0
        for packet in self._stream.encode(picture):
            self._mux(packet)

    def finish(self, end_s: float) -> None:
        if self._stream is None:
            raise ClipError(f"None of the pictures of “{self._source.name}” could be prepared for the browser.")
        for packet in self._stream.encode(None):
            self._mux(packet)
        if self._waiting is not None:
            self._waiting.duration = max(1, round(end_s * TICKS_PER_S) - self._waiting.pts)
            self._target.mux(self._waiting)

    def _start(self, frame: Any) -> None:
        aspect = self._source.stream.sample_aspect_ratio or Fraction(1)
        aspect = aspect if Fraction(1, 4) <= aspect <= 4 else Fraction(1)
        wide, high = frame.width * float(aspect), float(frame.height)
        matrix = (
            np.frombuffer(frame.side_data["DISPLAYMATRIX"], np.int32).tolist()
            if "DISPLAYMATRIX" in frame.side_data
            else None
        )
        across = high if matrix is not None and matrix[0] == 0 else wide
        scale = min(1.0, self._max_width / across)
        options = {"preset": "veryfast", "crf": "24", "g": "50", "bf": "0", "tune": "zerolatency"}
        stream = self._target.add_stream("libx264", rate=self._rate, options=options)
        stream.width, stream.height = max(2, round(wide * scale / 2) * 2), max(2, round(high * scale / 2) * 2)
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = Fraction(1, TICKS_PER_S)
        context.colorspace, context.color_range = BT709, LIMITED
        if matrix is not None:
            stream.set_display_matrix(matrix)
        self._stream = stream

    def _mux(self, packet: Any) -> None:
        """Without reordering, packets leave in presentation order: each is held until its length is known."""
        held, self._waiting = self._waiting, packet
        if held is not None:
            held.duration = packet.pts - held.pts
            self._target.mux(held)
