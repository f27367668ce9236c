"""Graded files: what is read, and one sentence for what is wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from evaluation.graded import EVERY, Media, Source, grade, read_graded
from services.annotations import read as read_annotations
from services.errors import HerdLensError, InputError
from services.schema import Sampling
from services.settings import ROOT

SAMPLES = ROOT / "assets" / "demo" / "samples" / "annotations.json"


@pytest.fixture
def written(tmp_path):
    """Writes a graded file beside a picture of 40 × 24 px, red on the left."""
    picture = np.zeros((24, 40, 3), np.uint8)
    picture[:, :20] = (255, 0, 0)
    Image.fromarray(picture).save(tmp_path / "red.png")

    def write(records, queries):
        path = tmp_path / "graded.json"
        path.write_text(json.dumps({"records": records, "queries": queries}), encoding="utf-8")
        return path

    return write


def test_records_and_queries_keep_their_parts_and_grades(written):
    found = read_graded(
        written(
            [{"id": "a", "text": "one", "image": "red.png"}, {"id": "b", "text": "two"}],
            [{"id": "q", "image": "red.png", "grades": {"a": 4}}],
        )
    )
    assert [record.id for record in found.records] == ["a", "b"] and found.queries[0].grades == {"a": 4}
    both, text_only, picture_only = *found.records, found.queries[0]
    assert both.has(("text", "image")) and not both.has(("video",))
    assert text_only.has(("text",)) and not text_only.has(("text", "image"))
    assert picture_only.has(("image",)) and not picture_only.has(("text",))


GOOD, QUERY = {"id": "a", "text": "one"}, {"id": "q", "text": "?", "grades": {"a": 3}}


@pytest.mark.parametrize(
    ("records", "queries", "says"),
    [
        ([], [QUERY], "records: List should have at least 1 item"),
        ([GOOD], [], "queries: List should have at least 1 item"),
        ([GOOD], [{"id": "q", "text": "?"}], r"queries\.0\.grades: Field required"),
        ([{**GOOD, "picture": "red.png"}], [QUERY], r"records\.0\.picture: Extra inputs"),
        ([GOOD, GOOD], [QUERY], "two records the same id"),
        ([GOOD], [{**QUERY, "grades": {"z": 3}}], "grades 'z', which is no record"),
        ([GOOD], [{**QUERY, "grades": {"a": 5}}], "outside 0 to 4"),
        ([{"id": "a"}], [QUERY], "neither text nor image nor video"),
        ([{"id": "a", "image": "gone.png"}], [QUERY], r"gone\.png, which is not there"),
        ([{"id": "a", "image": "../red.png"}], [QUERY], "outside of its file's folder"),
    ],
)
def test_each_mistake_is_named_in_one_sentence(written, records, queries, says):
    with pytest.raises(InputError, match=says) as caught:
        read_graded(written(records, queries))
    assert "\n" not in str(caught.value)


def test_clips_become_queries_and_records_that_share_label_kind_direction_and_light():
    """The six samples: every third is a query."""
    found = read_graded(SAMPLES.parent)
    assert len(found.queries) == 2 and len(found.records) == 6 - 6 // EVERY
    behind = found.queries[0]
    assert behind.id == "mounting_from_behind.mp4" and behind.text.startswith("There are two cows")
    # The same kind from the side: label and kind; from behind at night: the direction too; normal clips: nothing.
    assert behind.grades == {
        "mounting_from_the_side.mp4": 2, "normal_front_feet_on_a_step.mp4": 0,
        "mounting_at_night.mp4": 3, "normal_standing_close_at_night.mp4": 0,
    }  # fmt: skip
    entry = read_annotations(SAMPLES)[0]
    assert grade(entry, entry) == 4


def test_too_few_clips_are_refused(tmp_path):
    path = tmp_path / "three.json"
    path.write_text(json.dumps(json.loads(SAMPLES.read_text(encoding="utf-8"))[:3]), encoding="utf-8")
    for entry in json.loads(path.read_text(encoding="utf-8")):
        (tmp_path / entry["video"]).symlink_to(SAMPLES.parent / entry["video"])
    with pytest.raises(HerdLensError, match=r"three\.json"):
        read_graded(path)


def test_media_are_read_as_rgb_and_a_video_lends_its_middle_frame(written, tmp_path):
    written([], [])
    media = Media(Sampling(frames=4))
    try:
        picture = media.content(Source("a", "one", tmp_path / "red.png"), ("text", "image"))
        assert picture.text == "one" and picture.image is not None
        assert picture.image[0, 0].tolist() == [255, 0, 0] and picture.image.shape == (24, 40, 3)
        clip = Source("v", "two", None, SAMPLES.parent / "mounting_at_night.mp4")
        seen = media.content(clip, ("image", "video"))
        assert seen.text == "" and seen.video is not None and seen.image is not None
        assert (seen.image == seen.video.rgb[2]).all()
        assert media.content(clip, ("text",)).modality == "text"
    finally:
        media.close()


def test_what_is_no_picture_is_one_sentence(tmp_path):
    (tmp_path / "a.png").write_bytes(b"not a picture")
    media = Media(Sampling(frames=4))
    try:
        with pytest.raises(InputError, match=r"a\.png is no picture"):
            media.content(Source("a", "", tmp_path / "a.png"), ("image",))
    finally:
        media.close()
