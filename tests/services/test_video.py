"""The video service as others use it: what it returns, how it guards itself, several callers at once."""

from __future__ import annotations

import hashlib
import io
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from services.errors import Cancelled, ClipError, InputError, ResourceError
from services.schema import Frames, Sampling, Window
from services.video import VideoReader, display_proxy, file_digest, plays_in_browser, thumbnail
from services.video_link import ROOT, Worker
from tests.media import barn, make_clip, make_long_clip, make_rotated, read_number

NEVER = threading.Event()


@pytest.fixture(scope="module")
def reader():
    made = VideoReader(timeout_s=30)
    yield made
    made.close()


@pytest.fixture(scope="module")
def heavy(tmp_path_factory) -> Path:
    """A good part of a second of decoding: one group of 700 pictures of 640 x 360."""
    path = tmp_path_factory.mktemp("heavy") / "heavy.mp4"
    return make_clip(path, 700, width=640, height=360, gop=2000, bframes=0, paint=barn)


def test_a_clip_is_told_and_its_frames_are_those_shown(reader, tmp_path):
    path = make_clip(tmp_path / "a.mp4", 50)
    clip, frames = reader.open(str(path), Sampling(frames=8), None, NEVER)
    assert [read_number(picture) for picture in frames.rgb] == [0, 7, 14, 21, 28, 35, 42, 49]
    assert np.allclose(frames.pts_s, np.arange(8) * 0.28)
    assert frames.rgb.shape == (8, 96, 160, 3) and frames.rgb.dtype == np.uint8
    assert clip.path == str(path) and clip.size_bytes == path.stat().st_size
    assert clip.sha256 == hashlib.sha256(path.read_bytes()).hexdigest() == file_digest(str(path))
    assert (clip.duration_s, clip.fps, clip.width, clip.height) == (2.0, Fraction(25), 160, 96)
    assert (clip.codec, clip.container, clip.warnings) == ("h264", "mp4", ())
    assert clip.window == Window(0.0, 2.0)


def test_the_pictures_between_come_from_the_same_decoding_and_smaller(reader, tmp_path):
    path = str(make_clip(tmp_path / "a.mp4", 61, width=320, height=192))
    _, usual = reader.open(path, Sampling(), None, NEVER)
    _, frames = reader.open(path, Sampling(), None, NEVER, between_pixels=160 * 96)
    _, dense = reader.open(path, Sampling(frames=31), None, NEVER)
    assert usual.between is None and frames.between.shape == (15, 96, 160, 3)
    assert (frames.rgb == usual.rgb).all() and (frames.pts_s == usual.pts_s).all()
    assert (
        [read_number(p) for p in frames.between] == [read_number(p) for p in dense.rgb[1::2]] == list(range(2, 61, 4))
    )


@pytest.mark.parametrize("count", [2, 9, 16])
def test_there_is_always_a_picture_between(reader, tmp_path, count):
    """Also of a clip with fewer pictures than are asked for."""
    path = str(make_clip(tmp_path / "a.mp4", 13))
    _, frames = reader.open(path, Sampling(frames=count), None, NEVER, between_pixels=10**6)
    numbers = np.empty(2 * count - 1, int)
    numbers[::2], numbers[1::2] = ([read_number(p) for p in part] for part in (frames.rgb, frames.between))
    assert (np.diff(numbers) >= 0).all() and (numbers[0], numbers[-1]) == (0, 12)


def test_pictures_between_of_a_long_window_are_looked_up_one_by_one(reader, tmp_path):
    path = str(make_long_clip(tmp_path / "long.mp4", 3, width=160, height=96))
    whole = Sampling(frames=4, window_s=181.0)
    _, frames = reader.open(path, whole, None, NEVER, between_pixels=10**6)
    _, dense = reader.open(path, Sampling(frames=7, window_s=181.0), None, NEVER)
    assert (frames.rgb == dense.rgb[::2]).all() and (frames.between == dense.rgb[1::2]).all()


def test_a_relative_path_and_another_working_directory(reader, tmp_path, monkeypatch):
    make_clip(tmp_path / "a.mp4")
    monkeypatch.chdir(tmp_path)
    assert reader.open("a.mp4", Sampling(), None, NEVER)[0].path == "a.mp4"


def test_a_window_outside_the_clip_is_an_input_error(reader, tmp_path):
    with pytest.raises(InputError, match=r"starts at 9 s, but “a\.mp4” is only 2.0 s long"):
        reader.open(str(make_clip(tmp_path / "a.mp4")), Sampling(), Window(9.0, 10.0), NEVER)


