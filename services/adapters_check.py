"""Is this folder a plain LoRA adapter and nothing else? Decided before any library loads it.

A hostile or careless adapter folder can import code through its configuration, unpickle code from its weights, swap
whole modules, or make every logit NaN. So: a known set of configuration fields with plain values only, safetensors
only, bounded ranks and shapes, finite numbers. The fields are those of PEFT 0.21.2's LoraConfig; a test compares.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, deserialize

from services.errors import AdapterError
from services.schema import digest_of

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"

MAX_RANK = 256
MAX_ALPHA = 1024.0
MAX_DIMENSION = 1 << 18
MAX_JSON_BYTES = 256 * 1024
MAX_WEIGHT_BYTES = 1 << 30
MAX_TEXT = 500
MAX_TARGETS = 2000
MAX_REPEATS = 3
MAX_CHOICES = 64
MAX_PATH = 128
MAX_FILES = 10_000

_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz", ".h5", ".msgpack")
_PROGRAMS = (
    ".py",
    ".pyc",
    ".pyw",
    ".pyd",
    ".so",
    ".dll",
    ".dylib",
    ".exe",
    ".bat",
    ".cmd",
    ".ps1",
    ".sh",
    ".jar",
    ".js",
)
FORBIDDEN_SUFFIXES = frozenset({*_PICKLES, *_PROGRAMS, ".gguf", ".onnx", ".whl"})
KEY = re.compile(r"base_model\.model\.([A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*)\.lora_([AB])\.weight")
_PATTERN = re.compile(r"[A-Za-z0-9_.\\|()?:*+^$]+")
_MODULE = re.compile(r"[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*")
_VISION = re.compile(r"(^|\.)(visual|vision_tower|vision_model)(\.|$)")
_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
_TASKS = (None, "CAUSAL_LM", "SEQ_2_SEQ_LM", "FEATURE_EXTRACTION")


@dataclass(frozen=True, slots=True)
class Checked:
    """What the check found: rank and alpha, and the digest of configuration and weights together."""

    rank: int
    alpha: float
    digest: str


def check_folder(folder: Path) -> Checked:
    """Raise AdapterError, saying what is wrong and what to do, unless ``folder`` holds a plain LoRA adapter."""
    if not folder.is_dir():
        raise AdapterError(f"{folder} is not a folder; give the folder that holds {CONFIG} and {WEIGHTS}.")
    _check_files(folder)
    config = read_json(folder / CONFIG)
    rank = _check_config(config, folder)
    weights = _read(folder / WEIGHTS, MAX_WEIGHT_BYTES)
    _check_tensors(weights, config, rank, folder)
    digest = digest_of({"config": config, "weights": hashlib.sha256(weights).hexdigest()})
    return Checked(rank, float(config["lora_alpha"]), digest)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``; AdapterError for anything else (NaN and infinity included)."""
    try:
        value = json.loads(_read(path, MAX_JSON_BYTES).decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise AdapterError(f"{path} is not usable JSON ({error}); write the adapter again.") from error
    if not isinstance(value, dict):
        raise AdapterError(f"{path} holds a {type(value).__name__} where an object is needed; write the adapter again.")
    return value


def _read(path: Path, limit: int) -> bytes:
    try:
        size = path.stat().st_size
        if size > limit:
            raise AdapterError(f"{path} has {size} bytes, more than the {limit} an adapter may have.")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise AdapterError(f"{path.parent} has no {path.name}; give the folder of a finished adapter.") from error
    except OSError as error:
        raise AdapterError(f"{path} cannot be read ({error.strerror}).") from error


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _check_files(folder: Path) -> None:
    for count, path in enumerate(folder.rglob("*")):
        if count >= MAX_FILES:
            raise AdapterError(f"{folder} holds more than {MAX_FILES} files; give the adapter's own folder.")
        if path.suffix.lower() in FORBIDDEN_SUFFIXES:
            raise AdapterError(
                f"{folder} holds {path.relative_to(folder)}, which could carry code; only safetensors weights are "
                "accepted: convert them, remove the file and try again."
            )


# ---- configuration -------------------------------------------------------------------------------------------------


def _nothing(value: Any) -> bool:
    return value is None or value is False or value == {} or value == []


def _flag(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _text(value: Any) -> bool:
    return value is None or (isinstance(value, str) and len(value) <= MAX_TEXT and value.isprintable())


def _number(low: float, high: float) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high

    return check


def _layers(value: Any) -> bool:
    items = value if isinstance(value, list) else [value]
    return value is None or (
        len(items) <= MAX_TARGETS and all(type(item) is int and 0 <= item < 10_000 for item in items)
    )


def _modules(value: Any) -> bool:
    """A list of module names, or a regular expression that cannot take for ever."""
    if value is None:
        return True
    if isinstance(value, list):
        return 0 < len(value) <= MAX_TARGETS and all(
            isinstance(item, str) and len(item) <= MAX_TEXT and _MODULE.fullmatch(item) for item in value
        )
    return isinstance(value, str) and len(value) <= MAX_TEXT and (value == "all-linear" or _is_tame(value))


def _is_tame(pattern: str) -> bool:
    """Whether matching ``pattern`` takes little time on any path: no repeated groups, references or look-around, and
    few repeats, groups and choices."""
    plain = pattern.replace("(?:", "(")
    if not _PATTERN.fullmatch(pattern) or re.search(r"\)[*+]|[*+][*+]|\(\?|\\[0-9]", plain):
        return False
    repeats, doubts = len(re.findall(r"[*+]", plain)), plain.count("?") + plain.count("(")
    if repeats > MAX_REPEATS or doubts > 2 * MAX_REPEATS or plain.count("|") > MAX_CHOICES:
        return False
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


CONFIG_FIELDS: Mapping[str, Callable[[Any], bool]] = {
    "alora_invocation_tokens": _nothing,
    "alpha_pattern": _nothing,
    "arrow_config": _nothing,
    "auto_mapping": _nothing,  # names a class to import
    "base_model_name_or_path": _text,
    "bias": lambda value: value in (None, "none"),
    "corda_config": _nothing,
    "ensure_weight_tying": _nothing,
    "eva_config": _nothing,
    "exclude_modules": _modules,
    "fan_in_fan_out": _nothing,
    "inference_mode": _flag,
    "init_lora_weights": lambda value: value in (None, True, "gaussian"),  # False: random, others change the base
    "kasa_config": _nothing,
    "layer_replication": _nothing,
    "layers_pattern": _modules,
    "layers_to_transform": _layers,
    "loftq_config": _nothing,
    "lora_alpha": _number(1e-3, MAX_ALPHA),
    "lora_bias": _nothing,
    "lora_dropout": _number(0.0, 0.99),
    "lora_ga_config": _nothing,
    "megatron_config": _nothing,
    "megatron_core": lambda value: value in (None, "megatron.core"),  # a module that PEFT imports
    "modules_to_save": _nothing,
    "monteclora_config": _nothing,
    "peft_type": lambda value: value == "LORA",
    "peft_version": _text,
    "qalora_group_size": _number(1, 4096),
    "r": lambda value: type(value) is int and 1 <= value <= MAX_RANK,
    "rank_pattern": _nothing,
    "revision": _text,
    "runtime_config": _nothing,
    "target_modules": _modules,
    "target_parameters": _nothing,
    "task_type": lambda value: value in _TASKS,
    "trainable_token_indices": _nothing,
    "use_bdlora": _nothing,
    "use_dora": _nothing,
    "use_qalora": _nothing,
    "use_rslora": _flag,
    "velora_config": _nothing,
}
"""Every field that may stand in ``adapter_config.json``, with what it may say. Variants of LoRA (DoRA and the like) are
refused: two adapters of a plain kind can answer in one batch, and only plain ones are tested here."""

_REQUIRED = ("peft_type", "r", "lora_alpha", "target_modules")


def _check_config(config: Mapping[str, Any], folder: Path) -> int:
    """The rank, or AdapterError for the first field at fault."""
    unknown = sorted(set(config) - set(CONFIG_FIELDS))
    if unknown:
        raise AdapterError(
            f"{folder / CONFIG} has unknown fields ({_short(', '.join(unknown))}); only plain LoRA, as PEFT 0.21 "
            "writes it, is accepted."
        )
    missing = [name for name in _REQUIRED if config.get(name) is None]
    if missing:
        raise AdapterError(f"{folder / CONFIG} lacks {', '.join(missing)}; write the adapter again.")
    for name, value in config.items():
        if not CONFIG_FIELDS[name](value):
            raise AdapterError(
                f"{folder / CONFIG} says {_short(f'{name} = {json.dumps(value)}')}, which is refused: only plain LoRA "
                f"of rank 1 to {MAX_RANK}, with nothing in it to import, is accepted."
            )
    return int(config["r"])


# ---- weights -------------------------------------------------------------------------------------------------------


def _check_tensors(content: bytes, config: Mapping[str, Any], rank: int, folder: Path) -> None:
    """Pairs of finite (rank, in) A and (out, rank) B matrices for modules that the configuration targets."""
    where = folder / WEIGHTS
    try:
        tensors = dict(deserialize(content))
    except SafetensorError as error:
        raise AdapterError(f"{where} is not a whole safetensors file ({error}); copy or train it again.") from error
    pairs: dict[str, set[str]] = {}
    for key, tensor in tensors.items():
        match = KEY.fullmatch(key)
        if match is None:
            raise AdapterError(
                f"{where} holds the tensor {_short(repr(key))}; only lora_A and lora_B weights may be there."
            )
        module, side = match[1], match[2]
        if len(module) > MAX_PATH:
            raise AdapterError(f"{where} names a module in {len(module)} characters; at most {MAX_PATH} are accepted.")
        shape, kind = tensor["shape"], tensor["dtype"]
        if kind not in _BYTES:
            raise AdapterError(f"{where}: {key} is of type {kind}; only F32, F16 and BF16 are accepted.")
        if (
            len(shape) != 2
            or shape[0 if side == "A" else 1] != rank
            or not all(0 < size <= MAX_DIMENSION for size in shape)
        ):
            raise AdapterError(f"{where}: {key} has shape {tuple(shape)}, which does not fit rank {rank}.")
        if not _finite(tensor["data"], kind):
            raise AdapterError(f"{where}: {key} holds NaN or infinite values; train the adapter again.")
        if not _targeted(module, config["target_modules"]):
            raise AdapterError(f"{where}: {key} belongs to a module that target_modules does not name.")
        if _VISION.search(module):
            raise AdapterError(
                f"{where} holds {key}, a part of the vision tower; only adapters of the language side are served, "
                "because one look of the tower serves base and tuned: train it with --targets language."
            )
        pairs.setdefault(module, set()).add(side)
    if not pairs:
        raise AdapterError(f"{where} holds no tensors; give the folder of a finished adapter.")
    single = sorted(module for module, sides in pairs.items() if len(sides) != 2)
    if single:
        raise AdapterError(f"{where}: {single[0]} has only one of lora_A and lora_B; copy or train the adapter again.")


def _finite(data: bytes | bytearray, kind: str) -> bool:
    """Whether no value is NaN or infinite. NumPy has no bfloat16: its exponent bits are looked at instead, all ones
    in NaN and infinity."""
    if kind == "BF16":
        return not bool(np.any((np.frombuffer(data, "<u2") & 0x7F80) == 0x7F80))
    return bool(np.isfinite(np.frombuffer(data, "<f4" if kind == "F32" else "<f2")).all())


def _targeted(module: str, targets: str | list[str]) -> bool:
    """PEFT's rule: a pattern matches the whole path; a name matches it or its end."""
    if isinstance(targets, str):
        return targets == "all-linear" or re.fullmatch(targets, module) is not None
    return any(module == target or module.endswith(f".{target}") for target in targets)


def is_finite_json(value: Any) -> bool:
    """Whether no number in ``value`` is NaN or infinite."""
    if isinstance(value, Mapping):
        return all(map(is_finite_json, value.values()))
    if isinstance(value, list | tuple):
        return all(map(is_finite_json, value))
    return not isinstance(value, float) or math.isfinite(value)


def _short(text: str) -> str:
    return text if len(text) <= 160 else f"{text[:160]}…"
