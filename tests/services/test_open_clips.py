"""Clips that stay decoded while they are asked about."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from services.errors import Cancelled
from services.open_clips import CLIPS_KEPT, OpenClips
from tests.media import make_clip


@pytest.fixture
def clips(service: Any) -> OpenClips:
    return OpenClips(service.reader, service)


def opened(clips: OpenClips, path: Path) -> Any:
    return clips.open(str(path), None, threading.Event(), "mounting")


def test_an_open_clip_is_not_decoded_again(clips: OpenClips, tmp_path: Path) -> None:
    kept = opened(clips, make_clip(tmp_path / "one.mp4"))
    (tmp_path / "one.mp4").unlink()
    assert clips.of(kept.clip) is kept


def test_only_the_last_few_are_kept_and_one_let_go_is_decoded_to_the_same_frames(
    clips: OpenClips, tmp_path: Path
) -> None:
    made = [opened(clips, make_clip(tmp_path / f"{n}.mp4", frames=30 + n)) for n in range(CLIPS_KEPT + 1)]
    assert clips.of(made[-1].clip) is made[-1]
    again = clips.of(made[0].clip)
    assert again is not made[0]
    assert np.array_equal(again.frames.rgb, made[0].frames.rgb)


def test_an_embedding_is_computed_once_per_open_clip(clips: OpenClips, tmp_path: Path) -> None:
    clip = opened(clips, make_clip(tmp_path / "one.mp4")).clip
    first = clips.embedding(clip)
    assert clips.embedding(clip) is first
    assert np.linalg.norm(first) == pytest.approx(1.0, abs=1e-5)


def test_a_clip_that_was_opened_for_its_picture_quality_has_the_same_embedding(
    clips: OpenClips, tmp_path: Path
) -> None:
    path = make_clip(tmp_path / "one.mp4")
    kept = clips.open(str(path), None, threading.Event(), "quality")
    assert kept.frames.between is None
    found = clips.embedding(kept.clip)
    clips.clear()
    assert np.array_equal(found, clips.embedding(opened(clips, path).clip))


def test_the_pictures_shown_are_those_the_model_saw(clips: OpenClips, tmp_path: Path) -> None:
    kept = opened(clips, make_clip(tmp_path / "one.mp4"))
    shown = [np.asarray(Image.open(io.BytesIO(data))) for data in clips.frame_jpegs(kept.clip)]
    assert [picture.shape for picture in shown] == [picture.shape for picture in kept.resized]
    assert max(np.abs(a.astype(int) - b).mean() for a, b in zip(shown, kept.resized, strict=True)) < 8


def test_a_single_picture_is_opened_for_the_quality_task_and_again_after_it_was_let_go(
    clips: OpenClips, tmp_path: Path
) -> None:
    Image.effect_noise((640, 360), 60).convert("RGB").save(tmp_path / "lens.png")
    kept = clips.open(str(tmp_path / "lens.png"), None, threading.Event(), "quality")
    clips.clear()
    assert np.array_equal(clips.of(kept.clip).frames.rgb, kept.frames.rgb)
    assert len(clips.view_jpegs(kept.clip)) == 3


def test_a_cancelled_opening_keeps_nothing(clips: OpenClips, tmp_path: Path) -> None:
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(Cancelled):
        clips.open(str(make_clip(tmp_path / "one.mp4")), None, cancelled, "mounting")
