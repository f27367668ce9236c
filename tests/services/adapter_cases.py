"""What the tests of adapters share: small adapter folders, written by hand."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file, save_file

from services.settings import ROOT

SHIPPED = ROOT / "assets" / "demo" / "adapters" / "mounting"
RECORD: dict[str, Any] = {
    "name": "mounting",
    "task": "mounting",
    "base_model": "herdlens-demo",
    "architecture": "a" * 64,
    "weights": "b" * 64,
    "preprocessing": "c" * 64,
    "metrics": {"balanced_accuracy": 0.96, "by_light": {"night": 0.94}},
    "created_at": "2026-11-21T10:00:00+00:00",
}
CONFIG: dict[str, Any] = {
    "alora_invocation_tokens": None, "alpha_pattern": {}, "arrow_config": None, "auto_mapping": None,
    "base_model_name_or_path": "assets/demo/base", "bias": "none", "corda_config": None, "ensure_weight_tying": False,
    "eva_config": None, "exclude_modules": None, "fan_in_fan_out": False, "inference_mode": True,
    "init_lora_weights": True, "kasa_config": None, "layer_replication": None, "layers_pattern": None,
    "layers_to_transform": None, "loftq_config": {}, "lora_alpha": 8, "lora_bias": False, "lora_dropout": 0.05,
    "lora_ga_config": None, "megatron_config": None, "megatron_core": "megatron.core", "modules_to_save": None,
    "monteclora_config": None, "peft_type": "LORA", "peft_version": "0.21.2", "qalora_group_size": 16, "r": 4,
    "rank_pattern": {}, "revision": None, "target_modules": ["q_proj"], "target_parameters": None,
    "task_type": "CAUSAL_LM", "trainable_token_indices": None, "use_bdlora": None, "use_dora": False,
    "use_qalora": False, "use_rslora": False, "velora_config": None,
}  # fmt: skip
"""What PEFT 0.21.2 writes for a plain LoRA."""
MODULE = "model.language_model.layers.0.self_attn.q_proj"
Tensors = dict[str, tuple[str, list[int], bytes]]


def safetensors(tensors: Tensors) -> bytes:
    """The format written by hand, because NumPy has no bfloat16."""
    header, body = {}, b""
    for name, (kind, shape, data) in tensors.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def as_bytes(values: np.ndarray, kind: str) -> bytes:
    single = values.astype("<f4")
    if kind == "BF16":
        return (single.view("<u4") >> 16).astype("<u2").tobytes()
    return (single if kind == "F32" else single.astype("<f2")).tobytes()


def tensor(rows: int, columns: int, kind: str = "F32") -> tuple[str, list[int], bytes]:
    values = np.random.default_rng(1).normal(size=(rows, columns))
    return kind, [rows, columns], as_bytes(values, kind)


def pair(module: str = MODULE, rank: int = 4, kind: str = "F32") -> Tensors:
    start = f"base_model.model.{module}.lora_"
    return {f"{start}A.weight": tensor(rank, 8, kind), f"{start}B.weight": tensor(6, rank, kind)}


def make(folder: Path, *, tensors: Tensors | bytes | None = None, record: Any = None, **config: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    content = tensors if isinstance(tensors, bytes) else safetensors(pair() if tensors is None else tensors)
    (folder / "adapter_model.safetensors").write_bytes(content)
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG | config))
    (folder / "herdlens.json").write_text(json.dumps(RECORD if record is None else record))
    return folder


def with_value(kind: str, value: float) -> Tensors:
    tensors = pair(kind=kind)
    key = next(iter(tensors))
    shape, data = tensors[key][1], bytearray(tensors[key][2])
    bits = as_bytes(np.asarray([value]), kind)
    data[-len(bits) :] = bits
    tensors[key] = (kind, shape, bytes(data))
    return tensors


def shipped(folder: Path, factor: float = 1.0, **record: str) -> Path:
    """The demo's mounting adapter with every change to the base multiplied by ``factor``, and ``record`` changed."""
    shutil.copytree(SHIPPED, folder)
    file = folder / "adapter_model.safetensors"
    weights = {key: value * factor if "lora_B" in key else value for key, value in load_file(file).items()}
    save_file(weights, file, {"format": "pt"})
    told = json.loads((folder / "herdlens.json").read_text())
    (folder / "herdlens.json").write_text(json.dumps(told | record))
    return folder
