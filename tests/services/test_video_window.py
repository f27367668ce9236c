"""A long recording is looked at where most is moving, whatever the coder does with its bytes."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from services import video_survey, video_window
from services.schema import Sampling, Window
from services.video import VideoReader
from services.video_probe import Limits, Source
from services.video_survey import survey
from services.video_window import choose_window
from tests.media import Painter, make_clip

FPS, SECONDS, BUSY = 5, 180, (100, 130)


def barn_with(noise: int, storm: tuple[int, int] = (0, 0)) -> Painter:
    """Cows stand still but for half a minute. ``noise``: grey levels of sensor noise, four times as much between the
    seconds ``storm`` (a failing lamp). The light changes at 40 s."""

    def paint(number: int, width: int, height: int) -> np.ndarray:
        second = number / FPS
        random = np.random.default_rng(number)
        picture = np.full((height, width, 3), 90 if second < 40 else 120, np.int16)
        x = 0.3 + 0.25 * np.sin(second * 2) if BUSY[0] <= second < BUSY[1] else 0.3
        picture[height // 3 : 2 * height // 3, int(x * width) : int(x * width) + width // 3] = 210
        most = 4 * noise if storm[0] <= second < storm[1] else noise
        return (picture + random.integers(-most, most + 1, picture.shape)).clip(0, 255).astype(np.uint8)

    return paint


def made(path: Path, paint: Painter | None = None, **options) -> Path:
    return make_clip(path, FPS * SECONDS, fps=FPS, gop=10, paint=paint or barn_with(3), **options)


def chosen(path: Path, longest_s: float = 60.0) -> tuple[Window, str | None]:
    source = Source(str(path), Limits())
    try:
        return choose_window(source, survey(source), None, longest_s)
    finally:
        source.close()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("quiet.mp4", {"paint": barn_with(0)}),
        ("storm.mp4", {"paint": barn_with(2, storm=(10, 60))}),
        ("noisy.mp4", {}),
        ("constant-rate.mp4", {"options": {"b": "200k", "maxrate": "200k", "bufsize": "40k", "crf": "-1"}}),
        ("key-frames-only.avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
    ],
)
def test_the_busiest_window_is_found(tmp_path, name, options):
    window, warning = chosen(made(tmp_path / name, **options))
    assert window.start_s <= BUSY[0] and window.end_s >= BUSY[1] and window.length_s == 60
    assert warning is not None and "of 3:00 was looked at, where most is moving" in warning


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_the_same_window_is_found_without_reading_the_whole_file(tmp_path, suffix, monkeypatch):
    path = made(tmp_path / f"a.{suffix}", barn_with(0))
    monkeypatch.setattr(video_window, "LOOKS", 8)  # as in a recording of hours: too few to do without coded sizes
    monkeypatch.setattr(video_survey, "TINY_BYTES", 0)
    monkeypatch.setattr(video_survey, "SMALL_S", 10.0)
    window, _ = chosen(path)
    assert window.start_s <= BUSY[0] + 5 and window.end_s >= BUSY[1] - 5


def test_among_windows_with_large_pictures_a_still_one_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr(video_window, "LOOKS", 8)
    window, _ = chosen(made(tmp_path / "a.mp4", barn_with(2, storm=(10, 60))), longest_s=20.0)
    assert window.start_s >= BUSY[0] - 15 and window.end_s <= BUSY[1] + 15


def test_a_clip_within_the_limit_is_looked_at_whole(tmp_path):
    window, warning = chosen(made(tmp_path / "a.mp4"), longest_s=180.0)
    assert window == Window(0.0, 180.0) and warning is None


def test_the_service_samples_the_window_it_names_and_says_what_it_left_out(tmp_path):
    path = made(tmp_path / "a.mp4")
    reader = VideoReader()
    try:
        clip, frames = reader.open(str(path), Sampling(), None, threading.Event())
        again, _ = reader.open(str(path), Sampling(), None, threading.Event())
    finally:
        reader.close()
    assert clip.window.start_s <= BUSY[0] and clip.window.end_s >= BUSY[1]
    assert clip.window.start_s <= frames.pts_s[0] and frames.pts_s[-1] <= clip.window.end_s
    assert clip.duration_s == 180.0 and len(clip.warnings) == 1
    assert again.window == clip.window and again.key == clip.key
