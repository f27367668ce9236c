"""Bad input costs one clear sentence, through the guarded worker as in the app, and the next clip works again."""

from __future__ import annotations

import os
import threading
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from services.errors import ClipError
from services.schema import Sampling
from services.video import VideoReader
from tests.media import make_clip, read_number
from tests.media_odd import (
    make_audio,
    make_concat_script,
    make_corrupt,
    make_half_index,
    make_huge_header,
    make_lying_size,
    make_picture,
    make_playlist,
    make_text,
    make_truncated,
    make_zero_time_scale,
    make_zip,
)

NEVER = threading.Event()


@pytest.fixture(scope="module")
def reader():
    made = VideoReader(timeout_s=20)
    yield made
    made.close()


def refusal(reader: VideoReader, path: Path | str) -> str:
    """What the refused clip is told; it must be one sentence on one line that names the file."""
    with pytest.raises(ClipError) as caught:
        reader.open(str(path), Sampling(), None, NEVER)
    text = str(caught.value)
    assert "\n" not in text and text.endswith(".") and "“" in text
    assert not any(word in text for word in ("Errno", "Error", "Traceback", "avcodec"))
    return text


def day_gap(path: Path) -> Path:
    stamps = [40 * i + (86_400_000 if i >= 20 else 0) for i in range(40)]
    return make_clip(path, 40, pts=stamps, time_base=Fraction(1, 1000))


