"""Frames at their presentation times, whatever the file: proved by the number painted into each picture.

``sample`` runs here in the test's own process; ``test_video.py`` runs the same through the guarded worker.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from services import video_sampling, video_survey
from services.errors import ClipError, InputError
from services.schema import Sampling, Window
from services.video_probe import Limits
from services.video_sampling import Sampled
from tests.media import make_clip, make_long_clip, make_rotated, numbered, read_number
from tests.media_odd import (
    make_edit_list,
    make_interlaced,
    make_spliced,
    make_truncated,
    make_without_stamps,
)


@dataclass
class Seen:
    """What the sink received, by slot."""

    count: int
    told: Sampled | None = None
    pictures: dict[int, np.ndarray] = field(default_factory=dict)
    times: dict[int, float] = field(default_factory=dict)

    @property
    def numbers(self) -> list[int]:
        return [read_number(self.pictures[slot]) for slot in range(self.count)]

    @property
    def pts_s(self) -> list[float]:
        return [self.times[slot] for slot in range(self.count)]


def look(
    path: Path, count: int = 16, window: Window | None = None, limits: Limits | None = None, **sampling: Any
) -> Seen:
    seen = Seen(count)

    def sink(slots, pts_s, picture):
        for slot in slots:
            seen.pictures[slot], seen.times[slot] = picture, pts_s

    seen.told = video_sampling.sample(
        str(path), Sampling(frames=count, **sampling), window, limits or Limits(), lambda *shape: None, sink
    )
    return seen


def expected(times_s: list[float], count: int, start: float = 0.0, end: float = float("inf")) -> list[int]:
    """Numbers of the frames on display, by looking at every frame; ``times_s`` of frame 0, 1, 2 …"""
    exact = [Fraction(time).limit_denominator(10**6) for time in times_s]
    within = [time - exact[0] for time in exact if start <= time - exact[0] <= end]
    shown = []
    for k in range(count):
        at = within[0] + k * (within[-1] - within[0]) / max(count - 1, 1)
        shown.append(max(i for i, time in enumerate(exact) if time - exact[0] <= at + Fraction(1, 10**5)))
    return shown


STEADY = [i / 25 for i in range(60)]

ORDINARY = {
    "a.mp4": {},
    "b-frames.mp4": {"bframes": 7, "gop": 30},
    "a.mov": {},
    "a.mkv": {},
    "a.avi": {},
    "mpeg4.avi": {"codec": "mpeg4"},
    "jpeg.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "a.ts": {},
    "a.mpg": {"codec": "mpeg2video"},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "vp8.webm": {"codec": "libvpx"},
    "a.gif": {"codec": "gif", "pix_fmt": "rgb8"},
    "hevc.mp4": {"codec": "libx265"},
    "fragmented.mp4": {"mux_options": {"movflags": "frag_keyframe+empty_moov"}},
    "sound.mp4": {"audio": True},
    "ten-bit.mp4": {"pix_fmt": "yuv420p10le"},
    "4:4:4.mp4": {"pix_fmt": "yuv444p"},
    "grey.mp4": {"pix_fmt": "gray"},
}


@pytest.mark.parametrize("name", ORDINARY)
@pytest.mark.parametrize("count", [2, 16])
def test_every_container_and_codec_gives_the_frames_on_display(tmp_path, name, count):
    seen = look(make_clip(tmp_path / name.replace(":", ""), 60, **ORDINARY[name]), count)
    assert seen.numbers == expected(STEADY, count)
    assert np.allclose(seen.pts_s, [STEADY[number] for number in seen.numbers], atol=1e-6)
    assert seen.told.fps == (25, 1) and seen.told.duration_s == pytest.approx(2.4, abs=0.001)
    assert (seen.told.width, seen.told.height, seen.told.warnings) == (160, 96, ())


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi", "hevc.mp4", "a.mpg", "fragmented.mp4", "vp9.webm"])
@pytest.mark.parametrize("window", [None, Window(1.0, 2.2), Window(1.01, 1.5), Window(0.0, 0.3)])
def test_a_large_file_is_sampled_by_seeking_and_gives_the_very_same_frames(tmp_path, name, window, monkeypatch):
    path = make_clip(tmp_path / name, 60, gop=10, **{k: v for k, v in ORDINARY[name].items() if k != "gop"})
    whole = look(path, 16, window)
    for far_s in (20.0, 0.01):  # read in one go, and target by target
        with monkeypatch.context() as patch:
            patch.setattr(video_survey, "TINY_BYTES", 0)
            patch.setattr(video_survey, "SMALL_BYTES", 0)
            patch.setattr(video_survey, "HEAD_PACKETS", 20)
            patch.setattr(video_survey, "HEAD_S", 0.2)
            patch.setattr(video_sampling, "FAR_S", far_s)
            sought = look(path, 16, window)
        assert sought.numbers == whole.numbers
        assert sought.pts_s == whole.pts_s
        assert sought.told.duration_s == pytest.approx(whole.told.duration_s, abs=0.001)
        assert sought.told.fps == whole.told.fps


def test_variable_rate_is_sampled_by_time_not_by_count(tmp_path):
    stamps = [40 * i + 3 * i**2 + 15 * (i % 3) for i in range(40)]
    seen = look(make_clip(tmp_path / "a.mkv", 40, pts=stamps, time_base=Fraction(1, 1000)))
    assert seen.numbers == expected([stamp / 1000 for stamp in stamps], 16)
    assert any("varies" in warning for warning in seen.told.warnings)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_times_count_from_the_first_presented_frame(tmp_path, suffix):
    stamps = [270000 + 3000 * i for i in range(40)]
    path = make_clip(tmp_path / f"a.{suffix}", 40, pts=stamps, time_base=Fraction(1, 90000))
    seen = look(path, 16, Window(0.5, 1.0))
    times = [round(1000 * i / 30) / 1000 if suffix == "mkv" else i / 30 for i in range(40)]  # Matroska counts ms
    assert seen.numbers == expected(times, 16, 0.5, 1.0)
    assert seen.pts_s[0] == pytest.approx(0.5, abs=0.001)
    assert seen.told.fps == (30, 1)


def test_ntsc_rate_stays_a_fraction(tmp_path):
    assert look(make_clip(tmp_path / "a.mp4", 60, fps=Fraction(30000, 1001))).told.fps == (30000, 1001)


def test_a_gap_shows_its_last_picture_and_is_named(tmp_path):
    stamps = [40 * i + (10_000 if i >= 20 else 0) for i in range(40)]
    seen = look(make_clip(tmp_path / "a.mp4", 40, pts=stamps, time_base=Fraction(1, 1000)))
    assert seen.numbers == expected([stamp / 1000 for stamp in stamps], 16)
    assert any("gap of 10.0 s at 0.8 s" in warning for warning in seen.told.warnings)


def test_an_edit_list_cuts_the_frames_before_its_start(tmp_path):
    seen = look(make_edit_list(tmp_path / "a.mp4", skip=20, frames=60), 4)
    assert seen.numbers == [20 + n for n in expected([i / 25 for i in range(40)], 4)]
    assert seen.pts_s[0] == 0.0 and seen.told.warnings == ()


def test_recorders_without_time_stamps_are_counted_by_rate(tmp_path):
    seen = look(make_without_stamps(tmp_path / "a.ts"))
    assert seen.numbers == expected(STEADY, 16)
    assert any("no time stamps" in warning for warning in seen.told.warnings)


def test_a_spliced_stream_is_read_through_in_order(tmp_path):
    seen = look(make_spliced(tmp_path / "a.ts"))
    assert seen.numbers == expected([i / 25 for i in range(100)], 16)
    assert any("jump back" in warning for warning in seen.told.warnings)


def test_a_cut_off_file_is_analysed_to_where_it_ends(tmp_path):
    seen = look(make_truncated(tmp_path / "a.mp4", index_first=True))
    assert seen.told.duration_s < 7.5 and seen.numbers[0] == 0
    assert any("announces 12.0 s but ends at" in warning for warning in seen.told.warnings)


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_rotated_recordings_are_shown_upright(tmp_path, rotation):
    seen = look(make_rotated(tmp_path / "a.mp4", rotation, frames=30), 4)
    assert seen.numbers == [0, 9, 19, 29]
    assert (seen.told.width, seen.told.height) == ((160, 96) if rotation == 180 else (96, 160))
    assert seen.pictures[0].shape == (seen.told.height, seen.told.width, 3)
    assert len(seen.told.warnings) == 1 and "turn" in seen.told.warnings[0]


def test_a_mirrored_recording_is_mirrored_back(tmp_path):
    path = make_clip(tmp_path / "a.mp4", 30, mirror=True, paint=lambda n, w, h: numbered(n, w, h)[:, ::-1].copy())
    assert look(path, 4).numbers == [0, 9, 19, 29]


def test_pixels_are_made_square(tmp_path):
    seen = look(make_clip(tmp_path / "a.mp4", 30, width=144, height=96, sar=Fraction(4, 3)), 4)
    assert (seen.told.width, seen.told.height) == (192, 96)
    assert seen.pictures[0].shape == (96, 192, 3) and seen.numbers == [0, 9, 19, 29]
    assert any("4:3" in warning for warning in seen.told.warnings)


def test_large_pictures_are_averaged_down_and_the_clip_keeps_its_true_size(tmp_path):
    def checks(number, width, height):
        return (np.indices((height, width)).sum(0) % 2 * 200 + 20).astype(np.uint8)[:, :, None].repeat(3, 2)

    seen = look(make_clip(tmp_path / "a.mp4", 20, width=320, height=192, paint=checks), 2, max_frame_pixels=160 * 96)
    assert (seen.told.width, seen.told.height) == (320, 192)
    assert seen.pictures[0].shape == (96, 160, 3)
    middle = seen.pictures[0][10:-10, 10:-10].astype(float)
    assert middle.mean() == pytest.approx(120, abs=4) and middle.std() < 6  # averaged: not one of the two colours


COLOURS = [(200, 30, 40), (20, 180, 60), (30, 60, 210), (255, 255, 255), (0, 0, 0), (230, 210, 40)]


@pytest.mark.parametrize(
    ("options", "tags"),
    [
        ({}, {}),
        ({}, {"colorspace": 1, "color_range": 1}),
        ({}, {"colorspace": 1, "color_range": 2}),
        ({"pix_fmt": "yuv420p10le"}, {"colorspace": 9, "color_range": 1}),
        ({"codec": "mjpeg", "pix_fmt": "yuvj420p"}, {"colorspace": 5, "color_range": 2}),
    ],
    ids=["untagged", "bt709", "bt709 full range", "bt2020 10 bit", "jpeg"],
)
def test_colours_follow_matrix_and_range(tmp_path, options, tags):
    def bars(number, width, height):
        return np.repeat(np.array(COLOURS, np.uint8), width // 6, axis=0)[None].repeat(height, 0)

    suffix = "avi" if "codec" in options else "mp4"
    seen = look(make_clip(tmp_path / f"a.{suffix}", 20, width=288, paint=bars, tags=tags, **options), 2)
    shown = seen.pictures[0].reshape(96, 6, 48, 3)[20:76, :, 14:34].mean(axis=(0, 2))
    assert np.abs(shown - COLOURS).max() < 6


def test_interlaced_pictures_come_without_combs(tmp_path):
    seen = look(make_interlaced(tmp_path / "a.mpg"))
    assert seen.numbers == expected([i / 25 for i in range(30)], 16)


def test_short_clips_repeat_frames(tmp_path):
    seen = look(make_clip(tmp_path / "a.mp4", 14))
    assert seen.numbers == expected([i / 25 for i in range(14)], 16)
    assert len(set(seen.numbers)) == 14


def test_a_window_is_sampled_from_its_first_to_its_last_frame(tmp_path):
    path = make_clip(tmp_path / "a.mp4", 250)
    seen = look(path, 16, Window(3.0, 5.0))
    assert seen.numbers == expected([i / 25 for i in range(250)], 16, 3.0, 5.0)
    assert seen.told.window == (3.0, 5.0)
    assert any("3.0 s to 5.0 s of 10.0 s" in warning for warning in seen.told.warnings)


def test_a_window_that_reaches_over_the_end_is_cut_there(tmp_path):
    for end in (99.0, float("inf")):
        assert look(make_clip(tmp_path / "a.mp4", 50), 4, Window(1.0, end)).told.window == (1.0, 2.0)


@pytest.mark.parametrize("window", [Window(2.0, 3.0), Window(-1.0, 1.0), Window(1.0, 1.0), Window(float("nan"), 1.0)])
def test_a_window_outside_the_clip_is_refused(tmp_path, window):
    with pytest.raises(InputError, match="window"):
        look(make_clip(tmp_path / "a.mp4", 50), 16, window)


def test_a_window_longer_than_the_limit_is_shortened_with_a_warning(tmp_path):
    seen = look(make_clip(tmp_path / "a.mp4", 250), 4, Window(1.0, 9.0), window_s=5.0)
    assert seen.told.window == (1.0, 6.0)
    assert any("at most 5 s at a time" in warning for warning in seen.told.warnings)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_two_minutes_of_repeated_packets_by_seeking(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(video_survey, "TINY_BYTES", 0)
    monkeypatch.setattr(video_survey, "SMALL_S", 60.0)
    path = make_long_clip(tmp_path / f"a.{suffix}", 2, width=320, height=180, pattern_s=20, paint=numbered)
    seen = look(path, 16, window_s=120.0)
    assert seen.numbers == [number % 500 for number in expected([i / 25 for i in range(3000)], 16)]
    assert seen.told.duration_s == pytest.approx(120.0, abs=0.05)


def test_too_many_frames_to_decode_is_refused_before_decoding(tmp_path):
    path = make_clip(tmp_path / "a.mp4", 300, gop=1000)
    with pytest.raises(ClipError, match=r"key frames so rarely that 299 pictures .* to see 16"):
        look(path, limits=Limits(max_decoded_frames=200))


def test_no_frame_is_decoded_of_a_clip_that_its_packets_rule_out(tmp_path, monkeypatch):
    path = make_clip(tmp_path / "a.mp4", 10)

    def decode(*args):
        raise AssertionError("decoded")

    monkeypatch.setattr(video_sampling, "decode", decode)
    with pytest.raises(ClipError, match=r"only 0.40 s long"):
        look(path)
    with pytest.raises(ClipError, match=r"more than 0\.0002778; cut it"):
        look(make_clip(tmp_path / "b.mp4", 50), limits=Limits(max_duration_s=1.0))


def test_the_clips_of_this_module_are_what_they_claim(tmp_path):
    with av.open(str(make_interlaced(tmp_path / "a.mpg"))) as file:
        assert next(file.decode(video=0)).interlaced_frame
    with av.open(str(make_clip(tmp_path / "b.mp4", 60, bframes=7, gop=30))) as file:
        stamps = [packet.pts for packet in file.demux(video=0) if packet.pts is not None]
    assert stamps != sorted(stamps)
