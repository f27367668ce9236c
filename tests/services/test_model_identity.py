"""Digests that tie adapters to their base."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from services.errors import ModelError
from services.model_identity import identify


def model(folder: Path, config: dict[str, object], seed: int = 0) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file({"w": np.random.default_rng(seed).normal(size=4)}, folder / "model.safetensors")
    return folder


def test_a_quantised_release_has_the_same_architecture_and_other_weights(tmp_path: Path) -> None:
    config = {"hidden_size": 64, "text_config": {"layers": 2, "dtype": "bfloat16"}}
    quantised = {
        "hidden_size": 64,
        "text_config": {"layers": 2, "dtype": "float8"},
        "quantization_config": {"quant_method": "fp8"},
        "transformers_version": "9",
    }
    plain = identify(model(tmp_path / "plain", config))
    other = identify(model(tmp_path / "fp8", quantised, seed=1))
    assert plain.architecture == other.architecture and plain.weights != other.weights


def test_another_size_is_another_architecture(tmp_path: Path) -> None:
    small = identify(model(tmp_path / "small", {"text_config": {"layers": 2}}))
    large = identify(model(tmp_path / "large", {"text_config": {"layers": 3}}))
    assert small.architecture != large.architecture and small.weights == large.weights


def test_a_folder_without_weights_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"no \*\.safetensors"):
        identify(tmp_path)
