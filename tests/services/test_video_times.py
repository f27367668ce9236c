"""Sampling by presentation time, against a reference that looks at every frame."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from services.video_times import (
    NO_TIME,
    PacketTable,
    frame_rate,
    groups_for,
    inside,
    irregularities,
    on_display,
    timeline,
)

MS = Fraction(1, 1000)
stamps = st.lists(st.integers(-(10**6), 10**9), min_size=1, max_size=60, unique=True).map(sorted)
quick = settings(deadline=None, max_examples=150)


def table(pts, dts=None, key=None, shown=None) -> PacketTable:
    count = len(pts)
    return PacketTable(
        pts=np.array(pts, np.int64),
        dts=np.array(dts if dts is not None else sorted(pts), np.int64),
        duration=np.zeros(count, np.int64),
        size=np.ones(count, np.int64),
        key=np.array(key if key is not None else [True] + [False] * (count - 1), bool),
        shown=np.array(shown if shown is not None else [True] * count, bool),
    )


@quick
@given(stamps, st.integers(1, 40))
def test_each_sample_is_the_last_frame_shown_at_its_time(times, count):
    positions = on_display(np.array(times, np.int64), times[0], times[-1], count)
    for k, position in enumerate(positions):
        at = Fraction(times[0]) + Fraction(k * (times[-1] - times[0]), max(count - 1, 1))
        assert position == max(i for i, time in enumerate(times) if time <= at)


@quick
@given(stamps, st.integers(2, 40))
def test_first_and_last_presented_frame_are_always_sampled(times, count):
    positions = on_display(np.array(times, np.int64), times[0], times[-1], count)
    assert positions[0] == 0 and positions[-1] == len(times) - 1 and len(positions) == count
    assert (np.diff(positions) >= 0).all()


@quick
@given(stamps, st.integers(-(2 * 10**6), 2 * 10**9), st.integers(0, 10**9))
def test_a_window_starts_and_ends_with_frames_presented_in_it(times, start, length):
    first, last = inside(np.array(times, np.int64), start, start + length)
    within = [time for time in times if start <= time <= start + length]
    if within:
        assert (first, last) == (within[0], within[-1])
    else:
        assert first == last == max((time for time in times if time < start), default=times[0])


@st.composite
def coded(draw):
    """A table with reordered frames and key frames here and there, as coders write it, and positions wanted."""
    count = draw(st.integers(1, 40))
    order = sorted(range(count), key=lambda i: i + draw(st.integers(0, 3)) * 0.9)
    key = [i == 0 or draw(st.booleans()) for i in range(count)]
    wanted = draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=20))
    return table([order.index(i) * 40 for i in range(count)], key=key), wanted


@quick
@given(coded())
def test_groups_reach_every_wanted_frame_from_a_key_frame_and_decode_no_packet_twice(case):
    packets, wanted = case
    line = timeline(packets, MS, Fraction(25))
    groups = groups_for(packets, line, wanted)
    assert sorted(position for group in groups for position in group.positions) == sorted(set(wanted))
    for group in groups:
        assert packets.key[group.start]
        for position in group.positions:
            assert group.start <= line.ordinals[position] <= group.stop
    for before, after in itertools.pairwise(groups):
        assert before.stop < after.start


def test_a_frame_shown_before_its_key_frame_is_decoded_from_the_group_before():
    packets = table([0, 120, 40, 80, 240, 160, 200], key=[True, False, False, False, True, False, False])
    line = timeline(packets, MS, Fraction(25))
    assert groups_for(packets, line, [4])[0].start == 0  # 160 ms, coded behind the key frame of 240 ms
    assert groups_for(packets, line, [6])[0].start == 4


def test_times_that_only_the_decoding_order_knows_are_counted():
    line = timeline(table([NO_TIME] * 4, dts=[0, 40, 80, 120]), MS, Fraction(25))
    assert line.counted and line.times.tolist() == [0, 40, 80, 120] and "no display times" in line.note


def test_without_any_time_stamp_the_rate_counts():
    line = timeline(table([NO_TIME] * 3, dts=[NO_TIME] * 3), MS, Fraction(25))
    assert (line.times * line.time_base).tolist() == [0, Fraction(1, 25), Fraction(2, 25)]
    assert "no time stamps" in line.note


def test_a_jump_back_in_the_middle_is_noticed():
    line = timeline(table([9000, 9040, 0, 40], dts=[9000, 9040, 0, 40]), MS, Fraction(25))
    assert line.counted and "jump back by 9.0 s" in line.note
    assert (line.times * line.time_base).tolist() == [0, Fraction(1, 25), Fraction(2, 25), Fraction(3, 25)]


def test_frames_cut_away_by_an_edit_list_are_not_presented():
    line = timeline(table([0, 40, 80], shown=[False, False, True]), MS, Fraction(25))
    assert line.times.tolist() == [80] and line.ordinals.tolist() == [2]


def test_the_rate_is_exact_where_the_header_agrees_and_measured_where_it_lies():
    ntsc = np.array([round(i * 1001 / 30) for i in range(300)], np.int64)
    assert frame_rate(ntsc, MS, [Fraction(30000, 1001)]) == Fraction(30000, 1001)
    assert abs(frame_rate(ntsc, MS, [Fraction(25)]) - Fraction(30000, 1001)) < Fraction(1, 100)


def test_a_gap_is_reported_with_place_and_length_and_does_not_slow_the_rate():
    times = np.array([*range(0, 1000, 40), *range(13000, 14000, 40)], np.int64)
    assert frame_rate(times, MS, []) == 25
    (note,) = irregularities(times, MS, Fraction(25))
    assert "gap of 12.0 s at 1.0 s" in note


def test_a_steady_clip_gets_no_remarks_and_a_varying_one_does():
    assert irregularities(np.arange(0, 4000, 40), MS, Fraction(25)) == []
    varying = np.cumsum([40, 40, 80, 40, 120, 40, 80, 40, 40])
    assert any("varies" in note for note in irregularities(varying, MS, Fraction(17)))


def test_a_stamp_exactly_on_a_sampling_time_is_not_lost_to_rounding():
    times = np.array([270000 + 3003 * i for i in range(16)], np.int64)
    assert on_display(times, int(times[0]), int(times[-1]), 16).tolist() == list(range(16))
