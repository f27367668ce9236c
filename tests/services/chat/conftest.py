"""A real Qwen3-VL of the demo's architecture with lively random weights, and adapters that change its answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForImageTextToText

from services.chat.chat_model import AdapterRef
from services.chat.engine import Engine, load_engine
from services.schema import Frames, Sampling
from training.demo import model as demo
from training.demo.corpus import tokenizer_texts

TARGETS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"


def load(folder: Path) -> Engine:
    return load_engine(
        folder,
        Sampling(),
        min_pixels=16384,
        max_pixels=30400,
        dtype="float32",
        device="cpu",
        quantisation="none",
    )


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights at their usual small scale all say the same token; scaled up, answers differ and end."""
    folder = tmp_path_factory.mktemp("base")
    processor = demo.processor(tokenizer_texts())
    model = demo.random_model(processor)
    torch.manual_seed(3)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim >= 2 and "visual" not in name:
                weight.normal_(std=0.12)
    demo.save(model, processor, folder)
    return folder


def make_adapter(base: Path, folder: Path, *, scale: float, seed: int) -> AdapterRef:
    torch.manual_seed(seed)
    model = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
    tuned = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=TARGETS))
    with torch.no_grad():
        for name, weight in tuned.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=scale) if scale else weight.zero_()
    tuned.save_pretrained(folder)
    return AdapterRef(folder.name, folder, f"{scale}-{seed}")


@pytest.fixture(scope="session")
def adapters(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, AdapterRef]:
    root = tmp_path_factory.mktemp("adapters")
    return {
        name: make_adapter(base_folder, root / name, scale=scale, seed=seed)
        for name, scale, seed in (("one", 0.05, 1), ("two", 0.05, 2), ("idle", 0.0, 3))
    }


@pytest.fixture(scope="session")
def frames() -> Frames:
    rgb = np.random.default_rng(5).integers(0, 256, (16, 256, 448, 3), dtype=np.uint8)
    return Frames(rgb, np.linspace(0.0, 7.5, 16))
