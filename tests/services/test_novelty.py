"""What is unlike the training renders lies outside; renders lie inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from services.errors import ModelError
from services.novelty import NoveltyModel, statistics
from services.schema import Frames
from services.settings import ROOT
from training.demo.draw import draw_frames
from training.demo.harvest import small
from training.demo.plan import ClipPlan, plan_clip

SHIPPED = ROOT / "assets" / "demo" / "embedder"
SHAPE = (16, 128, 224, 3)


@pytest.fixture(scope="module")
def model() -> NoveltyModel:
    return NoveltyModel.load(SHIPPED)


def _outside(model: NoveltyModel, pictures: np.ndarray) -> bool:
    return model.score(Frames(pictures, np.arange(len(pictures), dtype=float)), pictures, None).outside


@pytest.mark.parametrize("value", [0, 128, 255])
def test_even_pictures_are_outside(model: NoveltyModel, value: int) -> None:
    assert _outside(model, np.full(SHAPE, value, np.uint8))


def test_noise_is_outside(model: NoveltyModel) -> None:
    assert _outside(model, np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8))


def test_a_frozen_picture_is_outside(model: NoveltyModel) -> None:
    one = small(draw_frames(plan_clip(1_500_000), [1.0]))
    assert _outside(model, np.repeat(one, 16, 0))


def _rendered(plan: ClipPlan) -> np.ndarray:
    return small(draw_frames(plan, np.linspace(0, plan.duration_s - 0.1, 16)))


def test_held_out_renders_are_inside(model: NoveltyModel) -> None:
    assert sum(_outside(model, _rendered(plan_clip(seed))) for seed in range(1_500_000, 1_500_012)) <= 2


def test_another_look_by_day_is_outside(model: NoveltyModel) -> None:
    """By night both looks are nearly the same infrared picture."""
    plans = [plan_clip(seed, style="second") for seed in range(3_500_000, 3_500_016)]
    by_day = [_outside(model, _rendered(plan)) for plan in plans if plan.light == "day"]
    assert len(by_day) >= 5 and sum(by_day) >= len(by_day) - 1


def test_statistics_are_finite_for_black() -> None:
    assert np.isfinite(statistics(np.zeros(SHAPE, np.uint8))).all()


def test_another_version_is_refused(model: NoveltyModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    (tmp_path / "novelty" / "novelty.json").write_text('{"version": 0, "limit": 1.0}', encoding="utf-8")
    with pytest.raises(ModelError, match="version 0"):
        NoveltyModel.load(tmp_path)


def test_no_measure_is_no_error(tmp_path: Path) -> None:
    assert not NoveltyModel.present(tmp_path)
