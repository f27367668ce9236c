"""What ``make serve`` starts: a vLLM server for a profile's base model with every registered adapter that fits it.

vLLM lives in an environment of its own (``.venv-server``), because it needs other versions of torch and transformers.
The base model goes by two names: the profile's, and one that holds the digest of its weights, by which clients know
that adapters and calibration were made for them. Adapters go by names that hold their own digest. The server listens on
this machine only, unless there is a key.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from services import task_media
from services.adapters import AdapterRecord, AdapterRegistry, check_base
from services.chat.chat_model import AdapterRef
from services.chat.server_session import WEIGHTS
from services.dialog import Dialog, load_dialog
from services.errors import AdapterError, ModelError, SettingsError
from services.model_files import model_folder
from services.model_identity import ModelIdentity, identify
from services.settings import LOCAL, ROOT, Profile, Settings
from services.views import MOMENTS

PYTHON = ROOT / ".venv-server" / "bin" / "python"
RANKS = (16, 32, 64, 128, 256, 320, 512)
"""Ranks that vLLM can be sized for, from the smallest that is worth it on."""
CPU_CACHE_GB = "1"
CPU_PLUGINS = ROOT / "services" / "vllm_cpu"
"""What the CPU build needs besides; on the path of the server only."""


@dataclass(frozen=True, slots=True)
class Serving:
    """A server that can be started. ``left_out``: sentences about adapters that it will not serve."""

    command: tuple[str, ...]
    environment: dict[str, str]
    url: str
    adapters: tuple[str, ...]
    left_out: tuple[str, ...]


def serving(settings: Settings, chosen: Profile, device: Literal["cpu", "gpu"], more: tuple[str, ...] = ()) -> Serving:
    """How to start the server of ``settings`` for ``chosen``; ``more`` are further options for vLLM. Raises ModelError
    or SettingsError where it cannot be."""
    if not PYTHON.exists():
        raise ModelError("The server's environment is not installed; run 'make setup-server', then 'make serve' again.")
    if chosen.quantisation != "none":
        raise SettingsError(
            f"The profile {chosen.name!r} quantises its model while loading, which no server does; choose a profile "
            "with ready weights, such as 'gpu'."
        )
    address = urlsplit(settings.server_url)
    host, port = address.hostname or "", address.port or 80
    if host not in LOCAL and not settings.server_key:
        raise SettingsError(
            f"A server at {host} would serve everyone who reaches it; set HERDLENS_SERVER_KEY, or serve on 127.0.0.1."
        )
    folder = model_folder(chosen.base_model, chosen.name)
    dialog = load_dialog(folder, chosen.sampling, chosen.min_pixels, chosen.max_pixels)
    identity = identify(folder, chosen.base_model)
    fitting, left_out = _adapters(settings, chosen, identity, dialog)
    options = [
        *("--model", str(folder)),
        *("--served-model-name", settings.server_model or chosen.base_model, f"{WEIGHTS}{identity.weights}"),
        *("--host", host, "--port", str(port)),
        *("--dtype", chosen.dtype, "--max-model-len", str(chosen.context)),
        *("--limit-mm-per-prompt", json.dumps({"video": 1, "image": len(MOMENTS)})),
        # Clients say which frames they send and when they were taken; vLLM takes that from trusted clients only.
        "--trust-request-mm-kwargs",
        # Sampling settings come with each request; a checkpoint's own would change them behind our back.
        *("--generation-config", "vllm"),
        "--enable-prefix-caching",
        *("--enable-lora", "--max-loras", str(chosen.served_adapters)),
        *("--max-lora-rank", str(_rank(fitting))),
    ]
    if fitting:
        options += ["--lora-modules", *(f"{_served(record)}={record.folder.resolve()}" for record in fitting)]
    if chosen.reasoning_parser:
        options += ["--reasoning-parser", chosen.reasoning_parser]
    environment = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}
    if device == "cpu":
        options.append("--enforce-eager")
        environment |= {"VLLM_CPU_KVCACHE_SPACE": CPU_CACHE_GB, "PYTHONPATH": str(CPU_PLUGINS)}
    if settings.server_key:
        environment["VLLM_API_KEY"] = settings.server_key  # not an option, which every user of the machine could read
    return Serving(
        command=(str(PYTHON), "-m", "vllm.entrypoints.openai.api_server", *options, *more),
        environment=environment,
        url=settings.server_url,
        adapters=tuple(record.name for record in fitting),
        left_out=tuple(left_out),
    )


def _adapters(
    settings: Settings, chosen: Profile, identity: ModelIdentity, dialog: Dialog
) -> tuple[list[AdapterRecord], list[str]]:
    fitting, left_out = [], []
    for record in AdapterRegistry.of(settings, chosen).list():
        try:
            check_base(
                record,
                base_model=identity.model,
                architecture=identity.architecture,
                weights=identity.weights,
                preprocessing=task_media.contract_of(dialog.rule, record.task).digest,
                compatible_bases=chosen.compatible_bases,
            )
        except AdapterError as error:
            left_out.append(str(error))
        else:
            fitting.append(record)
    return fitting, left_out


def _rank(fitting: list[AdapterRecord]) -> int:
    highest = max((record.rank for record in fitting), default=0)
    return next((rank for rank in RANKS if rank >= highest), RANKS[-1])


def _served(record: AdapterRecord) -> str:
    return AdapterRef(record.name, Path(record.folder), record.digest).served_name
