"""What is refused before anything loads an adapter."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import json
import re
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.adapters import validate, write_record
from services.adapters_check import CONFIG_FIELDS
from services.errors import AdapterError
from tests.services.adapter_cases import (
    CONFIG,
    MODULE,
    RECORD,
    Tensors,
    make,
    pair,
    safetensors,
    tensor,
    with_value,
)


def refusal(folder: Path) -> str:
    with pytest.raises(AdapterError) as caught:
        validate(folder)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 700
    return str(caught.value)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return make(tmp_path / "run")


# ---- a plain adapter -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("targets", [["q_proj"], ["self_attn.q_proj", "v_proj"], "all-linear"])
def test_a_plain_adapter_is_accepted_with_its_record(tmp_path: Path, kind: str, targets: Any) -> None:
    record = validate(make(tmp_path, tensors=pair(kind=kind), target_modules=targets))
    assert (record.name, record.task, record.rank, record.folder) == ("mounting", "mounting", 4, tmp_path)
    assert (record.architecture, record.weights, record.preprocessing) == ("a" * 64, "b" * 64, "c" * 64)
    assert record.metrics["by_light"] == {"night": 0.94}


def test_the_pattern_that_training_writes_is_accepted(tmp_path: Path) -> None:
    suffixes = "q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj"
    pattern = rf"model\.language_model\.layers\.\d+\.(self_attn|mlp)\.({suffixes})"
    assert validate(make(tmp_path, target_modules=pattern)).rank == 4


@pytest.mark.parametrize("module", ["model.visual.blocks.0.attn.qkv", "visual.blocks.3.mlp.gate_proj"])
def test_an_adapter_with_a_vision_side_is_refused_in_words(tmp_path: Path, module: str) -> None:
    """Served rows share one pass of the tower: such an adapter would change the base's answers too."""
    targets = rf"(model\.language_model\.layers\.\d+\.self_attn\.q_proj)|({module.replace('.', chr(92) + '.')})"
    text = refusal(make(tmp_path, tensors=pair() | pair(module), target_modules=targets))
    assert "vision tower" in text and "--targets language" in text and module in text


def test_the_digest_covers_configuration_and_weights(tmp_path: Path, adapter: Path) -> None:
    first = validate(adapter).digest
    assert validate(make(tmp_path / "same", record=RECORD | {"name": "other"})).digest == first
    assert validate(make(tmp_path / "alpha", lora_alpha=16)).digest != first
    assert validate(make(tmp_path / "kind", tensors=pair(kind="F16"))).digest != first


def test_the_known_fields_are_those_of_the_installed_peft() -> None:
    """Read from its source: importing it would load torch."""
    spec = importlib.util.find_spec("peft")
    assert spec is not None and spec.origin is not None
    found: set[str] = set()
    for file, names in (("config.py", {"PeftConfigMixin", "PeftConfig"}), ("tuners/lora/config.py", {"LoraConfig"})):
        for node in ast.parse((Path(spec.origin).parent / file).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name in names:
                found |= {item.target.id for item in node.body if isinstance(item, ast.AnnAssign)}  # type: ignore[union-attr]
    assert found == set(CONFIG_FIELDS)


# ---- configuration -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        {"auto_mapping": {"base_model_class": "X", "parent_library": "os"}},
        {"runtime_config": {"ephemeral_gpu_offload": True}},
        {"megatron_config": {"a": 1}, "megatron_core": "evil"},
        {"megatron_core": "megatron.core.evil"},
        {"modules_to_save": ["lm_head"]},
        {"peft_type": "IA3"},
        {"peft_type": ["LORA"]},
        {"use_dora": True},
        {"lora_bias": True},
        {"bias": "all"},
        {"init_lora_weights": "pissa"},
        {"init_lora_weights": "eva"},
        {"loftq_config": {"loftq_bits": 4}},
        {"rank_pattern": {"q_proj": 8}},
        {"alpha_pattern": {"q_proj": 1e9}},
        {"layer_replication": [[0, 9]]},
        {"trainable_token_indices": [1]},
        {"target_parameters": ["x"]},
        {"target_modules": []},
        {"target_modules": None},
        {"target_modules": ["q_proj"] * 3000},
        {"target_modules": ["../x"]},
        {"target_modules": "(a+)+$"},
        {"target_modules": "(a|aa)(a|aa)(a|aa)(a|aa)(a|aa)(a|aa)(a|aa)"},
        {"target_modules": "a?" * 30 + "a" * 30},
        {"target_modules": ".*a.*a.*a.*a.*a"},
        {"target_modules": "(q_proj"},
        {"target_modules": r"(q)\1"},
        {"target_modules": "(?=q).*"},
        {"target_modules": "q" * 600},
        {"r": 0},
        {"r": 100_000},
        {"r": True},
        {"r": 4.0},
        {"r": "4"},
        {"lora_alpha": 1e9},
        {"lora_alpha": -1},
        {"lora_dropout": 2},
        {"base_model_name_or_path": "x" * 5000},
        {"revision": "a\nb"},
        {"task_type": "EVIL"},
        {"layers_to_transform": [-1]},
    ],
)
def test_configurations_that_are_not_plain_lora_are_refused(tmp_path: Path, config: dict[str, Any]) -> None:
    text = refusal(make(tmp_path, **config))
    assert "is refused" in text or "lacks" in text
    assert next(iter(config)) in text or "megatron" in text


def test_unknown_fields_are_named(tmp_path: Path) -> None:
    assert "unknown fields (zz_custom_class)" in refusal(make(tmp_path, zz_custom_class="os.system"))


