"""Reference cases of training clips: present, foreign, and no hint at the label."""

from __future__ import annotations

import numpy as np
import pytest

from services.errors import InputError
from training.context import Cases
from training.data import Sample


def test_there_is_one_case_of_each_label_and_never_the_clip_itself(toys: list[Sample]) -> None:
    cases = Cases(toys, seed=0)
    for sample in toys:
        for epoch in range(5):
            shown = cases.draw(sample, epoch)
            assert {hit.label for hit in shown} == {"mounting", "normal"}
            assert sample.digest[:16] not in {hit.id for hit in shown}


def test_order_says_nothing_about_the_label(toys: list[Sample]) -> None:
    cases = Cases(toys, seed=0)
    for label in ("mounting", "normal"):
        first = [cases.draw(s, e)[0].label == s.label for s in toys if s.label == label for e in range(50)]
        assert 0.42 < float(np.mean(first)) < 0.58


def test_a_draw_repeats_for_the_same_epoch_and_differs_between_epochs(toys: list[Sample]) -> None:
    one, other = Cases(toys, seed=0), Cases(toys[::-1], seed=0)
    assert [one.draw(s, 1) for s in toys] == [other.draw(s, 1) for s in toys]
    assert [one.draw(s, 1) for s in toys] != [one.draw(s, 2) for s in toys]


def test_with_vectors_the_nearest_of_each_label_are_shown_most_similar_first(toys: list[Sample]) -> None:
    angles = {s.digest: 0.1 * n for n, s in enumerate(toys)}
    vectors = {digest: np.array([np.cos(a), np.sin(a)], np.float32) for digest, a in angles.items()}
    cases = Cases(toys, seed=0, neighbours=1, vectors=vectors)
    own = toys[10]
    shown = cases.draw(own, 0)
    assert shown[0].similarity >= shown[1].similarity
    for hit in shown:
        others = [s for s in toys if s.label == hit.label and s.digest != own.digest]
        nearest = min(abs(angles[s.digest] - angles[own.digest]) for s in others)
        assert hit.similarity == pytest.approx(np.cos(nearest), abs=1e-5)


def test_a_missing_vector_is_refused_before_training(toys: list[Sample]) -> None:
    with pytest.raises(InputError, match="no vector"):
        Cases(toys, seed=0, vectors={toys[0].digest: np.ones(2, np.float32)})
