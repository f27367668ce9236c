"""Which frame is on display when: packet tables, timelines and the choice of frames by presentation time. Pure.

A *tick* is an integer in units of the stream's time base. An *ordinal* is a packet's place in decode order within a
span, empty packets not counted; a *position* is a frame's place in presentation order. Everything here is integer
arithmetic, so that a time stamp exactly on a sampling time is never lost to rounding.

A timeline is either *stamped* (each packet says when its frame is shown) or *counted* (time stamps are missing, or the
container keeps none, as AVI does: the nth frame out of the decoder is shown at the nth time).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

NO_TIME = int(np.iinfo(np.int64).min)
# H.264 and H.265 reorder at most 16 frames: this many packets further, a frame has been handed in for certain.
REORDER_LIMIT = 18

Ticks = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class PacketTable:
    """The packets of one span in decode order, each column (N,): ``pts`` and ``dts`` in ticks (NO_TIME where
    missing), ``duration`` in ticks, ``size`` in bytes, ``key`` and ``shown`` (not cut away by an edit list)."""

    pts: Ticks
    dts: Ticks
    duration: Ticks
    size: Ticks
    key: NDArray[np.bool_]
    shown: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.pts)


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """``times``: (N,) ticks of ``time_base``, ascending, one for each presented frame; ``ordinals``: (N,) the packet
    that carries the frame (stamped) or the nth packet (counted)."""

    times: Ticks
    ordinals: Ticks
    time_base: Fraction
    counted: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """Packets to decode in one go: ordinals ``start`` … ``stop`` inclusive, from a key frame on, for the frames at
    ``positions`` (ascending). In a counted timeline the first frame out is that of position ``start``."""

    start: int
    stop: int
    positions: tuple[int, ...]


def timeline(table: PacketTable, time_base: Fraction, rate: Fraction, *, no_pts: bool = False) -> Timeline:
    """Order a span's frames by presentation.

    ``no_pts``: the container keeps no presentation times and frames are reordered, so the demuxer's pts are guesses.
    ``rate`` (frames per second) is used only where neither pts nor dts can be trusted.
    """
    shown = np.flatnonzero(table.shown)
    pts, dts = table.pts[shown], table.dts[shown]
    known = pts != NO_TIME
    back = _jump_back_s(table, time_base)
    if len(shown) and known.all() and not no_pts and not back:
        order = np.argsort(pts, kind="stable")
        return Timeline(pts[order], shown[order], time_base, counted=False)
    stamps = pts if known.all() else dts
    if back:
        note = f"The time stamps jump back by {back:.1f} s in the middle; times are counted from the frame rate."
    elif len(shown) and (stamps != NO_TIME).all():
        note = "" if no_pts else "The recording has no display times; the times of its packets are used instead."
        return Timeline(np.sort(stamps), shown, time_base, counted=True, note=note)
    else:
        note = (
            f"The recording has no time stamps; times are counted from its rate of {float(rate):.3g} frames a second."
        )
    return Timeline(np.arange(len(shown), dtype=np.int64), shown, 1 / rate, counted=True, note=note)


def _jump_back_s(table: PacketTable, time_base: Fraction) -> float:
    """The largest step back of the decoding times, seconds; 0 below one second (damage, not a second recording)."""
    dts = table.dts[table.dts != NO_TIME]
    if len(dts) < 2:
        return 0.0
    step = float(-np.diff(dts).min() * time_base)
    return step if step > 1.0 else 0.0


def on_display(times: Ticks, first: int, last: int, count: int) -> NDArray[np.int64]:
    """Positions of the frames on display at ``count`` times evenly spaced from tick ``first`` to tick ``last``.

    On display is the last frame with ``time <= t``; before the first frame it is the first. Non-decreasing; positions
    repeat where fewer frames than ``count`` were shown.
    """
    steps = max(count - 1, 1)
    at = np.array([first + k * (last - first) // steps for k in range(count)], dtype=np.int64)
    return np.maximum(np.searchsorted(times, at, side="right") - 1, 0)


def inside(times: Ticks, first: int, last: int) -> tuple[int, int]:
    """Ticks of the first and last frame presented in ``first <= t <= last``; where there is none (a gap, or a window
    shorter than a frame) both are the frame on display at ``first``."""
    low = int(np.searchsorted(times, first, side="left"))
    high = int(np.searchsorted(times, last, side="right")) - 1
    if low > high:
        low = high = max(low - 1, 0)
    return int(times[low]), int(times[high])


def groups_for(table: PacketTable, line: Timeline, positions: Sequence[int]) -> list[Group]:
    """What to decode for the frames at ``positions`` (any order, repeats allowed): runs of packets, each from a key
    frame, in decode order and without overlap, so that every packet is decoded at most once."""
    keys = np.flatnonzero(table.key)
    keys = keys if len(keys) and keys[0] == 0 else np.concatenate(([0], keys))
    wanted = []
    for position in sorted({int(p) for p in positions}):
        ordinal = int(line.ordinals[position])
        at = int(np.searchsorted(keys, ordinal, side="right")) - 1
        if not line.counted and at > 0 and table.pts[ordinal] < table.pts[keys[at]]:
            at -= 1  # shown before its key frame: it leans on the group before (open GOP)
        stop = min(ordinal + REORDER_LIMIT, len(table) - 1) if line.counted else ordinal
        wanted.append((int(keys[at]), stop, position))
    groups: list[Group] = []
    for start, stop, position in sorted(wanted):
        if groups and start <= groups[-1].stop:
            last = groups[-1]
            groups[-1] = Group(last.start, max(last.stop, stop), tuple(sorted({*last.positions, position})))
        else:
            groups.append(Group(start, stop, (position,)))
    return groups


def frame_rate(times: Ticks, time_base: Fraction, announced: Sequence[Fraction | None]) -> Fraction:
    """Mean frames per second over ``times`` (at least two, not all equal), gaps in the recording left out."""
    steps = np.diff(times)
    gaps = _gaps(steps, time_base)
    count, length = len(steps) - len(gaps), int(steps.sum() - steps[gaps].sum())
    if count < 1 or length < 1:
        count, length = len(steps), int(steps.sum())
    return nearest_rate(Fraction(count, length) / time_base, announced)


def _gaps(steps: Ticks, time_base: Fraction) -> NDArray[np.int64]:
    """Where nothing was recorded: steps of a second or more that are out of the ordinary."""
    return np.flatnonzero((steps * float(time_base) >= 1.0) & (steps >= 5 * max(float(np.median(steps)), 1e-9)))


def nearest_rate(measured: Fraction, announced: Sequence[Fraction | None]) -> Fraction:
    """The announced rate nearest to the measured one, if they agree within half a per cent: it is exact (30000/1001)
    where time stamps are rounded. Else the measured rate, as a fraction of small numbers."""
    close = [rate for rate in announced if rate and abs(rate - measured) <= measured / 200]
    return min(close, key=lambda rate: abs(rate - measured), default=measured.limit_denominator(1001) or measured)


def irregularities(times: Ticks, time_base: Fraction, rate: Fraction) -> list[str]:
    """Plain sentences on what is odd about the times of a whole recording (seconds from its first frame)."""
    notes = []
    steps = np.diff(times)
    gaps = _gaps(steps, time_base)
    if len(gaps):
        longest = int(gaps[steps[gaps].argmax()])
        gap_s, at_s = float(steps[longest] * time_base), float((times[longest] - times[0]) * time_base)
        more = f" and {len(gaps) - 1} more" if len(gaps) > 1 else ""
        notes.append(f"The recording has a gap of {gap_s:.1f} s at {at_s:.1f} s{more}; nothing was recorded there.")
    usual = np.delete(steps, gaps)
    usual = usual[usual > 0]
    if len(usual) >= 4 and np.quantile(usual, 0.95) > 1.6 * np.quantile(usual, 0.05):
        notes.append("The frame rate varies; frames are picked by their time stamps.")
    if not 2 <= rate <= 240:
        notes.append(
            f"The frame rate of {float(rate):.3g} frames a second is unusual; frames are picked by their times."
        )
    return notes
