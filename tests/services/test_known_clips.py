"""What the service knows about clips, and whose word counts."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from services.errors import AnnotationError
from services.known_clips import annotated
from services.model_service import ModelService
from services.settings import Settings, profile


@pytest.fixture
def own(tmp_path: Path) -> Any:
    made = ModelService(Settings(data=tmp_path / "data"), profile("demo"))
    yield made
    made.close()


def test_the_samples_are_known_by_their_annotations(own: Any) -> None:
    labels = own.known_labels()
    clips = own.sample_clips
    assert clips and {clip.sha256: clip.label for clip in clips} == labels
    assert {sample.path for sample in own.samples()} == {clip.path for clip in clips}


def test_the_farmers_reference_goes_before_the_shipped_annotation(own: Any) -> None:
    clip = own.sample_clips[0]
    other = "normal" if clip.label == "mounting" else "mounting"
    reference = own.add_reference(str(clip.path), other, "seen otherwise on this farm")
    assert own.known_labels()[clip.sha256] == other
    assert [(found.sha256, found.label) for found in own.own_clips()] == [(clip.sha256, other)]
    opened = own.open_clip(str(clip.path), None, threading.Event())
    assert reference.metadata["window"] == [opened.window.start_s, opened.window.end_s]


def test_the_models_own_reason_is_no_lesson_but_the_farmers_is(own: Any) -> None:
    """Confirmed without a word, an answer teaches its verdict only, from the library as from the history."""
    first, second, third = own.sample_clips[:3]
    for clip, description in ((first, "It says so."), (second, "I saw her jump."), (third, "")):
        seen = {"sha256": clip.sha256}
        report = {"verdict": clip.label, "p_mounting": 0.5, "reason": "It says so.", "clip": seen, "task": "mounting"}
        id = own.history.add(report, clip_name=clip.path.name, stored_clip=clip.path)
        own.history.set_feedback(id, clip.label)
        if description:
            own.add_reference(str(clip.path), clip.label, description)
    found = {clip.sha256: (clip.source, clip.reason) for clip in own.own_clips()}
    assert found[first.sha256] == ("library", "")
    assert found[second.sha256] == ("library", "I saw her jump.")
    assert found[third.sha256] == ("history", "")


def test_annotations_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text(json.dumps({"no": "list"}))
    with pytest.raises(AnnotationError):
        annotated(tmp_path / "notes.json")
