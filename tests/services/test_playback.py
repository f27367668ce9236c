"""Which file a browser is given, and what is cut for training."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from services.playback import Playback
from services.schema import Window
from services.training_set import TrainingClip
from services.video import file_digest, plays_in_browser
from tests.media import make_clip


@pytest.fixture
def playback(service: Any, tmp_path: Path) -> Playback:
    return Playback(service.reader, service.profile, tmp_path / "proxies")


def test_a_clip_that_browsers_play_is_shown_itself(playback: Playback, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "plain.mp4")
    assert playback.playable(str(path), None) == (path, 0.0)
    assert not (tmp_path / "proxies").exists()


def test_the_proxy_of_a_clip_is_made_once(playback: Playback, tmp_path: Path, service: Any) -> None:
    path = make_clip(tmp_path / "old.avi", codec="mpeg4")
    proxy, begins = playback.playable(str(path), None)
    written = proxy.stat().st_mtime_ns
    assert (proxy.name, begins) == (f"{file_digest(str(path))}.mp4", 0.0)
    assert plays_in_browser(service.open_clip(str(proxy), None, threading.Event()))
    assert playback.playable(str(path), None)[0].stat().st_mtime_ns == written


def test_a_label_of_a_whole_clip_needs_no_cut(playback: Playback, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "plain.mp4")
    clip = TrainingClip(path, file_digest(str(path)), "normal", "", "history")
    assert not playback.cut(clip, tmp_path / "cut.mp4")
    assert not (tmp_path / "cut.mp4").exists()


def test_of_a_long_recording_only_the_labelled_span_is_written(
    playback: Playback, tmp_path: Path, service: Any
) -> None:
    path = make_clip(tmp_path / "long.mp4", frames=150, fps=2)
    clip = TrainingClip(path, file_digest(str(path)), "normal", "", "history", Window(10.0, 20.0))
    assert playback.cut(clip, tmp_path / "cut.mp4")
    assert service.open_clip(str(tmp_path / "cut.mp4"), None, threading.Event()).duration_s == pytest.approx(
        10.0, abs=1.0
    )
