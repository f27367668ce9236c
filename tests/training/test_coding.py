"""Drawn pictures as H.264: when they are shown, and that a browser can begin before the file is all there."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from training.demo.coding import FPS, coded, decoded, write_mp4


@pytest.fixture
def frames() -> NDArray[np.uint8]:
    """(5, 48, 80, 3), each brighter than the one before."""
    return np.stack([np.full((48, 80, 3), 40 + 35 * number, np.uint8) for number in range(5)])


def _times(file: io.BytesIO | str) -> list[float]:
    with av.open(file) as container:
        return [float(frame.time or 0.0) for frame in container.decode(video=0)]


def test_pictures_come_back_in_order_and_nearly_as_they_were(frames: NDArray[np.uint8]) -> None:
    again = decoded(coded(frames, crf=18, preset="veryfast"))
    assert again.shape == frames.shape and again.dtype == np.uint8
    assert np.abs(again.astype(int) - frames).max() <= 6


def test_they_stand_at_the_times_given_or_at_the_usual_rate(frames: NDArray[np.uint8]) -> None:
    times = np.array([0.0, 0.04, 0.5, 0.501, 2.25])
    assert _times(io.BytesIO(coded(frames, crf=24, preset="veryfast", times_s=times))) == pytest.approx(times, abs=1e-3)
    usual = _times(io.BytesIO(coded(frames, crf=24, preset="veryfast")))
    assert usual == pytest.approx(np.arange(5) / FPS, abs=1e-3)


def test_as_many_times_as_pictures(frames: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="longer"):
        coded(frames, crf=24, preset="veryfast", times_s=np.arange(4) / 4)


def test_a_file_begins_with_its_index(frames: NDArray[np.uint8], tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_mp4(path, iter(frames), crf=24, preset="veryfast")
    data = path.read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")
    assert _times(str(path)) == pytest.approx(np.arange(5) / FPS, abs=1e-3)
