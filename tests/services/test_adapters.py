"""The adapter registry: by name, whole or not at all; and which base an adapter may run on."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from services.adapters import AdapterRegistry, check_base, validate
from services.errors import AdapterError
from tests.services.adapter_cases import (
    RECORD,
    make,
    safetensors,
    with_value,
)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return make(tmp_path / "run")


@pytest.fixture
def registry(tmp_path: Path) -> AdapterRegistry:
    make(tmp_path / "shipped/quality", record=RECORD | {"name": "quality", "task": "quality"})
    return AdapterRegistry([tmp_path / "shipped/quality"], tmp_path / "user")


# ---- the registry --------------------------------------------------------------------------------------------------


def test_added_adapters_are_copied_and_found_again(registry: AdapterRegistry, adapter: Path, tmp_path: Path) -> None:
    (adapter / "metrics.json").write_text("{}")
    (adapter / "checkpoint").mkdir()
    (adapter / "checkpoint/optimizer.safetensors").write_bytes(b"large")
    record = registry.add(adapter, "barn-7")
    for path in list(adapter.rglob("*.*")):
        path.unlink()
    fresh = AdapterRegistry([tmp_path / "shipped"], tmp_path / "user")
    assert [one.name for one in fresh.list()] == ["quality", "barn-7"] and fresh.get("barn-7") == record
    assert record.folder == tmp_path / "user/barn-7"
    assert sorted(path.name for path in record.folder.iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "herdlens.json", "metrics.json",
    ]  # fmt: skip
    assert [path.name for path in (tmp_path / "user").iterdir()] == ["barn-7"]


def test_a_refused_adapter_leaves_nothing(registry: AdapterRegistry, adapter: Path, tmp_path: Path) -> None:
    (adapter / "evil.py").write_text("")
    with pytest.raises(AdapterError):
        registry.add(adapter)
    (adapter / "evil.py").unlink()
    with pytest.raises(AdapterError, match=r"'\.\./x' cannot be"):
        registry.add(adapter, "../x")
    assert not list((tmp_path / "user").glob("*")) and not (tmp_path / "x").exists()


def test_a_name_is_taken_once(registry: AdapterRegistry, adapter: Path, tmp_path: Path) -> None:
    first = registry.add(adapter)
    assert registry.add(adapter) == first
    other = make(tmp_path / "other", lora_alpha=32)
    for name in (None, "MOUNTING", "quality"):
        with pytest.raises(AdapterError, match="another adapter"):
            registry.add(other, name)
    assert registry.get("mounting") == first


def test_removing_deletes_the_users_and_refuses_shipped_ones(
    registry: AdapterRegistry, adapter: Path, tmp_path: Path
) -> None:
    registry.add(adapter)
    registry.remove("mounting")
    assert [record.name for record in registry.list()] == ["quality"] and not list((tmp_path / "user").iterdir())
    with pytest.raises(AdapterError, match="shipped"):
        registry.remove("quality")
    with pytest.raises(AdapterError, match="no adapter 'mounting'; known are: quality"):
        registry.remove("mounting")


def test_a_broken_folder_does_not_hide_the_others(registry: AdapterRegistry, adapter: Path, tmp_path: Path) -> None:
    registry.add(adapter)
    (tmp_path / "user/mounting/payload.py").write_text("")
    assert [record.name for record in registry.list()] == ["quality"]
    assert "payload.py" in registry.problems()["mounting"]
    with pytest.raises(AdapterError, match=r"payload\.py"):
        registry.get("mounting")
    registry.remove("mounting")
    assert registry.problems() == {}


def test_a_folder_is_checked_again_when_it_changes(registry: AdapterRegistry, adapter: Path, tmp_path: Path) -> None:
    weights = registry.add(adapter).folder / "adapter_model.safetensors"
    assert "mounting" in {record.name for record in registry.list()}
    weights.write_bytes(safetensors(with_value("F32", np.nan)))
    os.utime(weights, (1, 1))
    assert "NaN" in registry.problems()["mounting"]


def test_an_empty_registry_is_fine(tmp_path: Path) -> None:
    registry = AdapterRegistry([tmp_path / "nothing"], tmp_path / "user")
    assert registry.list() == [] and registry.problems() == {}
    with pytest.raises(AdapterError, match="known are: none"):
        registry.get("x")


# ---- which base ----------------------------------------------------------------------------------------------------


def test_the_base_it_was_trained_on_gives_no_warning(adapter: Path) -> None:
    assert check_base(validate(adapter), "another-name", "a" * 64, "b" * 64, "c" * 64) == []


def test_another_architecture_or_preprocessing_is_refused_with_both_sides_named(adapter: Path) -> None:
    record = validate(adapter)
    with pytest.raises(AdapterError, match=r"herdlens-demo.*aaaaaaaaaaaa.*Qwen.*dddddddddddd"):
        check_base(record, "Qwen", "d" * 64, "b" * 64, "c" * 64, compatible_bases=["herdlens-demo"])
    with pytest.raises(AdapterError, match=r"cccccccccccc.*eeeeeeeeeeee"):
        check_base(record, "herdlens-demo", "a" * 64, "b" * 64, "e" * 64)


def test_other_weights_need_the_profiles_word_and_warn(adapter: Path) -> None:
    record = validate(adapter)
    with pytest.raises(AdapterError, match=r"herdlens-demo.*bbbbbbbbbbbb.*demo-FP8.*ffffffffffff.*compatible_bases"):
        check_base(record, "demo-FP8", "a" * 64, "f" * 64, "c" * 64, compatible_bases=["something else"])
    (warning,) = check_base(record, "demo-FP8", "a" * 64, "f" * 64, "c" * 64, compatible_bases=["herdlens-demo"])
    assert "herdlens-demo" in warning and "demo-FP8" in warning
