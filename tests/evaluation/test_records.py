"""Result files and the journal of a run that is killed."""

from __future__ import annotations

import pytest

from evaluation.records import ClipRecord, Journal, ResultFile, RunSettings, read_result, write_result
from services.errors import InputError
from tests.evaluation.made_results import made_result

SETTINGS = RunSettings(mode="rag", data="d.json", data_sha256="0" * 64, variants=("tuned",), retrieval="nearest")


def record(name, error=None):
    return ClipRecord(video=name, truth="normal", error=error)


def result(*records):
    return ResultFile(settings=SETTINGS, digests={"base": "a"}, clips=records)


def test_a_result_is_read_back_as_it_was(tmp_path):
    made = made_result(6)
    write_result(tmp_path / "r.json", made)
    assert read_result(tmp_path / "r.json") == made


def test_a_killed_run_goes_on_behind_its_last_whole_line(tmp_path):
    out = tmp_path / "r.json"
    first = Journal(out, SETTINGS, {"base": "a"})
    first.add(record("a.mp4"))
    first.add(record("b.mp4"))
    first.close()
    whole = first.path.read_bytes()
    first.path.write_bytes(whole[:-7])
    second = Journal(out, SETTINGS, {"base": "a"})
    assert list(second.done) == ["a.mp4"]
    second.add(record("b.mp4"))
    second.close()
    assert first.path.read_bytes() == whole
    assert not out.exists()


def test_a_clip_that_failed_is_tried_again(tmp_path):
    journal = Journal(tmp_path / "r.json", SETTINGS, {})
    journal.add(record("a.mp4", "unreadable"))
    journal.close()
    assert Journal(tmp_path / "r.json", SETTINGS, {}).done == {}


def test_finishing_leaves_the_result_alone_and_a_longer_run_starts_from_it(tmp_path):
    out = tmp_path / "r.json"
    journal = Journal(out, SETTINGS, {"base": "a"})
    journal.add(record("a.mp4"))
    journal.finish(result(record("a.mp4")))
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]
    longer = SETTINGS.model_copy(update={"limit": 9})
    assert list(Journal(out, longer, {"base": "a"}).done) == ["a.mp4"]


@pytest.mark.parametrize("digests", [{"base": "other"}, {}])
def test_other_models_are_refused_unless_told_to_replace(tmp_path, digests):
    out = tmp_path / "r.json"
    write_result(out, result(record("a.mp4")))
    with pytest.raises(InputError, match="other settings or models"):
        Journal(out, SETTINGS, digests)
    assert Journal(out, SETTINGS, digests, replace=True).done == {}


def test_a_half_done_run_with_other_settings_is_refused(tmp_path):
    out = tmp_path / "r.json"
    Journal(out, SETTINGS, {}).close()
    with pytest.raises(InputError, match="half-done run"):
        Journal(out, SETTINGS.model_copy(update={"seed": 1}), {})


@pytest.mark.parametrize("text", ["", "[]", '{"format": 2}', '{"format": 1, "settings": {}, "clips": []}'])
def test_other_json_is_no_result(tmp_path, text):
    path = tmp_path / "r.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="is not a result of"):
        read_result(path)
