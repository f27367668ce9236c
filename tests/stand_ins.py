"""The real checkpoints, made here: processors of the exact classes and settings, and random models scaled down.

What is real: processor classes and settings, patch, merge and temporal patch, head size and rotary sections, the size
of the vocabulary, the ids of the special tokens, the tokenizer's class with its splitting rule. What stands in: the
words of the tokenizer (bytes, then fillers up to the real size), the weights, the widths and depths, and the chat
template, which is written from the published one's documented structure, without tools: roles between ``<|im_start|>``
and ``<|im_end|>``, a pair of vision marks around every image and video, a default system turn (Qwen2-VL, Qwen2.5-VL),
and thoughts that the template opens (Thinking).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, pre_tokenizers
from transformers import AutoModelForImageTextToText, GenerationConfig, ProcessorMixin
from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer

from services.architectures import Architecture, architecture, config_of

WORDS = 151_643
"""Ordinary tokens of the Qwen2 and Qwen3 tokenizers; the special ones begin here."""

TEMPLATE = """\
{%- for message in messages -%}
{%- if loop.first and message.role != 'system' and DEFAULT_SYSTEM -%}
<|im_start|>system
You are a helpful assistant.<|im_end|>
{% endif -%}
<|im_start|>{{ message.role }}
{% if message.content is string -%}
{{ message.content }}
{%- else -%}
{%- for item in message.content -%}
{%- if item.type == 'image' -%}
<|vision_start|><|image_pad|><|vision_end|>
{%- elif item.type == 'video' -%}
<|vision_start|><|video_pad|><|vision_end|>
{%- elif item.type == 'text' -%}
{{ item.text }}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% if THINKING -%}
<think>
{% endif -%}
{%- endif -%}
"""


def chat_template(of: Architecture, *, thinking: bool = False) -> str:
    """The stand-in template of ``of``, ``thinking``: of its Thinking release."""
    older = of.processor != "Qwen3VLProcessor"
    return TEMPLATE.replace("DEFAULT_SYSTEM", str(older).lower()).replace("THINKING", str(thinking).lower())


def tokenizer(of: Architecture) -> Qwen2Tokenizer:
    """A tokenizer of the real class and size: every byte is a token, the others never come out of a text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    fillers = (f"Ġw{number}" for number in range(WORDS - len(alphabet)))
    specials = sorted(of.special_tokens, key=of.special_tokens.__getitem__)
    vocabulary = {token: index for index, token in enumerate([*alphabet, *fillers, *specials])}
    made = Qwen2Tokenizer(vocab=vocabulary, merges=[], eos_token="<|im_end|>", pad_token="<|endoftext|>")
    made.add_tokens([AddedToken(token, special=not token.endswith("think>")) for token in specials])
    return made


def processor(name: str, *, thinking: bool = False) -> ProcessorMixin:
    """The processor of the architecture ``name`` with its real settings and the stand-in tokenizer and template."""
    of = architecture(name)
    parts = {}
    for part in ("image_processor", "video_processor"):
        values = dict(getattr(of, part))
        parts[part] = getattr(transformers, values.pop("class"))(**values)
    return getattr(transformers, of.processor)(
        **parts, tokenizer=tokenizer(of), chat_template=chat_template(of, thinking=thinking)
    )


def scaled_down(name: str) -> Any:
    """The configuration of ``name`` with narrow, few layers; head size, rotary sections, vocabulary, patches and ids
    are the real ones."""
    config = config_of(architecture(name).config)
    text, vision = config.text_config, config.vision_config
    text.hidden_size, text.intermediate_size, text.num_hidden_layers = 256, 256, 4
    text.num_attention_heads, text.num_key_value_heads = 2, 1
    if getattr(text, "layer_types", None):
        text.layer_types = ["full_attention"] * 4
    vision.depth, vision.num_heads = 4, 2
    vision.intermediate_size = 128
    if name == "qwen2-vl-2b":
        vision.embed_dim, vision.hidden_size, vision.mlp_ratio = 64, 256, 2
    else:
        vision.hidden_size, vision.out_hidden_size = 64, 256
    if hasattr(vision, "deepstack_visual_indexes"):
        vision.deepstack_visual_indexes = [0, 1, 2]
    if hasattr(vision, "fullatt_block_indexes"):
        vision.fullatt_block_indexes = [3]
    config.dtype = text.dtype = vision.dtype = torch.float32
    return config


def write(name: str, folder: Path, *, thinking: bool = False) -> Path:
    """A loadable checkpoint in ``folder``: processor, tokenizer and a random model of ``name``, scaled down."""
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(scaled_down(name), dtype=torch.float32)
    with torch.no_grad():  # at the usual small scale a random model says one token for ever
        for path, weight in model.named_parameters():
            if weight.ndim >= 2 and "visual" not in path and "embed_tokens" not in path:
                weight.normal_(std=0.1)
    specials = architecture(name).special_tokens
    model.generation_config = GenerationConfig(
        eos_token_id=[specials["<|im_end|>"], specials["<|endoftext|>"]], pad_token_id=specials["<|endoftext|>"]
    )
    model.save_pretrained(folder)
    processor(name, thinking=thinking).save_pretrained(folder)
    return folder