@pytest.mark.parametrize("missing", ["peft_type", "r", "lora_alpha", "target_modules"])
def test_required_fields_are_named(adapter: Path, missing: str) -> None:
    (adapter / "adapter_config.json").write_text(json.dumps({k: v for k, v in CONFIG.items() if k != missing}))
    assert f"lacks {missing}" in refusal(adapter)


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"r": NaN}', "[" * 100_000, '{"a": "' + "x" * 300_000 + '"}', "\ud800"]
)
def test_what_is_not_a_small_json_object_is_refused(adapter: Path, content: str) -> None:
    (adapter / "adapter_config.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    assert "adapter_config.json" in refusal(adapter)


@given(pattern=st.text("aq_.*+?()|\\d[]$^:", max_size=60))
def test_no_accepted_pattern_takes_long(pattern: str) -> None:
    """Catastrophic patterns are refused, so that matching any accepted one against a hostile path is quick."""
    if CONFIG_FIELDS["target_modules"](pattern):
        began = time.perf_counter()
        re.fullmatch(pattern, "a" * 127 + "b")
        assert time.perf_counter() - began < 1.0


# ---- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["adapter_model.bin", "x.pt", "optimizer.PKL", "modeling.py", "deep/er/x.so", "a.ckpt"]
)
def test_anything_that_could_carry_code_is_refused(adapter: Path, name: str) -> None:
    (adapter / name).parent.mkdir(parents=True, exist_ok=True)
    (adapter / name).write_bytes(b"")
    assert name in refusal(adapter)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_missing_files_are_named(adapter: Path, name: str) -> None:
    (adapter / name).unlink()
    assert f"has no {name}" in refusal(adapter)


def test_a_missing_record_says_how_to_make_it(adapter: Path) -> None:
    (adapter / "herdlens.json").unlink()
    text = refusal(adapter)
    assert "has no herdlens.json" in text and "Qlora_train.py" in text and "preprocessing" in text
    write_record(adapter, RECORD)
    assert validate(adapter).base_model == "herdlens-demo"


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert "is not a folder" in refusal(tmp_path / "file") and "is not a folder" in refusal(tmp_path / "no")


# ---- weights -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, kind: str, value: float) -> None:
    assert "NaN or infinite" in refusal(make(tmp_path, tensors=with_value(kind, value)))


def test_the_largest_bfloat16_is_finite(tmp_path: Path) -> None:
    assert validate(make(tmp_path, tensors=with_value("BF16", 3.38e38))).rank == 4


A, B = f"base_model.model.{MODULE}.lora_A.weight", f"base_model.model.{MODULE}.lora_B.weight"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.pop(A), "only one of lora_A and lora_B"),
        (lambda t: t.clear(), "holds no tensors"),
        (lambda t: t.update({A: tensor(5, 8)}), "shape (5, 8)"),
        (lambda t: t.update({B: tensor(6, 8)}), "shape (6, 8)"),
        (lambda t: t.update({A: ("F32", [4, 2, 4], bytes(128))}), "shape (4, 2, 4)"),
        (lambda t: t.update({A: ("F32", [4, 0], b"")}), "shape (4, 0)"),
        (lambda t: t.update({A: ("I32", [4, 8], bytes(128))}), "type I32"),
        (lambda t: t.update({"base_model.model.lm_head.weight": tensor(4, 8)}), "only lora_A and lora_B"),
        (lambda t: t.update({f"base_model.model.{MODULE}.lora_magnitude_vector": tensor(4, 8)}), "only lora_A"),
        (lambda t: t.update({"base_model.model.a/../b.lora_A.weight": tensor(4, 8)}), "only lora_A"),
        (lambda t: t.update(pair("model.visual.blocks.0.attn.qkv")), "target_modules does not name"),
        (lambda t: t.update(pair("x." * 100 + "q_proj")), "characters"),
    ],
)
def test_tensors_that_are_no_plain_pairs_are_refused(
    tmp_path: Path, change: Callable[[Tensors], Any], says: str
) -> None:
    tensors = pair()
    change(tensors)
    assert says in refusal(make(tmp_path, tensors=tensors))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04K\x01.",
        safetensors(pair())[:-1],
        safetensors(pair()) + b"x",
        struct.pack("<Q", 1 << 60) + b"{}",
        safetensors({A: ("F32", [1 << 40, 1 << 40], b"1234")}),
    ],
)
def test_broken_safetensors_are_refused(tmp_path: Path, content: bytes) -> None:
    assert "not a whole safetensors file" in refusal(make(tmp_path, tensors=content))


# ---- the record ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../x"},
        {"name": "base"},
        {"name": "lora"},
        {"name": "a.b"},
        {"task": "Mounting!"},
        {"architecture": "abc"},
        {"weights": None},
        {"extra": 1},
        {"base_model": ""},
        {"metrics": [1]},
    ],
)
def test_records_that_are_not_ours_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    text = refusal(make(tmp_path, record=RECORD | change))
    assert "herdlens.json" in text and next(iter(change)) in text


def test_write_record_refuses_what_validate_would_and_writes_only_its_keys(adapter: Path) -> None:
    with pytest.raises(AdapterError, match="NaN"):
        write_record(adapter, RECORD | {"metrics": {"loss": float("nan")}})
    with pytest.raises(AdapterError, match="weights"):
        write_record(adapter, {key: value for key, value in RECORD.items() if key != "weights"})
    write_record(adapter, dataclasses.replace(validate(adapter), name="again"))
    assert json.loads((adapter / "herdlens.json").read_text()) == RECORD | {"name": "again"}
    assert sorted(path.name for path in adapter.iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "herdlens.json",
    ]  # fmt: skip
