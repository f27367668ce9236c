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


def test_annotations_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text(json.dumps({"no": "list"}))
    with pytest.raises(AnnotationError):
        annotated(tmp_path / "notes.json")
