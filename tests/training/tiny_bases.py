"""Untrained Qwen-VL bases of each architecture, small enough for a test, with the demo's tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
)

from training.demo import model as demo
from training.demo.corpus import tokenizer_texts

ARCHITECTURES = ("qwen3_vl", "qwen2_vl", "qwen2_5_vl")


def write(architecture: str, folder: Path) -> None:
    """A loadable base of ``architecture`` in ``folder``."""
    if architecture == "qwen3_vl":
        of = demo.processor(tokenizer_texts())
        demo.save(demo.random_model(of), of, folder)
        return
    tokenizer = demo.tokenizer(tokenizer_texts())
    sizes = {"shortest_edge": 12544, "longest_edge": 30400}
    pictures: dict[str, Any] = {"patch_size": 14, "temporal_patch_size": 2, "merge_size": 2, "size": sizes}
    older = architecture == "qwen2_vl"
    processor = (Qwen2VLProcessor if older else Qwen2_5_VLProcessor)(
        image_processor=Qwen2VLImageProcessor(**pictures),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(**pictures),
        chat_template=demo.CHAT_TEMPLATE.replace("<|video_pad|>\n", "<|vision_start|><|video_pad|><|vision_end|>\n"),
    )
    torch.manual_seed(0)
    model = (_qwen2 if older else _qwen2_5)({name: tokenizer.convert_tokens_to_ids(name) for name in demo.SPECIALS})
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def _common(ids: dict[str, int]) -> dict[str, Any]:
    return {
        "text_config": {
            "vocab_size": demo.VOCABULARY,
            "hidden_size": 192,
            "intermediate_size": 512,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "num_key_value_heads": 1,
            "max_position_embeddings": 4096,
            "pad_token_id": ids[demo.PAD],
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [12, 10, 10]},
            "tie_word_embeddings": True,
        },
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "tie_word_embeddings": True,
    }


def _qwen2(ids: dict[str, int]) -> Qwen2VLForConditionalGeneration:
    tower = {"depth": 2, "embed_dim": 128, "hidden_size": 192, "num_heads": 2, "mlp_ratio": 2, "patch_size": 14}
    return Qwen2VLForConditionalGeneration(Qwen2VLConfig(vision_config=tower, **_common(ids)))


def _qwen2_5(ids: dict[str, int]) -> Qwen2_5_VLForConditionalGeneration:
    tower = {
        "depth": 2,
        "hidden_size": 128,
        "intermediate_size": 256,
        "out_hidden_size": 192,
        "num_heads": 2,
        "patch_size": 14,
        "fullatt_block_indexes": [1],
    }
    return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(vision_config=tower, **_common(ids)))
