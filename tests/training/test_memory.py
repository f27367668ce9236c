"""The memory estimate, term by term, against the libraries that use the memory."""

from __future__ import annotations

from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForImageTextToText
from transformers.cache_utils import DynamicCache

from services import memory
from services.architectures import architecture, config_of
from services.memory import GIB, sizes, sizes_of
from training.architectures import attach_report
from training.memory import TRAINED, saved_bytes, training
from training.targets import pattern

TOKENS = 256
RANK = 16


def small(name: str) -> Any:
    """The architecture of ``name``, four layers and a few hundred wide."""
    config = config_of(architecture(name).config)
    text, vision = config.text_config, config.vision_config
    text.hidden_size, text.intermediate_size, text.num_hidden_layers = 512, 1536, 4
    text.num_attention_heads, text.num_key_value_heads, text.vocab_size = 4, 2, 1000
    if getattr(text, "layer_types", None):
        text.layer_types = ["full_attention"] * 4
    vision.depth = 2
    if hasattr(vision, "deepstack_visual_indexes"):
        vision.deepstack_visual_indexes = [0, 1]
    setattr(vision, "out_hidden_size" if hasattr(vision, "out_hidden_size") else "hidden_size", 512)
    config.image_token_id, config.video_token_id, config.vision_start_token_id = 5, 6, 3
    return config


def kept_for_backward(config: Any, dropout: float, *, checkpointing: bool, dtype: str = "bfloat16") -> int:
    """Bytes of all tensors that autograd saves over one forward of the language model, parameters aside."""
    torch.manual_seed(0)
    kind = getattr(torch, dtype)
    model = AutoModelForImageTextToText.from_config(config, dtype=kind).requires_grad_(False)
    settings = LoraConfig(r=RANK, lora_dropout=dropout, target_modules=pattern(model, "language"))
    peft = get_peft_model(model, settings).train()
    for module in model.modules():
        if hasattr(module, "lora_A"):
            module.cast_input_dtype_enabled = False  # as training.base does under autocast
    if checkpointing:
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    own = {parameter.untyped_storage().data_ptr() for parameter in peft.parameters()}
    saved: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            saved.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    embeddings = torch.randn(1, TOKENS, config.text_config.hidden_size, dtype=kind, requires_grad=True)
    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16, enabled=kind == torch.bfloat16):
        model.model.language_model(inputs_embeds=embeddings, use_cache=False)
    return sum(tensor.untyped_storage().nbytes() for tensor in saved.values())


@pytest.mark.parametrize("name", ["qwen2-vl-2b", "qwen3-vl-2b"])
@pytest.mark.parametrize("dropout", [0.0, 0.05])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_saved_activations_are_what_autograd_saves(name: str, dropout: float, dtype: str) -> None:
    config = small(name)
    found = kept_for_backward(config, dropout, checkpointing=False, dtype=dtype)
    mask = memory.ELEMENT[dtype]
    expected = saved_bytes(sizes_of(config), TOKENS, RANK, dropout, checkpointing=False, mask=mask, dtype=dtype)
    # What is not counted does not grow with the tokens: LoRA's weights in the compute type, the rotation's angles.
    assert 0.90 * found <= expected <= 1.02 * found


def test_checkpointing_keeps_one_input_a_layer() -> None:
    config = small("qwen3-vl-2b")
    model = sizes_of(config)
    found = kept_for_backward(config, 0.05, checkpointing=True)
    inputs_and_last_norm = TOKENS * (model.layers * 2 * model.hidden + 4 * model.hidden)
    assert 0.95 * inputs_and_last_norm <= found <= 1.15 * inputs_and_last_norm
    assert saved_bytes(model, TOKENS, RANK, 0.05, checkpointing=True) > inputs_and_last_norm  # and one layer again


@pytest.mark.parametrize("shape", [(512, 512), (2048, 6144)])
def test_nf4_takes_what_bitsandbytes_takes(shape: tuple[int, int]) -> None:
    linear = bnb.nn.Linear4bit(*shape, bias=False, quant_type="nf4", compress_statistics=True).to("cpu")
    state = linear.weight.quant_state
    tensors = [linear.weight.data, state.absmax, state.code, state.offset, state.state2.absmax, state.state2.code]
    found = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    sample = sizes("qwen3-vl-2b")
    values = {field: getattr(sample, field) for field in sample.__dataclass_fields__}
    one = memory.Sizes(**{**values, "projections": shape[0] * shape[1], "modules": 1})
    assert memory.weight_bytes(one, "nf4")["language layers, NF4"] == pytest.approx(found, rel=0.002)


def test_keys_and_values_take_what_the_cache_takes() -> None:
    config = small("qwen3-vl-2b")
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16).eval()
    cache = DynamicCache(config=config.text_config)
    with torch.inference_mode():
        model(input_ids=torch.full((2, 40), 7), past_key_values=cache, use_cache=True)
    found = sum(t.numel() * t.element_size() for layer in cache.layers for t in (layer.keys, layer.values))
    assert memory.cache_bytes(sizes_of(config), 2 * 40) == found


def test_weights_of_the_checkpoints_are_their_files_sizes() -> None:
    """Published: 8.88 GB (decimal) for the 4B in bfloat16."""
    assert sum(memory.weight_bytes(sizes("qwen3-vl-4b"), "none").values()) == pytest.approx(8.88e9, rel=0.001)


@pytest.mark.parametrize(("name", "pixels"), [("qwen2-vl-2b", 200704), ("qwen3-vl-2b", 262144)])
def test_the_sources_setting_fits_its_gpu(name: str, pixels: int) -> None:
    """S2: trained on 8 GB; at the profile's frames, one clip a step with checkpointing."""
    model = sizes(name)
    tokens = model.tokens(16, pixels) + 600
    settings: dict[str, Any] = {
        "trained": attach_report(name).trained,
        "tokens": tokens,
        "answer_tokens": 200,
        "patches": model.patches(16, pixels),
    }
    with_it = training(model, **settings, checkpointing=True)
    without = training(model, **settings, checkpointing=False)
    assert with_it.total < 8 * GIB
    assert without.total > with_it.total
    assert with_it.parts["LoRA, gradients, AdamW"] == TRAINED * settings["trained"]
    assert training(model, **settings, targets="all").total > without.total


def test_an_estimate_is_readable_and_adds_up() -> None:
    estimate = memory.Estimate({"weights": GIB, "activations": GIB // 2})
    assert estimate.total == GIB + GIB // 2
    assert estimate.lines()[-1].split() == ["together", "1.50", "GB"]