def test_several_threads_at_once_get_each_their_own_frames(reader, tmp_path):
    paths = [make_clip(tmp_path / f"{count}.mp4", count) for count in (20, 30, 40, 50, 60, 70)]
    with ThreadPoolExecutor(6) as threads:
        opened = list(threads.map(lambda path: reader.open(str(path), Sampling(frames=2), None, NEVER), paths))
    assert [read_number(frames.rgb[1]) for _, frames in opened] == [19, 29, 39, 49, 59, 69]


def test_a_slow_clip_costs_one_sentence_and_the_next_one_works(heavy, tmp_path):
    reader = VideoReader(timeout_s=0.05, workers=1)
    try:
        reader.warm()
        with pytest.raises(ClipError, match=r"took longer than 0\.05 s to decode"):
            reader.open(str(heavy), Sampling(), None, NEVER)
        reader._timeout_s = 30.0
        assert len(reader.open(str(make_clip(tmp_path / "a.mp4")), Sampling(), None, NEVER)[1]) == 16
    finally:
        reader.close()


def test_cancelling_stops_at_once_and_kills_the_worker(heavy):
    reader = VideoReader(workers=1)
    cancelled = threading.Event()
    try:
        with reader._pool.borrow(NEVER) as worker:
            pid = worker.pid
        threading.Timer(0.1, cancelled.set).start()
        started = time.monotonic()
        with pytest.raises(Cancelled):
            reader.open(str(heavy), Sampling(frames=700), None, cancelled)
        assert time.monotonic() - started < 5
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    finally:
        reader.close()


def test_waiting_for_a_free_worker_can_be_cancelled(tmp_path):
    reader = VideoReader(workers=1)
    cancelled = threading.Event()
    cancelled_soon = threading.Timer(0.2, cancelled.set)
    try:
        with reader._pool.borrow(NEVER):
            cancelled_soon.start()
            with pytest.raises(Cancelled):
                reader.open(str(make_clip(tmp_path / "a.mp4")), Sampling(), None, cancelled)
    finally:
        reader.close()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_worker_that_dies_costs_one_sentence(heavy):
    worker = Worker(2048)
    worker.wait_ready(NEVER)
    job = {"op": "sample", "path": str(heavy), "name": "heavy.mp4", "timeout_s": 30, "limits": {}, "window": None}
    job["sampling"] = {"frames": 400, "window_s": 60.0, "max_frame_pixels": 10**6}
    job["between_pixels"] = 0
    messages = worker.run(job, NEVER)
    next(messages)
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(ClipError, match=r"The decoder broke down over “heavy\.mp4”"):
        list(messages)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux enforces a limit of address space")
def test_a_clip_that_needs_too_much_memory_is_refused(tmp_path):
    idle = Worker(2048)
    idle.wait_ready(NEVER)
    status = Path(f"/proc/{idle.pid}/status").read_text()
    idle.close()
    size_mb = int(re.search(r"VmSize:\s+(\d+) kB", status)[1]) // 1024
    path = make_clip(
        tmp_path / "a.avi", 2, width=4096, height=4096, fps=2, codec="mjpeg", pix_fmt="yuvj420p", paint=flat
    )
    reader = VideoReader(memory_mb=size_mb + 60)
    with pytest.raises(ClipError, match="needs more memory to decode"):
        reader.open(str(path), Sampling(frames=2, max_frame_pixels=36_000_000), None, NEVER)
    reader.close()


def flat(number: int, width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), 120, np.uint8)


def test_a_worker_that_cannot_start_is_no_fault_of_the_clip(tmp_path, monkeypatch):
    monkeypatch.setattr("services.video_link.START", "raise SystemExit('no decoder here')")
    reader = VideoReader()
    with pytest.raises(ResourceError, match="no decoder here"):
        reader.open(str(make_clip(tmp_path / "a.mp4")), Sampling(), None, NEVER)
    reader.close()


def test_a_closed_service_ends_its_workers(tmp_path):
    reader = VideoReader()
    reader.open(str(make_clip(tmp_path / "a.mp4")), Sampling(), None, NEVER)
    (worker,) = reader._pool._idle
    reader.close()
    assert worker._process.poll() is not None
    with pytest.raises(ResourceError, match="closed"):
        reader.open(str(tmp_path / "a.mp4"), Sampling(), None, NEVER)


