"""What a finished run leaves for a person: curves as table and picture, and a card with every figure's number."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from services.adapters import AdapterRegistry
from tests.training.toy_clips import toy
from training.card import SHOWN
from training.curves import draw
from training.data import Sample
from training.settings import TrainConfig
from training.trainer import train

Settings = Callable[..., TrainConfig]


@pytest.fixture(scope="module")
def written(short_run: Settings, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The folder of a short run with both labels held out, and what it reported."""
    toys: list[Sample] = [toy(seed, label) for seed in range(4) for label in ("mounting", "normal")]
    said: list[str] = []
    output = tmp_path_factory.mktemp("written")
    config = short_run(output=output, precision="auto", validation_share=0.25, context="off")
    train(config, toys, report=said.append)
    return config.output, said


def test_the_card_states_data_settings_and_figures_with_their_number(written: tuple[Path, list[str]]) -> None:
    folder, _ = written
    text = (folder / "README.md").read_text()
    metrics = json.loads((folder / "metrics.json").read_text())
    assert "| to train on | 6 | 3 mounting, 3 normal |" in text
    assert "| held out | 2 | 1 mounting, 1 normal |" in text
    for key in ("validation_loss", "balanced_accuracy_off"):
        assert f"| {metrics[f'base_{key}']:.4f} | {metrics[key]:.4f} | 2 |" in text
    for key in SHOWN:
        assert f"| {key} | {metrics['settings'][key]} |" in text
    assert "## Limits" in text and "2 held-out samples are few" in text
    assert str(Path.home()) not in text and str(folder) not in text


def test_the_table_holds_every_step_and_validation(written: tuple[Path, list[str]]) -> None:
    with open(written[0] / "loss.csv", newline="") as table:
        rows = list(csv.DictReader(table))
    assert [row["step"] for row in rows if row["loss"]] == ["1", "2", "3", "4"]
    assert [row["step"] for row in rows if row["validation_loss"]] == ["0", "2", "4"]
    metrics = json.loads((written[0] / "metrics.json").read_text())
    best = min(float(row["validation_loss"]) for row in rows if row["validation_loss"] and row["step"] != "0")
    assert best == metrics["validation_loss"]


def test_the_picture_shows_the_losses(tmp_path: Path) -> None:
    """Another history gives another picture; the same one the same picture."""
    rows = [{"step": n, "loss": 3.0 / n} for n in range(1, 9)] + [{"step": 8, "validation_loss": 0.7}]
    draw(rows, tmp_path / "a.png")
    draw(rows, tmp_path / "b.png")
    draw([{**row, "loss": 1.0} if "loss" in row else row for row in rows], tmp_path / "c.png")
    first, same, other = (np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB")) for name in "abc")
    assert first.shape[0] > 300 and first.shape[1] > 600
    assert np.array_equal(first, same) and not np.array_equal(first, other)


def test_picture_and_card_go_with_the_adapter_into_the_registry(
    written: tuple[Path, list[str]], tmp_path: Path
) -> None:
    record = AdapterRegistry([], tmp_path / "adapters").add(written[0])
    kept = {path.name for path in record.folder.iterdir()}
    assert {"loss.png", "loss.csv", "metrics.json", "README.md"} <= kept and "settings.yaml" not in kept


def test_what_the_feature_cache_spared_is_told(written: tuple[Path, list[str]]) -> None:
    told = next(line for line in written[1] if line.startswith("Vision features: "))
    # six clips in two epochs, two held out measured three times (base and each epoch), and counted once for their text
    assert "8 computed once" in told and "read 18 times" in told
    assert json.loads((written[0] / "metrics.json").read_text())["vision_seconds"] >= 0.0
