"""The published results, computed from the answers, are the figures that were published."""

from __future__ import annotations

import shutil

import pytest

from evaluation.baseline import FOLDER, baseline
from evaluation.data import read_labels
from services.errors import InputError


@pytest.fixture(scope="module")
def published():
    return baseline()


def test_accuracies_are_the_published_ones(published):
    vlm, rag = published.scores["VLM only"], published.scores["with retrieval"]
    assert (round(vlm.accuracy.value, 3), vlm.accuracy.n) == (0.821, 84)
    assert (round(rag.accuracy.value, 3), rag.accuracy.n) == (0.907, 86)
    assert round(published.neighbour_alone.value, 3) == 0.651


def test_every_error_with_retrieval_follows_a_wrong_neighbour(published):
    assert (published.pull.errors, published.pull.errors_with) == (8, 8)
    assert (published.pull.resisted.hits, published.pull.wrong) == (22, 30)


def test_mcnemar_is_computed_on_the_clips_that_both_arms_saw(published):
    assert published.paired.n == 84
    assert round(published.paired.p, 2) == 0.14


def test_wilson_interval_against_the_closed_formula(published):
    hits, n, z = 69, 84, 1.959963984540054
    centre = (hits / n + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * ((hits / n) * (1 - hits / n) / n + z * z / (4 * n * n)) ** 0.5
    measured = published.scores["VLM only"].accuracy
    assert (measured.low, measured.high) == (pytest.approx(centre - half), pytest.approx(centre + half))


def test_an_answer_without_status_is_not_right(published):
    assert published.confusion["VLM only"].mounting_open == 1
    assert published.confusion["VLM only"].answered == 83


def test_labels_are_balanced_and_name_every_retrieved_clip(published):
    labels = list(read_labels(FOLDER / "labels.tsv").values())
    assert (labels.count("mounting"), labels.count("normal")) == (166, 166)


def test_a_missing_label_is_one_sentence(tmp_path):
    folder = tmp_path / "published"
    shutil.copytree(FOLDER, folder)
    (folder / "labels.tsv").write_text("crop001.mp4\tYES\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"Normal063\.mp4 has no label"):
        baseline(folder)
