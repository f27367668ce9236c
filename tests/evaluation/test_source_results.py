"""The source's own result files, judged by our rules."""

from __future__ import annotations

import json

import pytest

from evaluation.source_results import read_source, source_result, split_thoughts
from evaluation.summary import run_lines
from services.errors import InputError

LABELS = {"crop001.mp4": "mounting", "Normal001.mp4": "normal"}


def written(path, entries):
    path.write_text(json.dumps(entries), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("output", "thoughts", "answer"),
    [
        ("Status: Normal", "", "Status: Normal"),
        ("Status: Normal?\n</think>\nStatus: Mounting", "Status: Normal?", "Status: Mounting"),
        ("<think>a</think>b</think> c", "a</think>b", "c"),
        ("<think>It may be. Status: Mounting", "It may be. Status: Mounting", ""),
        ("", "", ""),
    ],
)
def test_thoughts_are_cut_off(output, thoughts, answer):
    assert split_thoughts(output) == (thoughts, answer)


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("Normal at first sight. Status: Mounting", "unparsed"),
        ("It looks Normal.\nStatus: Mounting", "mounting"),
        ("Status: Mounting\nOn reflection:\n**Status: Normal**", "normal"),
        ("<think>Status: Mounting", "unparsed"),
        ("The cow is Normal.", "unparsed"),
        ("Status: Mounting\nStatus: unsure", "unparsed"),
    ],
)
def test_only_the_last_status_line_counts(tmp_path, output, said):
    path = written(tmp_path / "result.json", [{"video": "a.mp4", "output": output}])
    assert read_source(path, "mounting", LABELS)[0].variants[0].text_verdict == said


def test_the_neighbours_label_is_looked_up_and_of_two_answers_the_last_counts(tmp_path):
    entries = [
        {"video": "val/a.mp4", "output": "Status: Normal", "retrieved_video": "./datasets/videos/crop001.mp4"},
        {"video": "val/a.mp4", "output": "Status: Mounting", "retrieved_video": "Normal001.mp4"},
    ]
    (record,) = read_source(written(tmp_path / "r.json", entries), "mounting", LABELS)
    assert (record.video, record.variants[0].text_verdict) == ("a.mp4", "mounting")
    assert [(case.id, case.label) for case in record.shown] == [("Normal001.mp4", "normal")]


def test_both_sets_make_one_arm(tmp_path):
    mounting = written(tmp_path / "m.json", [{"video": "a.mp4", "output": "Status: Mounting"}])
    normal = written(tmp_path / "n.json", [{"video": "b.mp4", "output": "Status: Mounting"}])
    records = read_source(mounting, "mounting", LABELS) + read_source(normal, "normal", LABELS)
    lines = "\n".join(run_lines(source_result([mounting, normal], records), "arm"))
    assert "| arm | 2 | .500" in lines


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{}", "not a list"),
        ("[]", "empty list"),
        ('[{"video": "a"}]', "output"),
        ("nonsense", "is not JSON"),
        ('[{"video": "a.mp4", "output": "", "retrieved_video": "x.mp4"}]', r"x\.mp4 has no label"),
    ],
)
def test_bad_files_are_one_sentence(tmp_path, content, says):
    path = tmp_path / "r.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=says):
        read_source(path, "mounting", LABELS)


def test_a_clip_in_both_sets_is_refused(tmp_path):
    path = written(tmp_path / "m.json", [{"video": "a.mp4", "output": "Status: Mounting"}])
    records = read_source(path, "mounting", LABELS) + read_source(path, "normal", LABELS)
    with pytest.raises(InputError, match=r"a\.mp4 is in the mounting and in the normal set"):
        source_result([path, path], records)
