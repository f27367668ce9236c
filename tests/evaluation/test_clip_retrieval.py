"""Retrieval between clips against brute force, on made vectors of known neighbours."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from evaluation.clip_retrieval import FUSIONS, as_served, by_chance, joined, similarity, worth, worths
from evaluation.clip_tables import lines
from evaluation.clip_vectors import MOVING, WHOLE, ClipVectors
from evaluation.data import Item
from services.errors import InputError

N, D = 24, 48
RNG = np.random.default_rng(5)


def items(count=N):
    """Every other one mounting; four kinds, two lights."""
    return [
        Item(
            f"c{i:02}.mp4", Path(f"c{i:02}.mp4"), "mounting" if i % 2 else "normal",
            {"kind": f"kind {i % 4}", "light": "day" if i % 3 else "night", "viewpoint": "side"},
        )
        for i in range(count)
    ]  # fmt: skip


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def drawn(towards_label, windows=1):
    """(N, W, D): noise plus a direction of the label."""
    sign = np.where(np.arange(N) % 2, 1.0, -1.0)[:, None, None]
    shared = np.zeros(D)
    shared[0] = towards_label
    return unit(RNG.standard_normal((N, windows, D)) + sign * shared)


@pytest.fixture(scope="module")
def made():
    ways = {WHOLE: drawn(0.0), MOVING: drawn(20.0), "windows": drawn(6.0, windows=3), "tower, mean": drawn(2.0),
            "VLM, mean": drawn(1.0), "text": drawn(0.5)}  # fmt: skip
    near = tuple(tuple(f"ref{(i + j) % 4}" for j in range(10)) for i in range(N))
    return ClipVectors(ways, ("",) * N, near)


def test_clips_are_as_alike_as_their_most_similar_windows():
    parts = drawn(1.0, windows=3)
    found = similarity(parts)
    for i, j in ((0, 1), (5, 20), (7, 7)):
        assert found[i, j] == pytest.approx(max(float(a @ b) for a in parts[i] for b in parts[j]), abs=1e-6)


def test_windows_in_order_are_compared_place_by_place():
    parts = drawn(1.0, windows=3)
    found = joined({"windows": parts, "one": parts[:, :1]})
    assert set(found) == {"windows", "windows, in order", "windows, averaged", "one"}
    cosine = similarity(found["windows, in order"])
    for i, j in ((0, 1), (5, 20), (7, 7)):
        assert cosine[i, j] == pytest.approx(np.mean([float(parts[i, w] @ parts[j, w]) for w in range(3)]), abs=1e-6)
    assert np.linalg.norm(found["windows, averaged"], axis=-1) == pytest.approx(1)


def test_figures_are_those_counted_by_hand(made):
    likeness, clips = similarity(made.parts["tower, mean"]), items()
    found = worth(likeness, clips)
    right, five, first, kind_five, light = 0, [], [], [], []
    for i in range(N):
        others = sorted((j for j in range(N) if j != i), key=lambda j: -likeness[i, j])
        same = [clips[j].truth == clips[i].truth for j in others]
        right += sum(same[:5]) > 2
        five.append(sum(same[:5]) / 5)
        first.append(1 / (same.index(True) + 1))
        kind_five.append(sum(clips[j].metadata["kind"] == clips[i].metadata["kind"] for j in others[:5]) / 5)
        light.append(sum(clips[j].metadata["light"] == clips[i].metadata["light"] for j in others[:5]) / 5)
    assert (found.right.hits, found.right.n) == (right, N)
    assert found.label["precision@5"].value == pytest.approx(np.mean(five))
    assert found.label["MRR"].value == pytest.approx(np.mean(first))
    assert found.behaviour["precision@5"].value == pytest.approx(np.mean(kind_five))
    assert found.alike["light"].value == pytest.approx(np.mean(light))


def test_chance_is_the_share_of_other_clips_with_the_same_value():
    assert by_chance(items(), "label") == pytest.approx(11 / 23)
    assert by_chance(items(), "kind") == pytest.approx(5 / 23)


def test_every_way_and_fusion_is_measured_and_the_one_that_knows_the_label_wins(made):
    found = worths(made, items())
    assert set(FUSIONS) <= set(found) and {f"{MOVING}, PCA", f"{MOVING}, whitened"} <= set(found)
    assert "windows, PCA" not in found and "windows, in order, PCA" in found  # several vectors a clip
    assert found[MOVING].right.value == 1 and found[WHOLE].right.value < 0.9
    # A clip never takes its own first rank in a fusion: two perfect ways stay perfect.
    assert found["RRF: moving blocks + windows"].right.value == 1


def test_whitening_takes_away_a_direction_that_makes_hubs(made):
    hub = np.zeros((N, D))
    hub[:, 1] = np.linspace(0, 8, N)
    crowded = ClipVectors({**made.parts, WHOLE: unit(RNG.standard_normal((N, 1, D)) + hub[:, None])}, ("",) * N, None)
    found = worths(crowded, items())
    assert found[f"{WHOLE}, whitened"].hubness < found[WHOLE].hubness


def test_too_few_clips_or_one_label_only_are_refused(made):
    for clips in (items(8), [item for item in items() if item.truth == "normal"]):
        with pytest.raises(InputError, match="at least 12 labelled clips of both labels"):
            worths(made, clips)


def test_the_shipped_library_is_judged_by_its_five_nearest(made):
    labels = {"ref0": "mounting", "ref1": "mounting", "ref2": "normal", "ref3": "mounting"}
    found = as_served(made, items(), labels, dict.fromkeys(labels, "day"))
    assert found is not None and found.references == 4
    # Five references in a row hold ref2 once or twice, so all clips are voted mounting.
    assert found.right.value == 0.5
    assert found.same_light.value == pytest.approx(2 / 3)
    assert as_served(ClipVectors(made.parts, made.captions, None), items(), {}, {}) is None


def test_the_tables_name_the_shipped_way_the_best_and_its_p(made):
    text = "\n".join(lines(worths(made, items()), MOVING, None, items(), "Marks."))
    assert f"| {MOVING} (as shipped) | 1.000" in text and text.count("(as shipped) |") == 2
    assert "by chance .478 of the neighbours share the label" in text and "Marks." in text
    # Nobody is better than the shipped way here, so it is compared with itself.
    assert "Against the shipped way" not in text and "is met." in text
    other = "\n".join(lines(worths(made, items()), WHOLE, None, items(), "Marks."))
    assert f"| {WHOLE} (as shipped) |" in other and f"As shipped ({WHOLE})" in other
    found = re.search(r"Against the shipped way p = (\S+),", other)
    assert found is not None and float(found[1]) < 0.05