REFUSED = {
    "text.mp4": (make_text, "is a text file, not a video"),
    "zip.mp4": (make_zip, "is a ZIP archive, not a video"),
    "jpeg.mp4": (make_picture, "is a JPEG picture, not a video"),
    "photo.jpg": (make_picture, "is a JPEG picture, not a video"),
    "png.mp4": (lambda path: make_picture(path, "png"), "is a PNG picture, not a video"),
    "concat.mp4": (lambda path: make_concat_script(path, "other.ts"), "is a script that names other files"),
    "hls.mp4": (lambda path: make_playlist(path, "other.ts"), "is a playlist that names other files"),
    "no-index.mp4": (lambda path: make_truncated(path, index_first=False), "its index is missing"),
    "half-index.mp4": (make_half_index, "its index is damaged"),
    "sound.mp4": (make_audio, "holds only sound"),
    "sound.mkv": (make_audio, "holds only sound"),
    "one.mp4": (lambda path: make_clip(path, 1), "holds a single picture"),
    "one.gif": (lambda path: make_clip(path, 1, codec="gif", pix_fmt="rgb8"), "holds a single picture"),
    "short.mp4": (lambda path: make_clip(path, 10), "only 0.40 s long; a clip needs at least 0.5 s"),
    "huge.mp4": (make_huge_header, "16000 × 16000 pixels, more than 36 million"),
    "huge.avi": (make_huge_header, "16000 × 16000 pixels, more than 36 million"),
    "huge.gif": (make_huge_header, "16000 × 16000 pixels, more than 36 million"),
    "lying.webm": (make_lying_size, "Almost none of the pictures"),
    "corrupt.mp4": (make_corrupt, "Almost none of the pictures"),
    "zero.mp4": (make_zero_time_scale, "time stamps are broken"),
    "day.mp4": (day_gap, "spans 24.00 hours by its time stamps"),
    "tiny.mp4": (lambda path: make_clip(path, width=16, height=16), "only 16 × 16 pixels"),
    "strip.mp4": (lambda path: make_clip(path, width=1600, height=32), "a mere strip"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_one_sentence(reader, tmp_path, name):
    make, expected = REFUSED[name]
    assert expected in refusal(reader, make(tmp_path / name))


def test_refused_paths(reader, tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    assert "does not exist" in refusal(reader, tmp_path / "missing.mp4")
    assert "is a folder" in refusal(reader, tmp_path)
    assert "is empty" in refusal(reader, tmp_path / "empty.mp4")
    assert "cannot be read" in refusal(reader, tmp_path / "loop.mp4")
    assert "cannot be read" in refusal(reader, tmp_path / "empty.mp4" / "below.mp4")
    assert "cannot be read" in refusal(reader, f"{tmp_path}/nul\0.mp4")
    assert "cannot be read" in refusal(reader, tmp_path / ("long" * 100))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the platform has no pipes in the file system")
def test_devices_and_pipes_are_refused_without_opening_them(reader, tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    assert "a device or a pipe" in refusal(reader, tmp_path / "pipe.mp4")
    assert "a device or a pipe" in refusal(reader, "/dev/zero")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is unreadable for root")
def test_an_unreadable_file_is_refused(reader, tmp_path):
    path = make_clip(tmp_path / "a.mp4")
    path.chmod(0)
    assert "cannot be read" in refusal(reader, path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the platform has no pipes in the file system")
@pytest.mark.parametrize("make", [make_concat_script, make_playlist])
def test_a_script_under_a_videos_name_opens_no_other_file(reader, tmp_path, make):
    """The file named is a pipe: had anyone opened it to read, opening it to write would succeed."""
    os.mkfifo(tmp_path / "other.ts")
    opened = []

    def watch() -> None:
        while not done.is_set():
            try:
                os.close(os.open(tmp_path / "other.ts", os.O_WRONLY | os.O_NONBLOCK))
                opened.append(True)
            except OSError:  # ENXIO: nobody reads
                time.sleep(0.001)

    done = threading.Event()
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        refusal(reader, make(tmp_path / "clip.mp4", "other.ts"))
        refusal(reader, make(tmp_path / "clip2.mp4", str(tmp_path / "other.ts")))
    finally:
        done.set()
        watcher.join()
    assert not opened


def test_a_name_with_control_characters_stays_one_line(reader, tmp_path):
    text = refusal(reader, make_text(tmp_path / "two\nlines\x1b[31m.mp4"))
    assert "two?lines?[31m.mp4" in text


def test_the_worker_survives_refusals(reader, tmp_path):
    refusal(reader, make_corrupt(tmp_path / "bad.mp4"))
    _, frames = reader.open(str(make_clip(tmp_path / "good.mp4")), Sampling(), None, NEVER)
    assert read_number(frames.rgb[-1]) == 49


def test_damage_in_a_part_is_a_warning(reader, tmp_path):
    clip, frames = reader.open(str(make_corrupt(tmp_path / "a.mp4", share=0.05)), Sampling(), None, NEVER)
    assert any("pictures are damaged; their neighbours stand in" in warning for warning in clip.warnings)
    assert len(frames) == 16 and (frames.pts_s[1:] >= frames.pts_s[:-1]).all()


def test_pictures_between_that_are_damaged_have_stand_ins(reader, tmp_path):
    path = str(make_corrupt(tmp_path / "a.mp4", share=0.05))
    _, frames = reader.open(path, Sampling(frames=25), None, NEVER, between_pixels=10**6)
    assert frames.between.shape == (24, *frames.rgb.shape[1:])
    assert all(
        np.abs(between.astype(int) - before).mean() < 60
        for between, before in zip(frames.between, frames.rgb, strict=False)
    )


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.ts", "a.gif"])
def test_random_damage_costs_a_sentence_or_nothing(reader, tmp_path, name):
    options = {"codec": "gif", "pix_fmt": "rgb8"} if name == "a.gif" else {}
    sound = make_clip(tmp_path / name, 40, **options).read_bytes()
    random = np.random.default_rng(3)
    for _ in range(12):
        raw = bytearray(sound)
        reach = len(raw) if random.random() < 0.6 else 1500  # the header, too
        for _ in range(int(random.integers(1, 30))):
            raw[int(random.integers(0, min(reach, len(raw))))] = int(random.integers(0, 256))
        (tmp_path / name).write_bytes(raw[: int(random.integers(500, len(raw)))] if random.random() < 0.3 else raw)
        try:
            clip, frames = reader.open(str(tmp_path / name), Sampling(), None, NEVER)
        except ClipError as error:
            assert "\n" not in str(error) and str(error).endswith(".")
        else:
            assert len(frames) == 16 and np.isfinite(frames.pts_s).all()
            assert (np.diff(frames.pts_s) >= 0).all() and 0 <= frames.pts_s[-1] <= clip.duration_s
