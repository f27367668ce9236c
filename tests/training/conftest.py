"""A tiny untrained base, made once for all tests of fine-tuning."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.training.tiny_bases import ARCHITECTURES, write
from tests.training.toy_clips import toy
from training.data import Sample
from training.settings import TrainConfig


@pytest.fixture(scope="session")
def tiny_bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A base of each architecture."""
    folders = {architecture: tmp_path_factory.mktemp(architecture) for architecture in ARCHITECTURES}
    for architecture, folder in folders.items():
        write(architecture, folder)
    return folders


@pytest.fixture(scope="session")
def tiny_base(tiny_bases: dict[str, Path]) -> Path:
    return tiny_bases["qwen3_vl"]


@pytest.fixture(scope="session")
def toys() -> list[Sample]:
    return [toy(seed, label) for seed in range(12) for label in ("mounting", "normal")]


@pytest.fixture(scope="session")
def short_run(tiny_base: Path) -> Callable[..., TrainConfig]:
    """Settings of a short float32 run on the tiny base, which is what bit-for-bit comparisons need."""

    def make(**values: object) -> TrainConfig:
        defaults: dict[str, object] = {
            "model": str(tiny_base),
            "frames": 4,
            "min_pixels": 16384,
            "max_pixels": 16384,
            "precision": "fp32",
            "batch": 4,
            "epochs": 2,
            "validation_share": 0.2,
        }
        return TrainConfig(**{**defaults, **values})  # type: ignore[arg-type]

    return make


@pytest.fixture
def settings(short_run: Callable[..., TrainConfig], tmp_path: Path) -> Callable[..., TrainConfig]:
    """The same, with an output folder of the test's own unless it names one."""
    return partial(short_run, output=tmp_path / "run")
