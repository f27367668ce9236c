"""What a file's packets say about its times, without decoding: first and last frame, length, rate, spans to decode.

A small file is demuxed once from end to end. Of a large one only the beginning and the end are read, and later the
neighbourhood of the frames that are wanted, so that an hour costs hardly more than a minute. Runs in the worker.
Errors: ClipError.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from services.errors import ClipError
from services.video_probe import Source
from services.video_times import (
    NO_TIME,
    PacketTable,
    Ticks,
    Timeline,
    frame_rate,
    irregularities,
    nearest_rate,
    timeline,
)

# Demuxing reads about 1 GB/s from a disk cache and 100 MB/s from a slow disk: up to here the whole table costs little.
SMALL_BYTES = 256 * 2**20
TINY_BYTES = 32 * 2**20
SMALL_S = 900.0
HEAD_S = 5.0
HEAD_PACKETS = 128


@dataclass(frozen=True, slots=True, eq=False)
class Span:
    """A run of packets that can be read again: ``start`` is what ``Source.packets`` takes."""

    start: int | None
    table: PacketTable
    line: Timeline


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """Times of a whole recording. ``first`` and ``last`` are ticks of the first and last presented frame,
    ``duration_s`` includes the last frame's own; ``whole`` holds all packets of a small file, else None."""

    time_base: Fraction
    first: int
    last: int
    duration_s: float
    rate: Fraction
    warnings: tuple[str, ...]
    whole: Span | None

    def seconds(self, tick: int) -> float:
        return float((tick - self.first) * self.time_base)

    def tick_from(self, seconds: float) -> int:
        """The first tick at or after ``seconds`` from the first frame (a microsecond's tolerance for rounding)."""
        return self.first + -int(-(Fraction(seconds) - Fraction(1, 10**6)) // self.time_base)

    def tick_until(self, seconds: float) -> int:
        return self.first + int((Fraction(seconds) + Fraction(1, 10**6)) // self.time_base)


def survey(source: Source) -> Survey:
    """Read as many packets as it takes and refuse what they rule out: one picture, too short, too long."""
    announced = source.announced_s
    small = source.size_bytes <= TINY_BYTES or (
        source.size_bytes <= SMALL_BYTES and (announced is None or announced <= SMALL_S)
    )
    found = None if small or source.announced_end is None else _survey_ends(source)
    if found is None:
        found = _survey_whole(source)
    _check_length(source, found)
    return found


def _survey_whole(source: Source) -> Survey:
    span = read_span(source, None, None)
    line = span.line
    if len(line.times) < 2 or line.times[0] == line.times[-1]:
        raise _one_picture(source, len(line.times))
    rate = frame_rate(line.times, line.time_base, source.rates)
    duration_s = float((line.times[-1] - line.times[0]) * line.time_base) + _last_frame_s(span, rate)
    notes = [line.note] if line.note else []
    notes += irregularities(line.times, line.time_base, rate)
    notes += _against_header(source, duration_s, len(span.table))
    return Survey(line.time_base, int(line.times[0]), int(line.times[-1]), duration_s, rate, tuple(notes), span)


def _survey_ends(source: Source) -> Survey | None:
    """Beginning and end only; None where the file's time stamps do not allow it (then all packets are read)."""
    head = read_span(source, None, _ticks(source, HEAD_S))
    if len(head.line.times) < 2 or head.line.time_base != source.time_base or head.line.times[0] == head.line.times[-1]:
        return None
    first = int(head.line.times[0])
    tail = _last_span(source, first)
    if tail is None:
        return None
    last = int(tail.line.times[-1])
    rate = _rate(source, head.line.times, first, last)
    duration_s = float((last - first) * source.time_base) + _last_frame_s(tail, rate)
    notes = [head.line.note] if head.line.note else []
    notes += irregularities(head.line.times, source.time_base, rate)
    notes += _against_header(source, duration_s, None)
    return Survey(source.time_base, first, last, duration_s, rate, tuple(notes), None)


def _rate(source: Source, times: Ticks, first: int, last: int) -> Fraction:
    """Mean frame rate from the number of pictures that the file announces; without that, the rate of its beginning."""
    announced = source.stream.frames
    step = Fraction(last - first, announced - 1) if announced > 1 else Fraction(int(np.median(np.diff(times))))
    return nearest_rate(1 / (max(step, Fraction(1, 1000)) * source.time_base), source.rates)


def _last_span(source: Source, first: int) -> Span | None:
    """The packets before the end of the file, wherever its header believes that it ends."""
    end = source.announced_end or first
    back_s = 5.0
    while True:
        start = end - _ticks(source, back_s)
        span = read_span(source, max(start, first), None)
        if len(span.line.times) and span.line.times[-1] > first and span.line.time_base == source.time_base:
            return span
        if start <= first:
            return None
        back_s *= 8


def read_span(source: Source, start: int | None, until: int | None) -> Span:
    """Packets from a key frame shown at or before tick ``start`` (None: the beginning) to the last one that may be
    shown up to tick ``until``; where ``start`` is None, ``until`` counts from the first packet."""
    if start is None:
        table = _read(source, None, until)
        return Span(None, table, _line(source, table))
    for back_s in (0.0, 1.0, 10.0, 60.0):
        landing = start - _ticks(source, back_s)
        table = _read(source, landing, until)
        if len(table) and table.key[0] and _stamp(table, 0) <= start:
            return Span(landing, table, _line(source, table))
    table = _read(source, None, until, absolute=True)
    return Span(None, table, _line(source, table))


def _read(source: Source, start: int | None, until: int | None, *, absolute: bool = False) -> PacketTable:
    pts, dts, duration, size = array("q"), array("q"), array("q"), array("q")
    key, shown = bytearray(), bytearray()
    relative = start is None and not absolute
    margin = _ticks(source, 0.5)
    stop: int | None = None
    for packet in source.packets(start):
        at_pts = NO_TIME if packet.pts is None else packet.pts
        at_dts = NO_TIME if packet.dts is None else packet.dts
        pts.append(at_pts)
        dts.append(at_dts)
        duration.append(packet.duration or 0)
        size.append(packet.size)
        key.append(packet.is_keyframe)
        shown.append(not packet.is_discard)
        if len(pts) > source.limits.max_packets:
            raise ClipError(
                f"“{source.name}” holds more than {source.limits.max_packets} pictures; cut it and try again."
            )
        if until is None:
            continue
        now = at_dts if at_dts != NO_TIME else at_pts
        if now == NO_TIME:
            continue
        if stop is None:
            stop = until + (now if relative else 0) + margin
        if now > stop and (not relative or len(pts) >= HEAD_PACKETS):
            break
    ticks = [np.array(column, np.int64) for column in (pts, dts, duration, size)]
    flags = [np.array(flag, np.uint8).astype(np.bool_) for flag in (key, shown)]
    return PacketTable(ticks[0], ticks[1], ticks[2], ticks[3], flags[0], flags[1])


def _line(source: Source, table: PacketTable) -> Timeline:
    rate = next((rate for rate in source.rates if rate), Fraction(25))
    # AVI keeps no display times; where its codec reorders frames, FFmpeg's pts for it are guesses in decode order.
    return timeline(table, source.time_base, rate, no_pts=source.container == "avi" and source.reorders)


def _stamp(table: PacketTable, ordinal: int) -> int:
    stamp = int(table.pts[ordinal])
    return stamp if stamp != NO_TIME else int(table.dts[ordinal])


def _ticks(source: Source, seconds: float) -> int:
    return int(Fraction(seconds) / source.time_base)


def _last_frame_s(span: Span, rate: Fraction) -> float:
    """How long the last frame is shown: as its packet says, if it is believable, else one frame at ``rate``."""
    own = float(span.table.duration[span.line.ordinals[-1]] * span.line.time_base) if not span.line.counted else 0.0
    return own if 0 < own <= 10 / float(rate) else float(1 / rate)


def _against_header(source: Source, duration_s: float, pictures: int | None) -> list[str]:
    announced_s, announced = source.announced_s, source.stream.frames
    if announced_s and duration_s < 0.9 * announced_s and announced_s - duration_s > 1.0:
        return [f"The file announces {announced_s:.1f} s but ends at {duration_s:.1f} s; it seems to be cut off."]
    if pictures is not None and announced and pictures < 0.9 * announced:
        return [f"The file announces {announced} pictures but holds only {pictures}."]
    return []


def _one_picture(source: Source, pictures: int) -> ClipError:
    announced = source.stream.frames
    if announced > 2 * max(pictures, 1):
        return ClipError(
            f"“{source.name}” announces {announced} pictures, but its time stamps are broken and show only {pictures}; "
            "convert it to MP4 (H.264) and try again."
        )
    count = "a single picture" if pictures == 1 else "no pictures" if not pictures else "pictures without any duration"
    return ClipError(f"“{source.name}” holds {count}; a clip needs at least half a second of video.")


def _check_length(source: Source, found: Survey) -> None:
    limits = source.limits
    if found.duration_s < limits.min_duration_s:
        raise ClipError(
            f"“{source.name}” is only {found.duration_s:.2f} s long; a clip needs at least {limits.min_duration_s:g} s."
        )
    if found.duration_s > limits.max_duration_s:
        raise ClipError(
            f"“{source.name}” spans {found.duration_s / 3600:.2f} hours by its time stamps, more than "
            f"{limits.max_duration_s / 3600:.4g}; cut it into shorter pieces and try again."
        )
