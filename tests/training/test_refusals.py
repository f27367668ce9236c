"""What a training refuses, and says, before it touches anything."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from services.adapters import validate
from services.annotations import Turn
from services.errors import AnnotationError, Cancelled, InputError, ModelError, ResourceError, SettingsError
from tests.training.toy_clips import quiet
from training.data import Sample
from training.settings import TrainConfig
from training.trainer import train

Settings = Callable[..., TrainConfig]


def test_an_unfinished_run_is_neither_overwritten_nor_mixed_with_other_settings(
    settings: Settings, toys: list[Sample]
) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled, match="--resume"):
        train(settings(), toys, report=quiet, cancelled=stop)
    with pytest.raises(InputError, match="unfinished run"):
        train(settings(), toys, report=quiet)
    with pytest.raises(InputError, match="other settings or data"):
        train(settings(learning_rate=1e-4), toys, resume=True, report=quiet)


def test_two_trainings_never_share_a_folder(settings: Settings, toys: list[Sample]) -> None:
    """The second is refused while the first is at work, and the first ends as if it had been alone."""
    at_work, refused = threading.Event(), threading.Event()

    def report(line: str) -> None:
        if line.startswith("LoRA on"):
            at_work.set()
            assert refused.wait(60)

    ended: list[object] = []
    first = threading.Thread(target=lambda: ended.append(train(settings(epochs=1), toys[:8], report=report)))
    first.start()
    assert at_work.wait(60)
    with pytest.raises(InputError, match="Another training is at work"):
        train(settings(epochs=1), toys[:8], resume=True, report=quiet)
    refused.set()
    first.join(120)
    assert ended and validate(settings().output)
    assert not (settings().output / ".lock").exists()


def test_entries_of_another_task_are_named(settings: Settings, toys: list[Sample], tmp_path: Path) -> None:
    with pytest.raises(AnnotationError) as caught:
        train(settings(task="quality"), toys[:4], report=quiet)
    assert sum("asks the mounting question, but the task is 'quality'" in text for text in caught.value.problems) == 4
    turns = (Turn("human", "<video>?"), Turn("gpt", "Yes."))
    talk = [Sample(digest=f"{n}" * 64, frames=toys[n].frames, conversations=turns) for n in range(4)]
    with pytest.raises(AnnotationError) as caught:
        train(settings(context="off"), talk, report=quiet)
    assert any("name what they are about with --task" in text for text in caught.value.problems)


def test_vectors_that_lack_a_clip_or_differ_in_length_are_named(settings: Settings, toys: list[Sample]) -> None:
    vectors = {sample.digest: np.ones(2 + (n == 0), np.float32) for n, sample in enumerate(toys[:6])}
    with pytest.raises(AnnotationError) as caught:
        train(settings(), toys[:8], vectors=vectors, report=quiet)
    text = " ".join(caught.value.problems)
    assert text.count("has no vector for it") == 2 and "different lengths" in text


def test_a_run_goes_on_with_the_same_base_and_vectors_only(
    settings: Settings, toys: list[Sample], tiny_base: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "base"
    shutil.copytree(tiny_base, copy)
    stop = threading.Event()
    stop.set()
    vectors = {sample.digest: np.eye(24, dtype=np.float32)[n] for n, sample in enumerate(toys)}
    with pytest.raises(Cancelled):
        train(settings(model=str(copy)), toys, vectors=vectors, report=quiet, cancelled=stop)
    with pytest.raises(InputError, match="other settings or data"):
        train(settings(model=str(copy)), toys, vectors={k: -v for k, v in vectors.items()}, resume=True, report=quiet)
    weights = load_file(copy / "model.safetensors")
    save_file({name: value * 1.01 for name, value in weights.items()}, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="other settings or data"):
        train(settings(model=str(copy)), toys, vectors=vectors, resume=True, report=quiet)


def test_a_base_that_is_quantised_already_is_refused_in_words(
    settings: Settings, toys: list[Sample], tiny_base: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "base"
    shutil.copytree(tiny_base, copy)
    stored = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(stored | {"quantization_config": {"quant_method": "fp8"}}))
    with pytest.raises(ModelError, match="stored in fp8, and training needs its plain release"):
        train(settings(model=str(copy)), toys, report=quiet)


def test_wrong_settings_are_told_together() -> None:
    with pytest.raises(SettingsError) as caught:
        TrainConfig(model="m", output=Path("o"), rank=0, dropout=1.5, context="sideways")  # type: ignore[arg-type]
    assert all(word in str(caught.value) for word in ("rank is 0", "dropout is 1.5", "context is 'sideways'"))


def test_clips_in_both_training_and_validation_are_refused(settings: Settings, toys: list[Sample]) -> None:
    with pytest.raises(AnnotationError) as caught:
        train(settings(), toys, validation=toys[:2], report=quiet)
    assert len(caught.value.problems) == 2


def test_a_full_gpu_is_told_in_words_and_its_checkpoints_stay(
    settings: Settings, toys: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        train(settings(), toys[:8], report=quiet, cancelled=stop)
    kept = sorted(path.name for path in settings().output.glob("checkpoint-*"))

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr("torch.nn.functional.cross_entropy", full)
    with pytest.raises(ResourceError, match="take a smaller --batch"):
        train(settings(), toys[:8], resume=True, report=quiet)
    last = json.loads((settings().output / "progress.jsonl").read_text().splitlines()[-1])
    assert last["state"] == "failed" and "The GPU ran out of memory" in json.dumps(last)
    assert sorted(path.name for path in settings().output.glob("checkpoint-*")) == kept != []
