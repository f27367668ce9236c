"""What doctor says about a model's files, memory and context before anything is loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from services.fit import context_needed, fit, incomplete
from services.settings import ROOT, profile

BASE = ROOT / "assets/demo/base"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(BASE, tmp_path / "base")
    return tmp_path / "base"


def test_a_whole_model_lacks_nothing() -> None:
    assert incomplete(BASE) == []


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "processor_config.json", "model.safetensors"])
def test_every_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert incomplete(folder) == [name]


def test_a_shard_that_did_not_arrive_is_named(folder: Path) -> None:
    shards = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(shards))
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    assert incomplete(folder) == ["model-00002-of-00002.safetensors"]


def test_weights_on_a_server_are_not_missed(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert incomplete(folder, weights=False) == []


def test_the_gpu_profiles_context_holds_the_largest_clip_and_the_longest_answer() -> None:
    chosen = profile("gpu")
    assert context_needed(chosen, Path("qwen3-vl-4b")) <= chosen.context


def test_a_model_larger_than_the_machine_does_not_fit() -> None:
    found = fit(profile("demo"), BASE, "cpu")
    assert found.good
    assert not type(found)(found.there + 1, found.there, found.device).good
