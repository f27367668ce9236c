"""Practice clips: drawn by the real renderer in a process of its own, and counted once a batch is whole."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from services import processes
from services.errors import InputError
from services.practice import PracticeClips
from services.training_set import counts


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.practice.CLIPS", 2)


def ended(practice: PracticeClips) -> None:
    deadline = time.monotonic() + 200
    while (drawing := practice.drawing()) is not None and not drawing.message:
        assert time.monotonic() < deadline, "the drawing did not end"
        time.sleep(0.1)


def test_a_batch_counts_once_it_is_whole(tmp_path: Path) -> None:
    practice = PracticeClips(tmp_path / "practice")
    assert practice.clips() == [] and practice.drawing() is None
    practice.draw()
    drawing = practice.drawing()
    assert drawing is not None and drawing.total == 2 and not drawing.message
    assert practice.clips() == []
    with pytest.raises(InputError, match="already"):
        practice.draw()
    ended(practice)
    clips = practice.clips()
    assert practice.drawing() is None and counts(clips) == {"mounting": 1, "normal": 1}
    assert all(clip.source == "practice" and clip.reason and clip.path.is_file() for clip in clips)


def test_a_killed_drawing_is_told_and_the_next_one_takes_its_place(tmp_path: Path) -> None:
    practice = PracticeClips(tmp_path / "practice")
    practice.draw()
    (batch,) = practice.folder.glob("batch-*")
    os.kill(int(json.loads((batch / processes.PROCESS).read_text())["pid"]), signal.SIGKILL)
    ended(practice)
    drawing = practice.drawing()
    assert drawing is not None and drawing.message and drawing.done < 3
    practice.draw()
    assert len(list(practice.folder.glob("batch-*"))) == 1
    ended(practice)
    assert len(practice.clips()) == 2
