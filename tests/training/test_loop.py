"""The settings of a run do what they are called: each is checked by what it changes."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.training.toy_clips import quiet
from training.base import load_base, load_dialog
from training.data import Sample
from training.loop import Run
from training.preparation import prepare
from training.settings import TrainConfig
from training.steps import losses, rate, step_counts
from training.trainer import train

Settings = Callable[..., TrainConfig]
ALONE: dict[str, object] = {"context": "off", "validation_share": 0.0, "dropout": 0.0}


def begun(config: TrainConfig, samples: list[Sample]) -> Run:
    """A run that is about to make its first step."""
    prepared = prepare(config, samples, None, None, None, lambda path, kind: None, True, quiet)  # type: ignore[arg-type,return-value]
    run = Run(config, prepared, quiet, Event())
    run.start(False)
    run.base.model.train()
    return run


def gradients(run: Run, group: list[list[int]]) -> dict[str, torch.Tensor]:
    """What a step over ``group`` hands to the optimizer."""
    seen: dict[str, torch.Tensor] = {}

    def look(*_: Any) -> None:
        seen.update({name: parameter.grad.clone() for name, parameter in run.names.items()})  # type: ignore[union-attr]

    handle = run.optimizer.register_step_pre_hook(look)
    run._step(group)
    handle.remove()
    return seen


def test_passes_that_make_one_step_have_the_gradient_of_one_large_batch(
    settings: Settings, toys: list[Sample], tmp_path: Path
) -> None:
    parts = begun(settings(output=tmp_path / "a", batch=2, accumulation=2, clip_norm=1e9, **ALONE), toys[:4])
    whole = begun(settings(output=tmp_path / "b", batch=4, clip_norm=1e9, **ALONE), toys[:4])
    first, second = gradients(parts, [[0, 1], [2, 3]]), gradients(whole, [[0, 1, 2, 3]])
    assert any(value.any() for value in first.values())
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-3, atol=1e-6)


def test_the_sample_of_a_short_pass_counts_as_much_as_any_other(
    settings: Settings, toys: list[Sample], tmp_path: Path
) -> None:
    parts = begun(settings(output=tmp_path / "a", batch=3, accumulation=2, clip_norm=1e9, **ALONE), toys[:4])
    whole = begun(settings(output=tmp_path / "b", batch=4, clip_norm=1e9, **ALONE), toys[:4])
    first, second = gradients(parts, [[0, 1, 2], [3]]), gradients(whole, [[0, 1, 2, 3]])
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-3, atol=1e-6)


def test_a_gradient_beyond_the_limit_is_scaled_to_it(settings: Settings, toys: list[Sample]) -> None:
    run = begun(settings(clip_norm=1e-3, **ALONE), toys[:4])
    found = gradients(run, [[0, 1, 2, 3]])
    norm = math.sqrt(sum(float(value.square().sum()) for value in found.values()))
    assert norm == pytest.approx(1e-3, rel=1e-3)


def test_the_rate_rises_then_falls_along_a_half_cosine_to_nothing(settings: Settings) -> None:
    config = settings(epochs=25, batch=1, warmup_share=0.2, learning_rate=0.5, **ALONE)
    assert step_counts(config, 4) == (4, 100)
    rates = [rate(config, step, 100) for step in range(100)]
    assert rates[:20] == pytest.approx([0.5 * (n + 1) / 20 for n in range(20)])
    assert rates[20] == pytest.approx(0.5) and rates[60] == pytest.approx(0.25) and rates[99] < 1e-3
    assert all(later < earlier for earlier, later in pairwise(rates[20:]))


def test_it_stops_when_validation_stops_getting_better_and_keeps_the_best(
    settings: Settings, toys: list[Sample]
) -> None:
    """A rate that is no rate: no epoch after the first is better."""
    config = settings(epochs=9, batch=8, patience=2, learning_rate=1e-30, context="off", validation_share=0.25)
    metrics = train(config, toys[:8], report=quiet).metrics
    assert metrics["epochs"] == 3 and metrics["best_epoch"] == 0


def test_checkpointing_computes_the_same_gradients_with_layers_run_twice(
    settings: Settings, toys: list[Sample], tmp_path: Path
) -> None:
    found, calls = [], []
    for checkpointing in (False, True):
        config = settings(output=tmp_path / str(checkpointing), gradient_checkpointing=checkpointing, **ALONE)
        run = begun(config, toys[:4])
        count = [0]
        layer = run.base.model.model.language_model.layers[0].mlp

        def counted(*_: Any, count: list[int] = count) -> None:
            count[0] += 1

        layer.register_forward_pre_hook(counted)  # computing again ends inside it
        found.append(gradients(run, [[0, 1, 2, 3]]))
        calls.append(count[0])
    assert calls == [1, 2]
    for name in found[0]:
        torch.testing.assert_close(found[0][name], found[1][name], rtol=1e-4, atol=1e-7)


def test_the_written_weights_are_those_of_the_best_epoch(settings: Settings, toys: list[Sample]) -> None:
    """With a rate that ruins the model, the loss of the written weights is still the best that was measured."""
    config = settings(epochs=3, batch=2, learning_rate=0.3, warmup_share=0.0, context="off", validation_share=0.25)
    metrics = train(config, toys[:8], report=quiet).metrics
    prepared = prepare(config, toys[:8], None, None, None, lambda path, kind: None, True, quiet)  # type: ignore[arg-type,return-value]
    written = load_file(config.output / "adapter_model.safetensors")
    with torch.no_grad():
        for name, parameter in prepared.base.peft.named_parameters():
            key = name.replace(".default", "")
            if key in written:
                parameter.copy_(written[key])
    prepared.base.model.eval()
    batch = prepared.examples.validation_batch(prepared.held)
    with torch.no_grad():
        again = float((losses(prepared.base, batch) * batch.weight).sum())
    assert again == pytest.approx(metrics["validation_loss"], rel=0.02)  # weights are written in bfloat16


def test_dropout_acts_while_training_only(settings: Settings, toys: list[Sample]) -> None:
    config = settings(dropout=0.5, learning_rate=0.1, context="off", validation_share=0.0)
    run = begun(config, toys[:4])
    run._step([[0, 1, 2, 3]])  # B matrices are zero before the first step
    batch = run.examples.batch(run.training, 0)

    def loss() -> float:
        with torch.no_grad():
            return float((losses(run.base, batch) * batch.weight).sum())

    assert loss() != loss()
    run.base.model.eval()
    assert loss() == loss()


def test_nothing_but_lora_changes(settings: Settings, toys: list[Sample]) -> None:
    run = begun(settings(**ALONE), toys[:4])
    before = {name: value.clone() for name, value in run.base.model.state_dict().items() if ".lora_" not in name}
    run._step([[0, 1, 2, 3]])
    after = run.base.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert any(after[name].any() for name in after if ".lora_B." in name)


def test_the_same_seed_gives_the_same_beginning_and_another_one_does_not(settings: Settings) -> None:
    def first(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        base = load_base(settings(), load_dialog(settings()))
        return next(p for name, p in base.peft.named_parameters() if ".lora_A." in name).detach()

    assert torch.equal(first(3), first(3)) and not torch.equal(first(3), first(4))
