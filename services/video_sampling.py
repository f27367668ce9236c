"""From a path to sampled pictures: probe, refuse, choose the window, decode. The whole job of one worker request.

Errors: ClipError and InputError, one sentence each; nothing is decoded before all that header and packet table can
tell has been checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from services.errors import ClipError
from services.schema import Sampling, Window
from services.video_pictures import Decoded, Upright, decode
from services.video_probe import Limits, Source
from services.video_survey import Span, Survey, read_span, survey
from services.video_times import inside, on_display
from services.video_window import choose_window

# Targets further apart than this are looked up one by one; closer ones are read in one go.
FAR_S = 20.0


class PictureSink(Protocol):
    """Receives a picture (H, W, 3) uint8 for the sampling slots ``slots``, shown at ``pts_s``."""

    def __call__(self, slots: Sequence[int], pts_s: float, picture: NDArray[np.uint8]) -> None: ...


@dataclass(frozen=True, slots=True)
class Sampled:
    """What a clip turned out to be; the fields of ``schema.Clip`` that the file itself tells. ``filled``: slots
    whose picture could not be decoded."""

    duration_s: float
    fps: tuple[int, int]
    width: int
    height: int
    codec: str
    container: str
    window: tuple[float, float]
    warnings: tuple[str, ...]
    filled: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Wanted:
    """Positions in a span's timeline and the sampling slots that each of them fills."""

    span: Span
    slots: dict[int, list[int]]


def sample(
    path: str,
    sampling: Sampling,
    asked: Window | None,
    limits: Limits,
    started: Callable[[int, int, int], None],
    sink: PictureSink,
) -> Sampled:
    """Probe and decode ``path``; ``started`` hears frames, height and width before ``sink`` gets its first picture."""
    source = Source(path, limits)
    try:
        times = survey(source)
        window, unseen = choose_window(source, times, asked, sampling.window_s)
        return _decode_all(source, times, window, unseen, sampling, started, sink)
    finally:
        source.close()


def _decode_all(
    source: Source,
    times: Survey,
    window: Window,
    unseen: str | None,
    sampling: Sampling,
    started: Callable[[int, int, int], None],
    sink: PictureSink,
) -> Sampled:
    upright: Upright | None = None
    form = ""
    missing = set(range(sampling.frames))
    damaged: set[int] = set()
    wanted = list(_targets(source, times, window, sampling.frames))
    for want in wanted:
        for decoded in decode(source, want.span, sorted(want.slots)):
            if upright is None:
                upright = Upright(source, decoded.frame, sampling.max_frame_pixels)
                form = decoded.frame.format.name
                high, wide = upright.rgb(decoded.frame).shape[:2]
                started(sampling.frames, high, wide)
            slots = want.slots[decoded.position]
            if not decoded.exact:
                damaged.update(slots)
            missing.difference_update(slots)
            sink(slots, _shown_s(times, want.span, decoded), upright.rgb(decoded.frame))
    if upright is None or len(missing | damaged) > sampling.frames / 2:
        raise ClipError(
            f"Almost none of the pictures of “{source.name}” can be decoded: its data are damaged; "
            "copy it from the camera again."
        )
    notes = [*times.warnings, *upright.notes]
    if missing or damaged:
        notes.append(
            f"{len(missing | damaged)} of {sampling.frames} pictures are damaged; their neighbours stand in for them."
        )
    if unseen:
        notes.append(unseen)
    return Sampled(
        duration_s=times.duration_s,
        fps=(times.rate.numerator, times.rate.denominator),
        width=upright.width,
        height=upright.height,
        codec=_codec_name(source.codec, form),
        container=source.container,
        window=(window.start_s, window.end_s),
        warnings=tuple(notes),
        filled=tuple(sorted(missing)),
    )


def _targets(source: Source, times: Survey, window: Window, count: int) -> Iterator[_Wanted]:
    """Spans to decode, with the positions wanted in each, in order of time."""
    start = max(times.first, times.tick_from(window.start_s))
    stop = min(times.last, times.tick_until(window.end_s))
    if times.whole is not None:
        yield _in_span(times.whole, *inside(times.whole.line.times, start, stop), count)
    elif (stop - start) * times.time_base <= FAR_S * max(count - 1, 1):
        span = read_span(source, start, stop)
        yield _in_span(span, *inside(span.line.times, start, stop), count)
    else:
        first = inside(read_span(source, start, start).line.times, start, stop)[0]
        last = inside(read_span(source, stop, stop).line.times, start, stop)[1]
        for slot in range(count):
            tick = first + slot * (last - first) // max(count - 1, 1)
            span = read_span(source, tick, tick)
            position = int(on_display(span.line.times, tick, tick, 1)[0])
            yield _Wanted(span, {position: [slot]})


def _in_span(span: Span, first: int, last: int, count: int) -> _Wanted:
    slots: dict[int, list[int]] = {}
    for slot, position in enumerate(on_display(span.line.times, first, last, count)):
        slots.setdefault(int(position), []).append(slot)
    return _Wanted(span, slots)


def _shown_s(times: Survey, span: Span, decoded: Decoded) -> float:
    """When the picture that came out was shown, seconds from the first frame; a stand-in keeps its own time."""
    tick = int(span.line.times[decoded.position])
    frame: Any = decoded.frame
    if not decoded.exact and not span.line.counted and frame.pts is not None:
        tick = frame.pts
    return times.seconds(tick)


def _codec_name(codec: str, form: str) -> str:
    """``h264``, or with its pixel format where that is not the ordinary 8-bit 4:2:0: ``h264/yuv422p10le``."""
    return codec if form in ("yuv420p", "yuvj420p") else f"{codec}/{form}"
