"""How much memory a QLoRA run needs, predicted from the configuration before anything is loaded.

The terms, besides those of ``services.memory``:
- LoRA parameters are float32, each with its gradient and AdamW's two moments: 16 bytes (Loshchilov & Hutter 2019).
- Saved for backward, without checkpointing, per token and layer: see ``saved_per_token``; it was read off transformers'
  and PEFT's code, in the way of Korthikanti et al. 2022 (*Reducing Activation Recomputation*, section 4), and a test
  counts what autograd saves.
- With checkpointing every layer keeps its input and one layer at a time is computed again (Chen et al. 2016).
- The head sees answer places only: logits in the compute type, as float32, their log-softmax and gradient
  (``training.steps``).
"""

from __future__ import annotations

from services.memory import CONTEXT, ELEMENT, Estimate, Form, Sizes, prefill_bytes, vision_bytes, weight_bytes
from training.attention import BLOCK

TRAINED = 16
"""Bytes a trained parameter costs: value, gradient and two moments in float32."""

LOGIT = {"bfloat16": 2 + 4 + 4 + 4, "float32": 4 + 4 + 4}
"""Bytes a logit of an answer place costs: in the compute type, as float32 (which it may be already), log-softmax and
gradient."""

CHOSEN = ("language", "vision", "all")


def saved_per_token(model: Sizes, rank: int, dropout: float, mask: int = 1, dtype: str = "bfloat16") -> int:
    """Bytes that one language layer keeps per token for backward, with LoRA on all seven projections, in float32 or
    under bfloat16 autocast. ``mask``: bytes of one element of a dropout mask (1 on CUDA, those of ``dtype`` on CPU)."""
    element = ELEMENT[dtype]
    norms = 2 * 4 * model.hidden + (4 * (model.queries + model.keys) if model.qk_norm else 0)
    attention = element * (2 * model.queries + 2 * model.keys)
    mlp = element * 3 * model.intermediate
    if dropout > 0.0:  # every projection has a masked copy of its input of its own
        inputs = (element + mask) * (5 * model.hidden + model.queries + model.intermediate)
    else:
        inputs = element * (2 * model.hidden + model.intermediate)
    return norms + attention + mlp + inputs + element * 7 * rank


def saved_per_patch(model: Sizes, rank: int, dtype: str = "bfloat16") -> int:
    """The same for one block of the vision tower and one patch, when its linears are trained (no dropout counted)."""
    wide, inner = model.vision_hidden, model.vision_intermediate
    return ELEMENT[dtype] * (4 * wide + 4 * wide + 4 * wide + 2 * inner + 4 * rank)


def saved_bytes(
    model: Sizes,
    tokens: int,
    rank: int,
    dropout: float,
    *,
    checkpointing: bool,
    mask: int = 1,
    dtype: str = "bfloat16",
) -> int:
    """Bytes kept for backward over ``tokens`` tokens of all language layers and the last norm."""
    layer = tokens * saved_per_token(model, rank, dropout, mask, dtype)
    last = tokens * 4 * model.hidden
    if checkpointing:
        return model.layers * tokens * ELEMENT[dtype] * model.hidden + layer + last
    return model.layers * layer + last


def attention_bytes(model: Sizes, rows: int, length: int, dtype: str = "bfloat16") -> int:
    """Bytes of the attention weights that ``training.attention`` keeps for one layer over ``rows`` sequences of
    ``length``: the lower triangle, up to a block. The fused kernels of GPUs keep none."""
    blocks = [(min(start + BLOCK, length) - start, min(start + BLOCK, length)) for start in range(0, length, BLOCK)]
    return rows * model.heads * sum(high * wide for high, wide in blocks) * ELEMENT[dtype]


def training(
    model: Sizes,
    *,
    trained: int,
    tokens: int,
    answer_tokens: int,
    patches: int,
    targets: str = "language",
    rank: int = 16,
    dropout: float = 0.05,
    form: Form = "nf4",
    dtype: str = "bfloat16",
    checkpointing: bool = False,
    features_cached: bool = True,
    attention: int = 0,
    mask: int = 1,
    context: int = CONTEXT,
) -> Estimate:
    """Peak of one optimizer step. ``trained``: LoRA parameters (``architectures.attach_report``); ``tokens``,
    ``answer_tokens`` and ``patches``: of one whole batch, padding included. ``form`` is the
    weights', ``dtype`` that of everything else. ``attention``: bytes of attention weights kept by one layer
    (``attention_bytes``, on CPUs), ``mask`` as in ``saved_per_token``. With cached vision features the tower runs
    before training, one clip at a time, not beside it."""
    deep = targets in ("vision", "all")
    if deep:
        blocks = 1 if checkpointing else model.vision_layers
        kept = model.vision_layers * patches * ELEMENT[dtype] * model.vision_hidden if checkpointing else 0
        tower = kept + blocks * patches * saved_per_patch(model, rank, dtype) + vision_bytes(model, patches, dtype)
    else:
        tower = 0 if features_cached else vision_bytes(model, patches, dtype)
    layers = 1 if checkpointing else model.layers
    return Estimate(
        {
            **weight_bytes(model, form, dtype),
            "LoRA, gradients, AdamW": TRAINED * trained,
            f"activations, {tokens} tokens": saved_bytes(
                model, tokens, rank, dropout, checkpointing=checkpointing, mask=mask, dtype=dtype
            )
            + prefill_bytes(model, tokens, dtype)
            + layers * attention,
            f"logits, {answer_tokens} answer tokens": answer_tokens * model.vocabulary * LOGIT[dtype],
            **({"vision tower": tower} if tower else {}),
            **({"CUDA itself (assumed)": context} if context else {}),
        }
    )
