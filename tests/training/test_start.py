"""A run that goes on from a finished adapter: it begins with its weights, says so, and is refused where they differ."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from services.errors import AdapterError, Cancelled, InputError
from services.schema import Frames
from services.settings import ROOT, profile
from tests.training.toy_clips import picture, quiet
from training import Qlora_train
from training.base import load_base, load_dialog
from training.data import Sample
from training.dry_run import dry_run
from training.settings import TrainConfig
from training.trainer import train

Settings = Callable[..., TrainConfig]


@pytest.fixture(scope="module")
def first(short_run: Settings, toys: list[Sample], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A finished adapter's folder and metrics."""
    result = train(short_run(output=tmp_path_factory.mktemp("first"), epochs=1), toys, report=quiet)
    return result.folder, result.metrics


def card(result: Any) -> str:
    text: str = (result.folder / "README.md").read_text()
    return text


def test_it_begins_with_the_adapters_weights(settings: Settings, first: tuple[Path, Any]) -> None:
    config = settings(start=first[0])
    peft = load_base(config, load_dialog(config)).peft
    held = {name.replace(".default", ""): value for name, value in peft.named_parameters() if value.requires_grad}
    kept = load_file(first[0] / "adapter_model.safetensors")
    assert held.keys() == kept.keys() and any(value.any() for name, value in kept.items() if "lora_B" in name)
    for name, value in kept.items():
        torch.testing.assert_close(held[name].detach(), value.float(), rtol=0, atol=0)


def test_what_it_went_on_from_is_told_and_the_base_is_measured_without_it(
    settings: Settings, toys: list[Sample], first: tuple[Path, Any], tmp_path: Path
) -> None:
    said: list[str] = []
    result = train(settings(start=first[0], epochs=1), toys, report=said.append)
    start = result.metrics["started_from"]
    assert start["name"] == "mounting" and start["digest"] and start["created_at"]
    assert result.metrics["base_validation_loss"] == pytest.approx(first[1]["base_validation_loss"], rel=1e-4)
    assert result.metrics["start_validation_loss"] == pytest.approx(first[1]["validation_loss"], rel=1e-2)
    before = result.metrics["start_balanced_accuracy_off"]
    assert f"clip alone | {result.metrics['base_balanced_accuracy_off']:.4f} | {before:.4f} | " in card(result)
    assert first[1]["started_from"] is None
    assert f"It went on from the adapter `mounting` of {start['created_at']}." in card(result)
    assert "may have been trained on the samples that were held out" in card(result)
    assert str(tmp_path) not in card(result) + (result.folder / "metrics.json").read_text()
    assert any("goes on from the adapter 'mounting'" in line for line in said)


@pytest.mark.parametrize(
    "values, sentence",
    [
        ({"rank": 4}, "rank 16 and alpha 32, this run 4 and 32; leave --rank"),
        ({"alpha": 8}, "this run 16 and 8"),
        ({"task": "heat"}, "trained for the task 'mounting', this run is for 'heat'"),
        ({"frames": 8}, "preprocessing"),
        ({"targets": "all"}, "other layers than this run trains"),
        ({"start": Path("nowhere")}, "nowhere"),
    ],
)
def test_another_kind_of_adapter_is_refused_before_anything_is_trained(
    settings: Settings, toys: list[Sample], first: tuple[Path, Any], values: dict[str, Any], sentence: str
) -> None:
    config = settings(**{"start": first[0], "cache": None, **values})
    with pytest.raises(AdapterError, match=sentence):
        train(config, toys, report=quiet)


@pytest.mark.parametrize("values", [{"lora_alpha": 16.5}, {"use_rslora": True}])
def test_an_adapter_that_is_scaled_otherwise_is_refused(
    settings: Settings, toys: list[Sample], first: tuple[Path, Any], tmp_path: Path, values: dict[str, Any]
) -> None:
    other = shutil.copytree(first[0], tmp_path / "other")
    file = other / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))
    with pytest.raises(AdapterError, match="scaled as no training here does"):
        train(settings(start=other), toys, report=quiet)


def test_rank_and_alpha_are_the_adapters_own_unless_they_are_given(
    first: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(ROOT / "assets" / "demo" / "samples" / "annotations.json")
    chosen: list[TrainConfig] = []
    monkeypatch.setattr("training.dry_run.dry_run", lambda config, *_, **__: chosen.append(config))
    shipped = str(ROOT / "assets" / "demo" / "adapters" / "mounting")
    for more in (["--start", shipped], ["--start", shipped, "--rank", "8"], []):
        monkeypatch.setattr("sys.argv", ["Qlora_train.py", "--data", data, "--dry-run", *more])
        assert Qlora_train.run() == 0
    assert [(config.rank, config.alpha) for config in chosen] == [(64, 64), (8, 64), (16, 32)]
    monkeypatch.setattr("sys.argv", ["Qlora_train.py", "--data", data, "--start", str(tmp_path / "none")])
    assert Qlora_train.run() != 0
    told = capsys.readouterr().err
    assert "none is not a folder; give the folder that holds" in told and told.count("\n") == 1


def test_a_dry_run_tells_it_too(settings: Settings, toys: list[Sample], first: tuple[Path, Any]) -> None:
    lines: list[str] = []

    def read(path: Path, kind: str) -> Frames:
        return picture(0, "normal")

    dry_run(settings(start=first[0]), profile("demo"), toys, None, read, report=lines.append)
    assert f"It goes on from the adapter 'mounting' in {first[0]}." in lines


def test_an_interrupted_run_goes_on_with_the_same_start_only(
    settings: Settings, toys: list[Sample], first: tuple[Path, Any], tmp_path: Path
) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        train(settings(start=first[0]), toys, report=quiet, cancelled=stop)
    with pytest.raises(InputError, match="other settings or data"):
        train(settings(), toys, resume=True, report=quiet)
    moved = shutil.copytree(first[0], tmp_path / "moved")
    assert train(settings(start=moved), toys, resume=True, report=quiet).metrics["started_from"]["name"] == "mounting"
