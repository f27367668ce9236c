"""The command line: what is printed, and one plain sentence with status 2 for every wrong call."""

from __future__ import annotations

import json

import pytest

from agent.__main__ import main
from evaluation.__main__ import app
from evaluation.records import read_result, write_result
from tests.evaluation.made_results import made_result


@pytest.fixture(autouse=True)
def own_data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HERDLENS_DATA", str(tmp_path / "data"))


@pytest.fixture
def call(capsys):
    def called(*arguments):
        status = main(lambda **options: app([str(a) for a in arguments], **options))
        said = capsys.readouterr()
        return status, said.out, said.err

    return called


@pytest.fixture
def annotated(tmp_path):
    """Annotations of a clip that is not there."""
    from services.annotations import entry_for

    path = tmp_path / "annotations.json"
    path.write_text(json.dumps([entry_for("./gone.mp4", "normal", "nothing")]), encoding="utf-8")
    return path


def test_published_prints_the_row(call):
    status, out, err = call("published")
    assert status == 0 and err == ""
    assert "| VLM only | 84 | .821 [" in out and "p = 0.14" in out


def test_judge_prints_and_writes_what_report_reads(call, tmp_path):
    source = tmp_path / "result.json"
    source.write_text(json.dumps([{"video": "a.mp4", "output": "x</think>Status: Mounting"}]), encoding="utf-8")
    status, out, _ = call("judge", source, "--truth", "mounting", "--out", tmp_path / "judged.json")
    assert status == 0 and "| result | 1 | 1.000" in out
    assert read_result(tmp_path / "judged.json").clips[0].variants[0].reasoning == "x"


def test_leak_prints_one_sentence_for_each_variant(call, tmp_path):
    paths = [tmp_path / f"{name}.json" for name in ("off", "default", "swapped")]
    write_result(paths[0], made_result(20, retrieval="off"))
    write_result(paths[1], made_result(20))
    write_result(paths[2], made_result(20, swap_labels=True))
    status, out, _ = call("leak", *paths)
    assert status == 0 and out.startswith("tuned: ") and "turn into the opposite" in out
    status, _, err = call("leak", paths[1], paths[0], paths[2])
    assert status == 2 and err.count("\n") == 1 and "--retrieval off" in err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--mode", "vlm", "--retrieval", "nearest"), "without retrieval"),
        (("--mode", "rag", "--retrieval", "off"), "needs references"),
        (("--mode", "knn", "--retrieval", "off"), "needs references"),
        (("--mode", "knn", "--context", "wrong"), "asks no model"),
        (("--mode", "vlm", "--swap-labels"), "retrieval other than off"),
        (("--mode", "text", "--frames", "one"), "shows none"),
        (("--mode", "rag", "--limit", "0"), "at least 1"),
        (("--mode", "guess"), "'guess' is not one of"),
        (("--mode", "rag", "--profile", "barn"), "There is no profile 'barn'"),
        (("--mode", "rag", "--profile", "cpu", "--scored-only"), "scores behind it"),
    ],
)
def test_contradictions_are_told_before_anything_loads(call, annotated, tmp_path, options, says):
    status, out, err = call("run", "--data", annotated, "--out", tmp_path / "r.json", *options)
    assert (status, out) == (2, "")
    assert says in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--data", "absent.json", "--mode", "vlm", "--out", "r.json"),
        ("report", "absent.json", "--out", "r"),
        ("judge", "absent.json", "--truth", "mounting"),
        ("judge", "absent.json", "--truth", "maybe"),
        ("demo", "--clips", "3"),
        ("demo", "--quick", "--write", "absent.md"),
        ("demo", "--clips", "2", "--out", "/proc/none"),
        ("calibration", "--clips", "0"),
        ("retrieval", "--data", "README.md", "--out", "r"),
        ("calibration", "--write", "absent.md"),
        ("run",),
    ],
)
def test_wrong_calls_are_one_sentence(call, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    status, out, err = call(*arguments)
    assert (status, out) == (2, "") and err.strip() and err.count("\n") == 1
