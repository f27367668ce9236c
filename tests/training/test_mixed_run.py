"""Conversations with several turns, images and a clip in one of them, from files through the trainer to an adapter."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from services.adapters import validate
from services.errors import AnnotationError
from tests.media import make_clip, numbered
from tests.training.tiny_bases import ARCHITECTURES
from tests.training.toy_clips import quiet
from training.data import from_annotations
from training.settings import TrainConfig
from training.trainer import train

Settings = Callable[..., TrainConfig]
KINDS = ("Blur, severity 3.", "Nothing spoils it.")


def entry(number: int) -> dict[str, Any]:
    """One of LLaMA-Factory's: two images and a clip in the first turn, another image in the third, one turn without."""
    return {
        "messages": [
            {"role": "system", "content": "You look at barns."},
            {"role": "user", "content": "<image><image>What spoils these, and what this clip? <video>"},
            {"role": "assistant", "content": KINDS[number % 2]},
            {"role": "user", "content": "Sure?"},
            {"role": "assistant", "content": "Yes."},
            {"role": "user", "content": "And this? <image>"},
            {"role": "assistant", "content": KINDS[(number + 1) % 2]},
        ],
        "images": [f"{number}-{place}.{kind}" for place, kind in enumerate(("png", "jpg", "webp"))],
        "videos": [f"{number}.mp4"],
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixed")
    entries = [entry(number) for number in range(8)]
    for number, item in enumerate(entries):
        make_clip(folder / item["videos"][0], 20, fps=10, paint=lambda n, w, h, k=number: numbered(n + 50 * k, w, h))
        for place, name in enumerate(item["images"]):
            rng = np.random.default_rng(10 * number + place)
            level = 40 if (number + place // 2) % 2 else 200
            assert cv2.imwrite(str(folder / name), rng.integers(level, level + 50, (96 + 64 * place, 160, 3), np.uint8))
    (folder / "data.json").write_text(json.dumps(entries))
    return folder / "data.json"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_several_media_in_a_turn_are_trained_on(
    settings: Settings, tiny_bases: dict[str, Path], data: Path, architecture: str
) -> None:
    config = settings(
        model=str(tiny_bases[architecture]),
        task="barn",
        context="off",
        epochs=8,
        batch=2,
        learning_rate=5e-3,
        dropout=0.0,
        expand="on",
        max_pixels=32768,
    )
    metrics = train(config, from_annotations(data), report=quiet).metrics
    assert metrics["last_loss"] < 0.8 * metrics["first_loss"]
    assert metrics["validation_loss"] < metrics["base_validation_loss"]
    assert validate(config.output).task == "barn"


@pytest.mark.parametrize("task", ["barn", "quality"])
def test_every_answer_that_the_length_limit_would_cut_is_named_and_nothing_is_trained(
    settings: Settings, data: Path, task: str
) -> None:
    samples = from_annotations(data)
    config = settings(task=task, context="off", max_length=60)
    with pytest.raises(AnnotationError) as caught:
        train(config, samples, report=quiet)
    named = [problem for problem in caught.value.problems if "the answer would be cut" in problem]
    assert len(named) == len(samples)
    assert all(any(sample.title in problem for problem in named) for sample in samples)
    assert not (config.output / "adapter_model.safetensors").exists()
    assert not list(config.output.glob("checkpoint-*"))
