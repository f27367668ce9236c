"""Training the vision tower: by module path, with real gradients, and refused where it cannot be served."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import bitsandbytes as bnb
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from services.adapters import validate
from services.dialog import messages
from services.errors import AdapterError, Cancelled, InputError, SettingsError
from tests.training.tiny_bases import ARCHITECTURES
from tests.training.toy_clips import picture, quiet
from training.base import load_base, load_dialog
from training.data import Sample
from training.features import LiveFeatures, Tower
from training.settings import TrainConfig
from training.targets import counted
from training.trainer import train

Settings = Callable[..., TrainConfig]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("targets", ["vision", "all"])
def test_lora_sits_on_plain_linears_of_the_tower_and_on_nothing_but_the_targets(
    settings: Settings, tiny_bases: dict[str, Path], architecture: str, targets: str
) -> None:
    config = settings(model=str(tiny_bases[architecture]), targets=targets, expand="off")
    base = load_base(config, load_dialog(config))
    vision = {
        name
        for name, module in base.model.named_modules()
        if ".visual.blocks." in name and hasattr(module, "base_layer")
    }
    blocks = base.model.model.visual.blocks
    plain = sum(
        isinstance(m, torch.nn.Linear) and "lora" not in n for block in blocks for n, m in block.named_modules()
    )
    assert len(vision) == plain > 0
    assert not any(isinstance(base.model.get_submodule(name).base_layer, bnb.nn.Linear4bit) for name in vision)
    language = {name for name in base.trained if ".language_model." in name}
    assert set(base.trained) == vision | language
    assert bool(language) == (targets == "all")
    assert f"of {len(blocks)} vision blocks" in counted(base.trained)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_module_of_the_tower_learns(
    settings: Settings, tiny_bases: dict[str, Path], toys: list[Sample], architecture: str
) -> None:
    """A step changes every B matrix from zero, so gradients reach all of them, checkpointed or not."""
    for checkpointing in (False, True):
        config = settings(
            model=str(tiny_bases[architecture]),
            output=settings().output / f"{checkpointing}",
            targets="all",
            max_steps=1,
            dropout=0.0,
            context="off",
            validation_share=0.0,
            gradient_checkpointing=checkpointing,
        )
        train(config, toys[:10], report=quiet)
        weights = load_file(config.output / "adapter_model.safetensors")
        still = [name for name, value in weights.items() if ".lora_B." in name and not value.any()]
        assert still == [] and any(".visual." in name for name in weights)


def test_stock_peft_sees_other_pictures_with_a_trained_tower(
    settings: Settings, tiny_base: Path, toys: list[Sample]
) -> None:
    config = settings(targets="vision", max_steps=2, learning_rate=1e-2, context="off")
    train(config, toys[:10], report=quiet)
    served = AutoModelForImageTextToText.from_pretrained(tiny_base, dtype=torch.float32).eval()
    inputs = load_dialog(config).prompt(messages("What happens?"), [picture(1, "mounting")])
    words = load_dialog(config).prompt(messages("What happens?", videos=0), [])
    with torch.no_grad():
        seen, said = served(**inputs).logits, served(**words).logits
        tuned = PeftModel.from_pretrained(served, config.output).eval()
        assert not torch.equal(tuned(**inputs).logits, seen)
        assert torch.equal(tuned(**words).logits, said)


def test_a_stopped_run_that_trains_the_tower_goes_on_bit_for_bit(
    settings: Settings, toys: list[Sample], tmp_path: Path
) -> None:
    shape: dict[str, object] = {"targets": "all", "epochs": 1, "batch": 4, "context": "off", "validation_share": 0.0}
    train(settings(output=tmp_path / "whole", **shape), toys[:8], report=quiet)
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        train(settings(output=tmp_path / "broken", **shape), toys[:8], report=quiet, cancelled=stop)
    train(settings(output=tmp_path / "broken", **shape), toys[:8], resume=True, report=quiet)
    first, second = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("whole", "broken"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_what_it_means_is_said_and_the_adapter_is_refused_where_it_cannot_be_served(
    settings: Settings, toys: list[Sample]
) -> None:
    said: list[str] = []
    config = settings(targets="all", max_steps=1, context="off")
    train(config, toys[:10], report=said.append)
    assert any("not cached" in line for line in said)
    assert any("vLLM serves the language side" in line for line in said)
    assert not (config.output / "features").exists()
    with pytest.raises(AdapterError, match="--targets language"):
        validate(config.output)
    assert json.loads((config.output / "metrics.json").read_text())["settings"]["targets"] == "all"


def test_ready_features_cannot_train_a_tower(settings: Settings, toys: list[Sample]) -> None:
    config = settings()
    dialog = load_dialog(config)
    tower = Tower(load_base(config, dialog).model, dialog, lambda path, kind: picture(0, "normal"), torch.float32)
    ready = [
        Sample(
            digest=toy.digest,
            features=lambda toy=toy: LiveFeatures(tower).get(toy.media)[0],  # type: ignore[misc]
            label=toy.label,
            reason=toy.reason,
        )
        for toy in toys[:10]
    ]
    with pytest.raises(InputError, match="give pictures"):
        train(settings(targets="vision"), ready, report=quiet)


def test_unknown_targets_are_refused(settings: Settings) -> None:
    with pytest.raises(SettingsError, match="targets is 'ears', take language or vision or all"):
        settings(targets="ears")
