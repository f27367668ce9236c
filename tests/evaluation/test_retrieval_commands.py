"""``python -m evaluation retrieval``: right calls print tables, wrong ones one sentence."""

from __future__ import annotations

import pytest

from agent.__main__ import main
from evaluation.__main__ import app
from services.settings import ROOT

SAMPLES = ROOT / "assets" / "demo" / "samples"


@pytest.fixture
def call(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("HERDLENS_DATA", str(tmp_path / "data"))

    def called(*arguments):
        status = main(lambda **options: app(["retrieval", *map(str, arguments)], **options))
        said = capsys.readouterr()
        return status, said.out, said.err

    return called


def test_without_a_command_it_measures(call, tmp_path):
    status, out, _ = call(
        "--data", SAMPLES, "--out", tmp_path, "--grade", 1, "--frames", 2, "--pixels", 8192, "--queries", "image,text",
        "--reranker", "assets/demo/base", "--top", 2,
    )  # fmt: skip
    assert status == 0
    assert out.startswith("4 records (text+image), 192 numbers, last token, L2; relevant from grade 1 on")
    for form in ("image", "text"):
        assert out.count(f"| {form} | no | 2 |") == 3 and out.count(f"| {form} | first 2 | 2 |") == 3
    assert "Warning: The records are text+image, the query is image" in out
    assert (tmp_path / "retrieval.json").is_file()


def test_mean_pooling_and_fewer_numbers_are_said(call, tmp_path):
    status, out, _ = call(
        "measure", "--data", SAMPLES, "--out", tmp_path, "--grade", 1, "--records", "text", "--queries", "text",
        "--pooling", "mean", "--dimension", 32,
    )  # fmt: skip
    assert status == 0 and out.startswith("4 records (text), 32 numbers, mean over the mask, L2;")
    assert "Warning" not in out


def test_help_says_that_measuring_is_the_default(call):
    status, out, _ = call("--help")
    assert status == 0 and "Without a command: measure." in out and "--data" not in out


DATA = ("--data", SAMPLES, "--out", "out")


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("--data", "absent.json", "--out", "out"), 2, "absent.json cannot be read"),
        (("measure", "--data", SAMPLES), 2, "Missing option '--out'"),
        ((*DATA, "--records", "text+sound"), 2, "'text+sound' is not made of text, image and video"),
        ((*DATA, "--queries", "text,,image"), 2, "'' is not made of"),
        ((*DATA, "--queries", "image+image"), 2, "'image+image' is not made of"),
        ((*DATA, "--embedder", "nobody/nothing"), 3, "hf download nobody/nothing"),
        ((*DATA, "--reranker", "nobody/nothing"), 3, "hf download nobody/nothing"),
        ((*DATA, "--grade", "5"), 2, "--grade"),
        ((*DATA, "--dtype", "int4"), 2, "'int4' is not one of"),
        (("clips", "--limit", "13"), 2, "--limit must be an even number"),
        (("clips", "--data", SAMPLES), 2, "at least 12 labelled clips"),
        (("clips", "--data", SAMPLES, "--write", "absent.md"), 2, "absent.md cannot be read"),
        (("clips", "--profile", "barn"), 2, "There is no profile 'barn'"),
        (("bench", "--records", "10"), 2, "--records"),
        (("guess",), 2, "No such command 'guess'"),
    ],
)
def test_wrong_calls_are_one_sentence(call, tmp_path, monkeypatch, arguments, status, says):
    monkeypatch.chdir(tmp_path)
    found, out, err = call(*arguments)
    assert (found, out) == (status, "")
    assert says in err and err.count("\n") == 1
