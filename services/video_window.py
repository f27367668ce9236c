"""Which part of a long recording is looked at: the window given, else the one with the most motion. In the worker.

Motion is the difference between a key frame and the frame 0.4 s later, looked at in 60 instants spread over the
recording. That is close enough up to some minutes. In longer recordings the coded size of the frames between key
frames is asked first, second by second, because a coder spends bytes where something moves. The sizes come from the
file's index, or for containers without one from short reads spread over the file. Sizes also follow noise, light and
a camera's rate control, so they only propose: the windows that are large, and those that are large for their time of
day, are looked at in a few instants each, and of those whose pictures really differ the largest is taken. Where sizes
tell nothing (all alike, or key frames only) the 60 instants decide again.
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

PROPOSALS = 4  # of each kind: largest, and largest for their surroundings
INSTANTS = 4  # looked at in each proposal
LOOKS = 60  # over the whole recording
LOOKS_PER_WINDOW = 8  # so many in a window are enough to do without sizes
SURROUNDINGS_S = 900.0
PAIR_S = 0.4
READS = 96
# Below this ratio of the busiest window to the typical one, sizes are taken to follow rate control, not motion.
TELLING = 1.15
# A proposal whose pictures differ less than this share of the liveliest one's is noise or light, not motion.
LIVELY = 0.5
SMALL_PICTURE = (64, 36)  # so small that sensor noise averages out and a cow does not


Seconds = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Activity:
    """How much goes on, (N,) ``level`` at ``at_s`` seconds from the first frame, ascending: coded bytes per second
    between key frames, or the difference of pictures."""

    at_s: Seconds
    level: Seconds


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
    if not 0 <= asked.start_s < asked.end_s:  # an endless one ends with the clip
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
    latest = survey.duration_s - length_s
    starts: Seconds = np.append(np.arange(0.0, latest, max(length_s / 4, 1.0)), latest)
    proposals: list[int] = []
    if survey.duration_s > LOOKS * length_s / LOOKS_PER_WINDOW:
        sizes = _mean_within(_activity(source, survey), starts, length_s)
        proposals = _propose(sizes, starts, length_s)
    if proposals:
        offsets = length_s * (np.arange(INSTANTS) + 0.5) / INSTANTS
        motion = [float(_motion(source, survey, starts[at] + offsets).mean()) for at in proposals]
        lively = [at for at, moves in zip(proposals, motion, strict=True) if moves >= LIVELY * max(motion)]
        start = float(starts[max(lively, key=lambda at: sizes[at])])
    else:
        instants = survey.duration_s * (np.arange(LOOKS) + 0.5) / LOOKS
        seen = _mean_within(Activity(instants, _motion(source, survey, instants)), starts, length_s)
        best = np.flatnonzero(seen >= seen.max() - 1e-9)
        start = float(starts[best[len(best) // 2]])
    return Window(round(start, 3), round(start + length_s, 3))


def _mean_within(activity: Activity, starts: Seconds, length_s: float) -> Seconds:
    """Mean activity within the window that begins at each of ``starts``; 0 where nothing was measured in it."""
    sums: Seconds = np.concatenate(([0.0], np.cumsum(activity.level)))
    low = np.searchsorted(activity.at_s, starts - 1e-9)
    high = np.searchsorted(activity.at_s, starts + length_s - 1e-9)
    return np.asarray((sums[high] - sums[low]) / np.maximum(high - low, 1))


def _propose(sizes: Seconds, starts: Seconds, length_s: float) -> list[int]:
    """Indices of windows worth a look, without overlap; none where sizes tell nothing."""
    low = np.searchsorted(starts, starts - SURROUNDINGS_S)
    high = np.searchsorted(starts, starts + SURROUNDINGS_S, side="right")
    usual = np.array([np.median(sizes[a:b]) for a, b in zip(low, high, strict=True)])
    excess = sizes / np.maximum(usual, 1e-9)
    if sizes.max() <= 0 or max(sizes.max() / max(float(np.median(sizes)), 1e-9), excess.max()) < TELLING:
        return []
    chosen: list[int] = []
    for score in (sizes, excess):
        most = len(chosen) + PROPOSALS
        for at in np.argsort(-score, kind="stable").tolist():
            if len(chosen) == most:
                break
            if all(abs(starts[at] - starts[other]) >= length_s for other in chosen):
                chosen.append(at)
    return chosen


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


def _per_second(seconds: Seconds, size: NDArray[np.int64], key: NDArray[np.bool_], duration_s: float) -> Activity:
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


def _motion(source: Source, survey: Survey, instants: Seconds) -> Seconds:
    """Mean difference, grey levels 0…255, of two pictures 0.4 s apart at each instant; 0 where there are no two."""
    scaler = VideoReformatter()
    differences = []
    for instant in instants:
        pair = [_small_grey(scaler, frame) for frame in _pair(source, survey, float(instant))]
        differences.append(float(np.abs(pair[0] - pair[1]).mean()) if len(pair) == 2 else 0.0)
    return np.array(differences)


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
