"""How much memory a Qwen-VL model needs, from its configuration alone. Predictions for planning, in bytes.

Where the terms come from:
- NF4 with double quantisation: half a byte a weight, one 8-bit scale per 64 weights and one 32-bit scale per 256 of
  those, so 4.127 bits a weight (Dettmers et al. 2023, *QLoRA*, section 3; a test compares with bitsandbytes).
- Fine-grained FP8: one byte a weight and one 32-bit scale per block of 128 × 128 (DeepSeek-V3 report, section 3.3).
- Keys and values: 2 · layers · kv heads · head size · element size a token (a test compares with transformers' cache).
- Activations: what one layer holds at once while it runs, read off transformers' modelling code.
- ``CONTEXT`` is what CUDA and its libraries take before the first tensor; an assumption, since it differs by driver.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from services.architectures import described, on_meta, parameters

Form = Literal["none", "nf4", "fp8"]
GIB = 1 << 30
CONTEXT = GIB // 2
ELEMENT = {"float32": 4, "bfloat16": 2, "float16": 2}
SCORE_ELEMENT = 10
"""Bytes a logit takes while it is scored: in bfloat16, as float32, and its log-softmax."""

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the formulae need of a model. ``total``: all parameters; ``projections``: weights of the language layers'
    linears (what is quantised; biases are not); ``modules``: how many; ``qk_norm``: whether queries and keys
    are normed."""

    total: int
    projections: int
    modules: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    qk_norm: bool
    vision_hidden: int
    vision_intermediate: int
    vision_layers: int
    patch: int
    merge: int
    temporal_patch: int

    @property
    def queries(self) -> int:
        return self.heads * self.head_dim

    @property
    def keys(self) -> int:
        return self.kv_heads * self.head_dim

    def patches(self, frames: int, pixels: int) -> int:
        """Vision patches of ``frames`` pictures of ``pixels`` each."""
        return -(-frames // self.temporal_patch) * (pixels // self.patch**2)

    def tokens(self, frames: int, pixels: int) -> int:
        """Language tokens that these pictures become."""
        return self.patches(frames, pixels) // self.merge**2


@dataclass(frozen=True, slots=True)
class Estimate:
    """``parts``: what is held, in bytes, by name, in the order they arise; ``total`` is the predicted peak."""

    parts: Mapping[str, int]

    @property
    def total(self) -> int:
        return sum(self.parts.values())

    def lines(self) -> list[str]:
        """One line a part and the sum, for a person."""
        rows = [*self.parts.items(), ("together", self.total)]
        return [f"{name:<36}{size / GIB:8.2f} GB" for name, size in rows]


@lru_cache(maxsize=16)
def sizes(model: str) -> Sizes:
    """Sizes of ``model``: a folder with config.json, the name of a written architecture, or a hub id that has one."""
    return sizes_of(described(model))


def sizes_of(config: Any) -> Sizes:
    """Sizes of the model that ``config`` (a Qwen-VL configuration) describes; counted on the meta device."""
    model = on_meta(config)
    text, vision = config.text_config, config.vision_config
    linears = [
        module
        for name, module in model.named_modules()
        if ".language_model.layers." in name and name.rpartition(".")[2] in PROJECTIONS
    ]
    width = getattr(vision, "embed_dim", None) or vision.hidden_size
    return Sizes(
        total=parameters(model),
        projections=sum(module.weight.numel() for module in linears),
        modules=len(linears),
        hidden=text.hidden_size,
        intermediate=text.intermediate_size,
        layers=text.num_hidden_layers,
        heads=text.num_attention_heads,
        kv_heads=text.num_key_value_heads,
        head_dim=getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads,
        vocabulary=text.vocab_size,
        qk_norm=any(name.endswith("q_norm") for name, _ in model.named_modules()),
        vision_hidden=width,
        vision_intermediate=getattr(vision, "intermediate_size", None) or int(width * vision.mlp_ratio),
        vision_layers=vision.depth,
        patch=vision.patch_size,
        merge=vision.spatial_merge_size,
        temporal_patch=vision.temporal_patch_size,
    )


def weight_bytes(model: Sizes, form: Form, dtype: str = "bfloat16") -> dict[str, int]:
    """Bytes of the language layers' linears in ``form`` and of all else in ``dtype``."""
    element = ELEMENT[dtype]
    if form == "nf4":
        blocks = -(-model.projections // 64)
        # 16 values of NF4 and 256 of the scales' own code, and an offset, stand beside every matrix.
        linears = model.projections // 2 + blocks + 4 * -(-blocks // 256) + model.modules * 4 * (16 + 256 + 1)
    elif form == "fp8":
        linears = model.projections + 4 * -(-model.projections // 128**2)
    else:
        linears = model.projections * element
    name = {"nf4": "language layers, NF4", "fp8": "language layers, FP8"}.get(form, f"language layers, {dtype}")
    return {name: linears, f"vision, embeddings, norms, {dtype}": (model.total - model.projections) * element}


def cache_bytes(model: Sizes, tokens: int, dtype: str = "bfloat16") -> int:
    """Bytes of the keys and values of ``tokens`` tokens."""
    return 2 * model.layers * model.keys * tokens * ELEMENT[dtype]


def prefill_bytes(model: Sizes, tokens: int, dtype: str = "bfloat16") -> int:
    """Bytes one language layer holds at once over ``tokens``: residual, its float32 norm, and gate, its activation,
    up and their product, or queries, keys, values and the output, whichever is more."""
    element = ELEMENT[dtype]
    mlp = 4 * model.intermediate * element
    attention = (3 * model.queries + 2 * model.keys) * element
    return tokens * (2 * model.hidden * element + 4 * model.hidden + max(mlp, attention))


def vision_bytes(model: Sizes, patches: int, dtype: str = "bfloat16") -> int:
    """Bytes the vision tower holds at once over ``patches``: the pixels in float32 and in ``dtype``, and one block's
    residual, norm, queries, keys, values with their rotated float32 copies, or its inner layer before and after the
    activation."""
    element = ELEMENT[dtype]
    pixels = 3 * model.temporal_patch * model.patch**2 * (4 + element)
    attention = 5 * model.vision_hidden * element + 4 * 4 * model.vision_hidden
    mlp = 2 * model.vision_intermediate * element
    return patches * (pixels + 2 * model.vision_hidden * element + max(attention, mlp))


def inference(
    model: Sizes,
    *,
    form: Form,
    dtype: str = "bfloat16",
    frames: int,
    pixels: int,
    text_tokens: int,
    new_tokens: int,
    rows: int = 2,
    scored: int = 0,
    embedder: int = 0,
    context: int = CONTEXT,
) -> Estimate:
    """Peak of one analysis in this process: ``rows`` variants of one prompt in one batch. ``frames`` of ``pixels``
    each, ``text_tokens`` around them, ``new_tokens`` generated at most; ``scored``: places whose logits are read at
    once; ``embedder``: bytes of the retriever. Vision tower and language model do not peak together."""
    tokens = model.tokens(frames, pixels) + text_tokens
    work = max(
        vision_bytes(model, model.patches(frames, pixels), dtype),
        prefill_bytes(model, rows * tokens, dtype),
        rows * scored * model.vocabulary * SCORE_ELEMENT,
    )
    return Estimate(
        {
            **weight_bytes(model, form, dtype),
            **({"retriever": embedder} if embedder else {}),
            f"keys and values, {rows} × {tokens + new_tokens} tokens": cache_bytes(
                model, rows * (tokens + new_tokens), dtype
            ),
            "activations": work,
            **({"CUDA itself (assumed)": context} if context else {}),
        }
    )
