"""Single pictures: upright, capped and refused in one sentence; read by the guarded worker."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from PIL import Image

from services.errors import ClipError
from services.schema import Sampling
from services.video import VideoReader
from services.video_still import is_still

SAMPLING = Sampling()


@pytest.fixture(scope="module")
def reader():
    reader = VideoReader()
    yield reader
    reader.close()


def picture(wide=64, high=48):
    """Left half red, right half blue."""
    rgb = np.zeros((high, wide, 3), np.uint8)
    rgb[:, : wide // 2, 0] = rgb[:, wide // 2 :, 2] = 200
    return Image.fromarray(rgb)


def opened(reader, path, sampling=SAMPLING):
    return reader.open_still(str(path), sampling, threading.Event())


@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
def test_a_picture_is_one_frame_of_a_clip_without_length(reader, tmp_path, kind):
    path = tmp_path / f"barn.{kind}"
    picture().save(path)
    clip, frames = opened(reader, path)
    assert is_still(str(path)) and clip.container == "picture"
    assert (clip.width, clip.height, clip.duration_s) == (64, 48, 0.0)
    assert frames.rgb.shape == (1, 48, 64, 3)
    assert frames.rgb[0, 24, 8, 0] > 180 > 40 > frames.rgb[0, 24, 8, 2]


def test_exif_turns_the_picture_upright(reader, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown after a quarter turn to the right
    picture().save(tmp_path / "a.jpg", exif=exif)
    clip, frames = opened(reader, tmp_path / "a.jpg")
    assert (clip.width, clip.height) == (48, 64)
    assert frames.rgb[0, 8, 24, 0] > 180 and frames.rgb[0, 56, 24, 2] > 180


def test_sixteen_bits_are_scaled_and_colour_maps_resolved(reader, tmp_path):
    Image.fromarray((np.arange(64 * 48, dtype=np.uint16) * 20).reshape(48, 64)).save(tmp_path / "a.png")
    rgb = opened(reader, tmp_path / "a.png")[1].rgb
    assert rgb.max() == 255 and 120 < np.median(rgb) < 135
    picture().convert("P").save(tmp_path / "b.png")
    assert opened(reader, tmp_path / "b.png")[1].rgb[0, 24, 8, 0] > 180


def test_large_pictures_are_averaged_down_to_the_cap(reader, tmp_path):
    picture(640, 480).save(tmp_path / "a.png")
    clip, frames = opened(reader, tmp_path / "a.png", Sampling(max_frame_pixels=320 * 240))
    assert (clip.width, clip.height) == (640, 480) and frames.rgb.shape == (1, 240, 320, 3)


def test_an_animation_is_told(reader, tmp_path):
    picture().save(tmp_path / "a.webp", save_all=True, append_images=[Image.new("RGB", (64, 48))])
    clip, frames = opened(reader, tmp_path / "a.webp")
    assert "first frame" in clip.warnings[0] and frames.rgb[0, 24, 8, 0] > 180


def cut_off(path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (99, 99, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:4000])


def huge(path):
    Image.new("1", (30_000, 30_000)).save(path)


def strip(path):
    Image.new("RGB", (2000, 40)).save(path)


def tiny(path):
    Image.new("RGB", (16, 16)).save(path)


def no_picture(path):
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200))


def another_format(path):
    picture().save(path, format="TIFF")


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (cut_off, "damaged"),
        (huge, "million"),
        (strip, "strip"),
        (tiny, "at least"),
        (no_picture, "damaged"),
        (another_format, "JPEG, PNG or WebP"),
    ],
)
def test_bad_files_are_refused_in_one_sentence(reader, tmp_path, make, word):
    make(tmp_path / "bad.png")
    with pytest.raises(ClipError) as error:
        opened(reader, tmp_path / "bad.png")
    assert word in str(error.value) and "“bad.png”" in str(error.value) and "\n" not in str(error.value)


def test_a_video_is_no_still_whatever_its_name(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x00\x00\x00\x18ftypmp42")
    assert not is_still(str(tmp_path / "a.png")) and not is_still(str(tmp_path / "missing.png"))
