"""Shuffled labels come to one half, whatever the answers were."""

from __future__ import annotations

import pytest

from evaluation.permuted import shuffled
from evaluation.records import ResultFile
from evaluation.views import View, main_view
from tests.evaluation.made_results import made_result


def view_of(result: ResultFile) -> View:
    return main_view(result, "made")


@pytest.mark.parametrize("sharpness", [0.0, 6.0])
def test_permuted_truth_comes_to_one_half_however_good_the_answers_are(sharpness):
    balanced, area = shuffled(view_of(made_result(400, sharpness=sharpness)))
    assert balanced.value == pytest.approx(0.5, abs=0.01) and area.value == pytest.approx(0.5, abs=0.01)
    assert balanced.low < 0.5 < balanced.high and area.low < 0.5 < area.high


def test_the_range_of_the_draws_is_that_of_chance_and_the_same_on_every_run():
    view = view_of(made_result(400, sharpness=6.0))
    balanced, area = shuffled(view)
    # The deviation of a Mann-Whitney area under the null is sqrt((n + m + 1) / 12nm), .029 for 200 against 200.
    assert area.high - area.value == pytest.approx(1.96 * 0.0289, abs=0.008)
    assert shuffled(view) == (balanced, area)