def test_the_worker_stays_light_and_the_main_script_runs_once(tmp_path):
    """As Streamlit does, the reader lives in a script that is __main__ and has no guard."""
    clip = make_clip(tmp_path / "a.mp4")
    script = tmp_path / "app_script.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys, threading
        sys.path.insert(0, {str(ROOT)!r})
        print("main ran")
        from services.schema import Sampling
        from services.video import VideoReader
        reader = VideoReader()
        reader.open({str(clip)!r}, Sampling(), None, threading.Event())
        assert not any(name == "av" or name.startswith(("torch", "av.")) for name in sys.modules)
        reader.close()
        """)
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.split("\n")[0], done.stdout.count("main ran")) == (0, "main ran", 1), (
        done.stderr
    )
    light = "import sys, services.video_worker; print({'torch', 'cv2', 'PIL', 'transformers'} & set(sys.modules))"
    seen = subprocess.run([sys.executable, "-c", light], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert seen.stdout.strip() == "set()", seen.stderr


def test_digest_of_a_missing_file_is_a_clip_error(tmp_path):
    with pytest.raises(ClipError):
        file_digest(str(tmp_path / "none.mp4"))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("hevc.mp4", {"codec": "libx265"}),
        ("a.avi", {}),
        ("a.gif", {"codec": "gif", "pix_fmt": "rgb8"}),
        ("varying.mkv", {"pts": [40 * i + 60 * (i // 2) for i in range(50)], "time_base": Fraction(1, 1000)}),
    ],
)
def test_a_proxy_shows_the_same_frames_at_the_same_times(reader, tmp_path, name, options):
    path = make_clip(tmp_path / name, 50, width=320, height=192, **options)
    clip, frames = reader.open(str(path), Sampling(), None, NEVER)
    assert not plays_in_browser(clip) or name == "a.mp4"
    span = display_proxy(str(path), clip, str(tmp_path / "proxy.mp4"))
    shown, again = reader.open(str(tmp_path / "proxy.mp4"), Sampling(), None, NEVER)
    assert span == Window(0.0, clip.duration_s) and plays_in_browser(shown)
    assert shown.duration_s == pytest.approx(clip.duration_s, abs=0.002)
    assert np.allclose(again.pts_s, frames.pts_s, atol=0.001)
    assert [read_number(picture) for picture in again.rgb] == [read_number(picture) for picture in frames.rgb]
    raw = (tmp_path / "proxy.mp4").read_bytes()
    assert raw.find(b"moov") < raw.find(b"mdat")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, "proxy.mp4"])


def test_a_proxy_of_a_rotated_clip_stands_upright_and_is_at_most_1280_wide(reader, tmp_path):
    path = make_rotated(tmp_path / "a.mp4", 90, frames=20, width=960, height=1600)
    clip, _ = reader.open(str(path), Sampling(frames=2), None, NEVER)
    assert (clip.width, clip.height) == (1600, 960)
    display_proxy(str(path), clip, str(tmp_path / "proxy.mp4"))
    shown, frames = reader.open(str(tmp_path / "proxy.mp4"), Sampling(frames=2), None, NEVER)
    assert (shown.width, shown.height) == (1280, 768)
    assert [read_number(picture) for picture in frames.rgb] == [0, 19]


def test_a_cancelled_proxy_leaves_nothing_behind(reader, heavy, tmp_path):
    clip, _ = reader.open(str(heavy), Sampling(frames=2), None, NEVER)
    cancelled = threading.Event()
    threading.Timer(0.5, cancelled.set).start()
    with pytest.raises(Cancelled):
        display_proxy(str(heavy), clip, str(tmp_path / "proxy.mp4"), cancelled=cancelled)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "options", "plays"),
    [
        ("a.mp4", {}, True),
        ("a.webm", {"codec": "libvpx"}, True),
        ("ten-bit.mp4", {"pix_fmt": "yuv420p10le"}, False),
        ("a.mkv", {}, False),
        ("mpeg4.mp4", {"codec": "mpeg4"}, False),
    ],
)
def test_what_browsers_play(reader, tmp_path, name, options, plays):
    clip, _ = reader.open(str(make_clip(tmp_path / name, **options)), Sampling(frames=2), None, NEVER)
    assert plays_in_browser(clip) is plays


def test_a_thumbnail_is_the_middle_frame_224_wide():
    rgb = np.zeros((3, 90, 160, 3), np.uint8)
    rgb[1] = (200, 30, 30)
    picture = Image.open(io.BytesIO(thumbnail(Frames(rgb, np.arange(3.0)))))
    assert (picture.format, picture.size) == ("JPEG", (224, 126))
    assert np.abs(np.asarray(picture).reshape(-1, 3).mean(0) - (200, 30, 30)).max() < 4
