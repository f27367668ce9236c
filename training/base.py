"""The base model for QLoRA: NF4 language model, unquantised vision tower, LoRA by module path.

What is quantised and what is trained is chosen by full module path, counted, and checked: a base whose linears do not
come out as asked is refused instead of being trained half.
"""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import bitsandbytes as bnb
import torch
from huggingface_hub import snapshot_download
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import AttentionInterface, AutoModelForImageTextToText, AutoProcessor, BitsAndBytesConfig
from transformers.utils import logging as transformers_logging

from services.dialog import Dialog, contract
from services.errors import ModelError
from services.schema import Sampling
from services.settings import located
from services.task_media import contract_of
from training.attention import ByteDropout, blocked_attention
from training.precision import device_of, settled
from training.settings import TrainConfig
from training.start import begin_with
from training.targets import counted, language_pattern, pattern

ATTENTION = "herdlens_blocked"
NF4_BLOCK = 64
"""bitsandbytes quantises in blocks of 64 values along a row; narrower rows would share scales between rows."""

EXPAND_LIMIT_BYTES = 4 * 1024**3


@dataclass(frozen=True, slots=True)
class Base:
    """``model``: the whole Qwen-VL model with LoRA injected; ``peft``: the same, wrapped (for saving); ``quantised``
    and ``trained``: full module paths; ``expanded``: whether NF4 weights are held dequantised."""

    model: nn.Module
    peft: PeftModel
    dialog: Dialog
    device: torch.device
    dtype: torch.dtype
    quantised: tuple[str, ...]
    trained: tuple[str, ...]
    expanded: bool

    def describe(self) -> list[str]:
        """What was done to the model, for the person at the screen."""
        total = sum(p.numel() for p in self.peft.parameters() if p.requires_grad)
        form = "held dequantised while training" if self.expanded else "4-bit in memory"
        numbers = "bfloat16" if self.dtype == torch.bfloat16 else "float32"
        return [
            f"NF4 double-quantised: {counted(self.quantised)} ({form}).",
            "Not quantised: vision tower, embeddings, norms.",
            f"LoRA on {counted(self.trained)}: {total:,} trained parameters.",
            f"Multiplied in {numbers}; what is trained is kept in float32.",
        ]


def load_dialog(config: TrainConfig) -> Dialog:
    """The base's own processor under the run's preprocessing contract; ModelError when it is not there or cannot be
    quantised."""
    _require_plain(config.model)
    try:
        processor = AutoProcessor.from_pretrained(base_folder(config.model), local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelError(_missing(config.model)) from error
    rule = contract(processor, _sampling(config), config.min_pixels, config.max_pixels)
    return Dialog(processor, contract_of(rule, config.task))


def load_base(config: TrainConfig, dialog: Dialog) -> Base:
    """Load, quantise, check and wrap the base. LoRA's weights are those of ``config.start``, else its A comes from
    torch's current seed."""
    transformers_logging.disable_progress_bar()
    config, device = settled(config), device_of(config)
    dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
    try:
        model = AutoModelForImageTextToText.from_pretrained(
            base_folder(config.model),
            local_files_only=True,
            dtype=torch.float32 if device.type == "cpu" else torch.bfloat16,
            device_map={"": device},
            quantization_config=BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=dtype,
                llm_int8_skip_modules=["model.visual", "lm_head"],
            ),
        )
    except OSError as error:
        raise ModelError(_missing(config.model)) from error
    except ValueError as error:
        raise ModelError(
            f"The base model {config.model!r} cannot be loaded ({' '.join(str(error).split())}); take another."
        ) from error
    model.requires_grad_(False)
    model.config.use_cache = False
    quantised = _check_quantised(model)
    weights = sum(m.in_features * m.out_features for m in model.modules() if isinstance(m, bnb.nn.Linear4bit))
    expanded = _expand(model, dtype) if expands(config, weights, device) else False
    if config.precision == "bf16":
        _cast_language(model, torch.bfloat16)
    wanted = pattern(model, config.targets)
    peft = _attach(model, config, wanted)
    trained = _check_trained(model, wanted)
    for parameter in peft.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    if config.start is not None:
        begin_with(peft, config.start)
    for path in trained:  # autocast chooses the type; PEFT's own cast would go to float32 and back
        model.get_submodule(path).cast_input_dtype_enabled = config.precision != "bf16"
    if device.type == "cpu":
        AttentionInterface.register(ATTENTION, blocked_attention)
        model.model.language_model.config._attn_implementation = ATTENTION
        _cheaper_dropout(model, config.dropout)
    if config.gradient_checkpointing:
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    return Base(model, peft, dialog, device, dtype, quantised, trained, expanded)


