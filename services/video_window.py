"""Which part of a long recording is looked at: the window given, else the one with the most motion. In the worker.

Motion is searched in two steps, both cheap. First the coded size of the frames between key frames, second by second:
a coder spends bytes where something moves. The sizes come from the file's index, or for containers without one from
short reads spread over the file. Sizes also follow noise and a camera's rate control, so they only propose: the best
proposals are then looked at, a key frame and the frame 0.4 s later at a few instants each, and the window whose
pictures differ most is taken. Where sizes tell nothing (all alike, or key frames only) the proposals are spread evenly.
The search is deterministic: the same file always gives the same window.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from services.errors import InputError
from services.schema import Window
from services.video_pictures import decode
from services.video_probe import Source
from services.video_survey import Span, Survey, read_span
from services.video_times import NO_TIME

PROPOSALS, INSTANTS = 6, 4
EVEN_PROPOSALS, EVEN_INSTANTS = 24, 2
PAIR_S = 0.4
READS = 96
# Below this ratio of the busiest window to the typical one, sizes are taken to follow rate control, not motion.
TELLING = 1.15
SMALL_PICTURE = (96, 54)


@dataclass(frozen=True, slots=True, eq=False)
class Activity:
    """Coded bytes per second between key frames, (N,), at ``at_s`` seconds from the first frame, ascending."""

    at_s: NDArray[np.float64]
    bytes_per_s: NDArray[np.float64]


def choose_window(source: Source, survey: Survey, asked: Window | None, longest_s: float) -> tuple[Window, str | None]:
    """The window to look at and a warning on what stays unseen. Errors: InputError for a window outside the clip."""
    whole = Window(0.0, survey.duration_s)
    if asked is not None:
        return _given(source.name, asked, whole, longest_s)
    if survey.seconds(survey.last) <= longest_s:
        return whole, None
    window = _busiest(source, survey, longest_s)
    return window, (
        f"Only {_span(window)} of {_clock(whole.end_s)} was looked at, where most is moving; "
        "choose another window to see the rest."
    )


def _given(name: str, asked: Window, whole: Window, longest_s: float) -> tuple[Window, str | None]:
    if not (0 <= asked.start_s < asked.end_s < float("inf")):
        raise InputError(
            f"A window from {asked.start_s:g} s to {asked.end_s:g} s is impossible; it must start at 0 s or later and "
            "end after its start."
        )
    if asked.start_s >= whole.end_s:
        raise InputError(
            f"The window starts at {asked.start_s:g} s, but “{name}” is only {whole.end_s:.1f} s long; "
            "choose an earlier start."
        )
    window = Window(asked.start_s, min(asked.end_s, whole.end_s, asked.start_s + longest_s))
    if window.length_s >= whole.length_s - 1e-6:
        return window, None
    shortened = min(asked.end_s, whole.end_s) - window.end_s > 1e-6
    limit = f", at most {longest_s:g} s at a time" if shortened else ""
    return window, f"Only {_span(window)} of {_clock(whole.end_s)} was looked at{limit}."


def _busiest(source: Source, survey: Survey, length_s: float) -> Window:
    activity = _activity(source, survey)
    step = max(length_s / 4, 1.0)
    starts: NDArray[np.float64] = np.append(
        np.arange(0.0, survey.duration_s - length_s, step), survey.duration_s - length_s
    )
    proposals, instants = _propose(activity, starts, length_s)
    motion = [_motion(source, survey, start, length_s, instants) for start in proposals]
    start = float(proposals[int(np.argmax(motion))])
    return Window(round(start, 3), round(start + length_s, 3))


def _propose(activity: Activity, starts: NDArray[np.float64], length_s: float) -> tuple[NDArray[np.float64], int]:
    """Starts of the windows worth looking at, ascending, not overlapping where sizes tell something; and at how many
    instants of each to look."""
    sums: NDArray[np.float64] = np.concatenate(([0.0], np.cumsum(activity.bytes_per_s)))
    low = np.searchsorted(activity.at_s, starts - 1e-9)
    high = np.searchsorted(activity.at_s, starts + length_s - 1e-9)
    score = (sums[high] - sums[low]) / np.maximum(high - low, 1)
    typical = float(np.median(score))
    if typical <= 0 or float(score.max()) < TELLING * typical:
        picks = np.linspace(0, len(starts) - 1, min(EVEN_PROPOSALS, len(starts))).round().astype(int)
        return starts[np.unique(picks)], EVEN_INSTANTS
    chosen: list[float] = []
    for pick in np.argsort(-score, kind="stable"):
        if all(abs(starts[pick] - other) >= length_s for other in chosen):
            chosen.append(float(starts[pick]))
        if len(chosen) == PROPOSALS:
            break
    return np.array(sorted(chosen)), INSTANTS


def _activity(source: Source, survey: Survey) -> Activity:
    if survey.whole is not None:
        table, line = survey.whole.table, survey.whole.line
        stamp = np.where(table.pts != NO_TIME, table.pts, table.dts)
        if line.time_base != source.time_base:  # counted from the rate: the nth packet at the nth time
            stamp = np.arange(len(table), dtype=np.int64)
        seconds = (stamp - survey.first) * float(survey.time_base)
        return _per_second(seconds, table.size, table.key, survey.duration_s)
    entries = source.stream.index_entries
    if len(entries) >= 0.8 * survey.duration_s * float(survey.rate):
        ticks, sizes, keys = array("q"), array("q"), bytearray()
        for entry in entries:
            ticks.append(entry.timestamp)
            sizes.append(entry.size)
            keys.append(entry.is_keyframe)
        by_index = (np.frombuffer(ticks, np.int64) - survey.first).astype(np.float64) * float(survey.time_base)
        return _per_second(by_index, np.frombuffer(sizes, np.int64), np.frombuffer(keys, np.bool_), survey.duration_s)
    return _by_reads(source, survey)


def _per_second(
    seconds: NDArray[np.float64], size: NDArray[np.int64], key: NDArray[np.bool_], duration_s: float
) -> Activity:
    bins = int(np.ceil(duration_s))
    inside = ~key & (seconds >= 0) & (seconds < bins)
    sums = np.bincount(seconds[inside].astype(np.int64), weights=size[inside], minlength=bins)
    return Activity(np.arange(bins, dtype=np.float64), sums.astype(np.float64))


def _by_reads(source: Source, survey: Survey) -> Activity:
    at = np.linspace(0, max(survey.duration_s - 1.0, 0.0), READS)
    rates = []
    for second in at:
        start = survey.tick_from(float(second))
        table = read_span(source, start, start + int(1 / survey.time_base)).table
        rates.append(float(table.size[~table.key].sum()) / max(len(table), 1) * float(survey.rate))
    return Activity(at, np.array(rates))


def _motion(source: Source, survey: Survey, start_s: float, length_s: float, instants: int) -> float:
    """Mean difference of pictures 0.4 s apart at a few instants of a window, grey levels 0…255."""
    scaler = VideoReformatter()
    differences = []
    for instant in start_s + length_s * (np.arange(instants) + 0.5) / instants:
        pair = [_small_grey(scaler, frame) for frame in _pair(source, survey, float(instant))]
        if len(pair) == 2:
            differences.append(float(np.abs(pair[0] - pair[1]).mean()))
    return float(np.mean(differences)) if differences else 0.0


def _pair(source: Source, survey: Survey, instant_s: float) -> Iterator[Any]:
    """The key frame at or before an instant, and the frame on display 0.4 s after it."""
    instant = survey.tick_from(instant_s)
    later = int(Fraction(PAIR_S) / survey.time_base)
    span = survey.whole or read_span(source, instant, instant + later)
    keys = _key_positions(span)
    keys = keys[span.line.times[keys] <= instant]
    if not len(keys):
        return
    first = int(keys[-1])
    second = int(np.searchsorted(span.line.times, span.line.times[first] + later, side="right")) - 1
    if second > first:
        for decoded in decode(source, span, [first, second]):
            yield decoded.frame


def _key_positions(span: Span) -> NDArray[np.int64]:
    """Positions, in presentation order, of frames that are key frames (counted: of key packets)."""
    return np.flatnonzero(span.table.key[span.line.ordinals])


def _small_grey(scaler: VideoReformatter, frame: Any) -> NDArray[np.float32]:
    width, height = SMALL_PICTURE
    grey = scaler.reformat(frame, width, height, "gray", interpolation=Interpolation.AREA, threads=1)
    return grey.to_ndarray().astype(np.float32)


def _span(window: Window) -> str:
    return f"{_clock(window.start_s)} to {_clock(window.end_s)}"


def _clock(seconds: float) -> str:
    """Seconds as a player shows them: 7.5 s, 1:05, 2:03:07."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
