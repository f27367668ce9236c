"""Who a base model is: id, architecture digest, weights digest. Adapters and calibrations are tied to these."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from services.errors import ModelError
from services.schema import digest_of

_NOT_ARCHITECTURE = frozenset(
    {
        "quantization_config",
        "dtype",
        "torch_dtype",
        "transformers_version",
        "_name_or_path",
        "architectures",
        "use_cache",
    }
)
"""Keys of config.json that do not change what the network computes; quantisation is left out on purpose, so that a
quantised release of the same model has the same architecture digest."""


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """``model``: id or folder name; ``architecture``: digest of the config; ``weights``: digest of all weight files."""

    model: str
    architecture: str
    weights: str


def identify(folder: Path, model: str | None = None) -> ModelIdentity:
    """Identity of the model in ``folder`` (config.json and *.safetensors). Raises ModelError if they are missing."""
    config = _config(folder)
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(f"{folder} holds no *.safetensors weights; download the model again.")
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return ModelIdentity(model or folder.name, digest_of(_architecture(config)), digest.hexdigest())


def weightless(folder: Path, model: str | None = None) -> ModelIdentity:
    """Identity of a model whose weights lie elsewhere: ``weights`` is empty. ModelError without a config.json."""
    return ModelIdentity(model or folder.name, digest_of(_architecture(_config(folder))), "")


def _config(folder: Path) -> object:
    try:
        return json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder} holds no readable config.json, so it is not a model folder.") from error


def _architecture(config: object) -> object:
    if isinstance(config, dict):
        return {key: _architecture(value) for key, value in config.items() if key not in _NOT_ARCHITECTURE}
    return config