def _require_plain(name: str) -> None:
    """ModelError unless the weights are stored in plain numbers: what is quantised already (a release in FP8, say) has
    no NF4 form."""
    try:
        stored = json.loads((base_folder(name) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(_missing(name)) from error
    form = (stored.get("quantization_config") or {}).get("quant_method")
    if form is not None:
        raise ModelError(
            f"The base model {name!r} is stored in {form}, and training needs its plain release: give that with "
            "--model, and name it in the profile's compatible_bases to use the adapter here."
        )


def _attach(model: nn.Module, config: TrainConfig, wanted: str) -> PeftModel:
    """LoRA by module path, stock PEFT."""
    settings = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=wanted,
        bias="none",
        task_type="CAUSAL_LM",
        base_model_name_or_path=config.model,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")  # PEFT 0.21 reads it
        return get_peft_model(model, settings)


def _sampling(config: TrainConfig) -> Sampling:
    return Sampling(frames=config.frames, window_s=config.window_s)


def _missing(name: str) -> str:
    return f"The base model {name!r} is not on this machine; give its folder or run `python -m agent download`."


def _check_quantised(model: nn.Module) -> tuple[str, ...]:
    """Every language linear is NF4 with double quantisation, nothing else is."""
    wanted = re.compile(language_pattern(model))
    found: list[str] = []
    for name, module in model.named_modules():
        quantised = isinstance(module, bnb.nn.Linear4bit)
        if quantised:
            # In eval mode it would repack its weights for AVX512-BF16 and lose gradients afterwards.
            module.support_avx512bf16_for_cpu = False
            state = module.weight.quant_state
            if state.quant_type != "nf4" or not state.nested or module.in_features % NF4_BLOCK:
                raise ModelError(f"{name} did not come out as double-quantised NF4 ({module.in_features} columns).")
            found.append(name)
        if quantised != bool(wanted.fullmatch(name)):
            kind = "quantised" if quantised else "not quantised"
            raise ModelError(f"{name} is {kind}, against the plan; use another base.")
    if not found:
        raise ModelError("No language layer was found to quantise; use a Qwen-VL base.")
    return tuple(found)


def _check_trained(model: nn.Module, wanted: str) -> tuple[str, ...]:
    adapted = [name for name, module in model.named_modules() if hasattr(module, "lora_A")]
    stray = [name for name in adapted if not re.fullmatch(wanted, name)]
    if stray or not adapted:
        raise ModelError(f"LoRA did not attach as planned ({', '.join(stray) or 'nowhere'}); this base cannot be used.")
    return tuple(adapted)


def expands(config: TrainConfig, weights: int, device: torch.device) -> bool:
    """Whether the ``weights`` quantised values are held dequantised; ``config`` is settled."""
    if config.expand != "auto":
        return config.expand == "on"
    return device.type == "cpu" and (2 if config.precision == "bf16" else 4) * weights <= EXPAND_LIMIT_BYTES


def _expand(model: nn.Module, dtype: torch.dtype) -> bool:
    """Replace each NF4 linear by a plain one that holds its dequantised values in the compute type, which is what
    bitsandbytes multiplies with."""
    for name, module in list(model.named_modules()):
        if not isinstance(module, bnb.nn.Linear4bit):
            continue
        plain = nn.Linear(module.in_features, module.out_features, module.bias is not None, device="meta")
        weight = bnb.functional.dequantize_4bit(module.weight.data, module.weight.quant_state).to(dtype)
        plain.weight = nn.Parameter(weight, requires_grad=False)
        if module.bias is not None:
            plain.bias = nn.Parameter(module.bias.data.to(dtype), requires_grad=False)
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, plain)
    model.is_loaded_in_4bit = False
    return True


def _cast_language(model: nn.Module, dtype: torch.dtype) -> None:
    """Embeddings, norms and head of the language model in the compute type; packed 4-bit weights stay as they are."""
    for part in (model.model.language_model, model.lm_head):
        for parameter in part.parameters():
            if parameter.is_floating_point():
                parameter.data = parameter.data.to(dtype)


def _cheaper_dropout(model: nn.Module, p: float) -> None:
    for module in model.modules():
        if p > 0.0 and hasattr(module, "lora_dropout"):
            module.lora_dropout["default"] = ByteDropout(p)


def base_folder(name: str) -> Path:
    """Folder of the base's files on this machine; ModelError when they are not there."""
    place = located(name)
    try:
        return place or Path(snapshot_download(name, local_files_only=True))
    except (OSError, ValueError) as error:
        raise ModelError(_missing(name)) from error
