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
    """Receives a picture (H, W, 3) uint8 for the slots ``slots``, shown at ``pts_s``. Slots from ``sampling.frames`` on
    are those of the smaller pictures between."""

    def __call__(self, slots: Sequence[int], pts_s: float, picture: NDArray[np.uint8]) -> None: ...


Started = Callable[[int, int, int], None]


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
    started: Started,
    sink: PictureSink,
    between_pixels: int = 0,
) -> Sampled:
    """Probe and decode ``path``; ``started`` hears frames, height and width before ``sink`` gets its first picture.

    With ``between_pixels`` the pictures halfway in time between neighbouring ones come too, from the same decoding and
    averaged down to so many pixels; ``started`` then hears of them in a call of its own."""
    source = Source(path, limits)
    try:
        times = survey(source)
        window, unseen = choose_window(source, times, asked, sampling.window_s)
        return _decode_all(source, times, window, unseen, sampling, started, sink, between_pixels)
    finally:
        source.close()


def _decode_all(
    source: Source,
    times: Survey,
    window: Window,
    unseen: str | None,
    sampling: Sampling,
    started: Started,
    sink: PictureSink,
    between_pixels: int,
) -> Sampled:
    upright: Upright | None = None
    smaller: Upright | None = None
    form, count = "", sampling.frames
    missing, filled = set(range(count)), set(range(2 * count - 1 if between_pixels else count))
    damaged: set[int] = set()
    for want in _wanted(source, times, window, count, bool(between_pixels)):
        for decoded in decode(source, want.span, sorted(want.slots)):
            if upright is None:
                upright = Upright(source, decoded.frame, sampling.max_frame_pixels)
                form = decoded.frame.format.name
                high, wide = upright.rgb(decoded.frame).shape[:2]
                started(count, high, wide)
                if between_pixels:
                    smaller = Upright(source, decoded.frame, min(between_pixels, sampling.max_frame_pixels))
                    started(count - 1, *smaller.rgb(decoded.frame).shape[:2])
            slots = [slot for slot in want.slots[decoded.position] if slot < count]
            others = [slot for slot in want.slots[decoded.position] if slot >= count]
            if not decoded.exact:
                damaged.update(slots)
            missing.difference_update(slots)
            filled.difference_update(slots, others)
            if slots:
                sink(slots, _shown_s(times, want.span, decoded), upright.rgb(decoded.frame))
            if others and smaller is not None:
                sink(others, _shown_s(times, want.span, decoded), smaller.rgb(decoded.frame))
    if upright is None or len(missing | damaged) > count / 2:
        raise ClipError(
            f"Almost none of the pictures of “{source.name}” can be decoded: its data are damaged; "
            "copy it from the camera again."
        )
    notes = [*times.warnings, *upright.notes]
    if missing or damaged:
        notes.append(f"{len(missing | damaged)} of {count} pictures are damaged; their neighbours stand in for them.")
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
        filled=tuple(sorted(filled)),
    )


def _wanted(source: Source, times: Survey, window: Window, count: int, between: bool) -> Iterator[_Wanted]:
    """``_targets`` of ``count`` slots, or of twice as many but one: every second is then one of the usual ones, and
    those between have the numbers from ``count`` on."""
    if not between:
        yield from _targets(source, times, window, count)
        return
    for want in _targets(source, times, window, 2 * count - 1):
        numbers = {
            position: [slot // 2 if slot % 2 == 0 else count + slot // 2 for slot in slots]
            for position, slots in want.slots.items()
        }
        yield _Wanted(want.span, numbers)


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
