"""The label leak, counted by hand."""

from __future__ import annotations

import pytest

from evaluation.neighbours import following, pull
from evaluation.records import CaseRecord, ClipRecord, ResultFile, RunSettings, VariantRecord
from evaluation.views import main_view, views
from services.errors import InputError
from tests.evaluation.made_results import made_result


def result(answers, **settings):
    """Clips a, b, … with (truth, final verdict of the tuned model)."""
    clips = tuple(
        ClipRecord(
            video=name, truth=truth, variants=(VariantRecord(name="tuned", p_model=0.5, p_final=0.5, verdict=verdict),)
        )
        for name, (truth, verdict) in zip("abcdefgh", answers, strict=False)
    )
    given = {"mode": "ensemble", "data": "d", "data_sha256": "0", "variants": ("tuned",), **settings}
    return ResultFile(settings=RunSettings(**given), clips=clips)


M, N, U = "mounting", "normal", "unclear"
OFF = result([(M, M), (M, M), (N, N), (N, N), (M, N), (N, U)])


def test_only_clips_right_without_retrieval_count_and_unclear_is_not_following():
    swapped = result([(M, N), (M, U), (N, N), (N, N), (M, M), (N, M)], retrieval="contrastive", swap_labels=True)
    default = result([(M, M), (M, M), (N, M), (N, N), (M, M), (N, N)], retrieval="contrastive")
    (found,) = following(OFF, swapped, default)
    assert (found.followed.hits, found.followed.n, found.became_unclear) == (1, 4, 1)
    assert found.untouched is not None and (found.untouched.hits, found.untouched.n) == (1, 4)
    assert not found.within_limit


def test_clips_that_one_run_lacks_are_left_out():
    swapped = result([(M, N)], retrieval="contrastive", swap_labels=True)
    assert following(OFF, swapped)[0].followed.n == 1


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"retrieval": "contrastive"}, "--swap-labels"),
        ({"retrieval": "off"}, "--swap-labels"),
        ({"retrieval": "nearest", "swap_labels": True, "mode": "rag"}, "--mode ensemble"),
    ],
)
def test_other_runs_are_refused_with_the_right_call(settings, says):
    with pytest.raises(InputError, match=says):
        following(OFF, result([(M, M)], **settings))


def test_the_pull_of_the_first_case_is_counted():
    def clip(name, truth, said, case):
        variant = VariantRecord(name="base", text_verdict=said)
        return ClipRecord(video=name, truth=truth, variants=(variant,), shown=(CaseRecord(id="r", label=case),))

    clips = (
        clip("a", M, M, N),
        clip("b", M, N, N),
        clip("c", N, N, N),
        clip("d", N, "unparsed", M),
        clip("e", M, N, M),
    )
    settings = RunSettings(mode="source", data="d", data_sha256="0", variants=("base",))
    found = pull(main_view(ResultFile(settings=settings, clips=clips), "r"))
    assert found is not None
    assert (found.n, found.alone.hits, found.wrong, found.resisted.hits) == (5, 2, 3, 1)
    assert (found.errors, found.errors_with) == (3, 1)


def test_one_ensemble_run_can_be_read_as_verdict_model_and_neighbours():
    titles = [view.title for view in views(made_result(4), "r")]
    assert titles == ["r: tuned, final", "r: base, final", "r: tuned, model", "r: base, model", "r: neighbours"]
    assert main_view(made_result(4, mode="rag"), "r").title == "r: tuned, model"
