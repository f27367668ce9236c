"""What this machine and profile have, what is missing and how to get it."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from typing import TYPE_CHECKING

from agent.findings import Finding, tried
from services.errors import HerdLensError, ModelError

if TYPE_CHECKING:
    from services.model_service import ModelService

PACKAGES = ("torch", "transformers", "peft", "langgraph", "streamlit", "av", "lancedb")
GB = 1 << 30


def examine(service: ModelService) -> Iterator[Finding]:
    """Check one thing after the other; a failing part is a finding, never an exception."""
    yield Finding("system", True, f"{platform.system()} {platform.machine()}, Python {platform.python_version()}")
    yield Finding("packages", True, ", ".join(f"{name} {version(name)}" for name in PACKAGES))
    profile = service.profile
    yield Finding("profile", True, f"{profile.name}: {profile.title}")
    yield tried("device", lambda: service.device)
    yield from _base(service)
    yield tried("embedder", lambda: f"{service.embedder.provenance.model}, {service.embedder.provenance.pooling}")
    yield tried("library", lambda: f"{service.library.count()} reference clips")
    yield tried("adapters", lambda: ", ".join(service.adapter_names()) or "none")
    if profile.tuned:
        yield tried("tuned adapter fits", lambda: _tuned(service))
    for problem in service.adapters.problems().values():
        yield Finding("adapter folder", False, "unusable", problem)
    yield tried("calibration", lambda: _calibration(service))
    data = service.settings.data
    data.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(data).free
    good = os.access(data, os.W_OK) and free > GB
    yield Finding(
        "data folder",
        good,
        f"{data}, {free / GB:.0f} GB free",
        "" if good else "Free some space or set HERDLENS_DATA to a folder with more.",
    )


def _base(service: ModelService) -> Iterator[Finding]:
    """The base model: its files, its memory, its template, and that it loads or that the server runs it."""
    from services.chat.model_server import ModelServer

    server = service.backend if isinstance(service.backend, ModelServer) else None
    here = server is None or server.local
    files = tried("base model's files", lambda: _files(service, needs_weights=here))
    yield files
    if not files.good:
        return
    if here:
        yield _memory(service)
    yield tried("chat template", lambda: _template(service))
    if server is not None:
        from agent import doctor_server

        yield from doctor_server.examine(service, server)
        return
    yield tried("base model", lambda: f"{service.identity.model}, weights {service.identity.weights[:12]}")
    yield tried("base model loads", lambda: f"preprocessing {service.preprocessing_digest()[:12]}")


def _files(service: ModelService, *, needs_weights: bool) -> str:
    """``needs_weights``: false where they are on a server elsewhere."""
    from services.fit import incomplete
    from services.settings import located

    command = f"python -m agent download --profile {service.profile.name}"
    if not needs_weights:
        command += " --without-weights"
    try:
        folder = service.base_folder
    except ModelError as error:
        model = service.profile.base_model
        if located(model) is not None:
            raise
        raise ModelError(f"The model {model} is not on this machine; run '{command}'.") from error
    if lacking := incomplete(folder, weights=needs_weights):
        raise ModelError(f"{folder} lacks {', '.join(lacking)}; run '{command}', which goes on where it stopped.")
    return f"whole, in {folder}"


def _memory(service: ModelService) -> Finding:
    """Of the model in this process or in a server on this machine, which takes a GPU where there is one."""
    from services.fit import fit, server_device

    try:
        device = server_device() if service.profile.engine == "server" else service.device
        found = fit(service.profile, service.base_folder, device)
    except HerdLensError as error:
        return Finding("memory", False, "unknown", str(error))
    remedy = "" if found.good else "Choose a profile with a smaller or quantised model, or another machine."
    return Finding("memory", found.good, str(found), remedy)


def _template(service: ModelService) -> str:
    """The checkpoint's own template has to write what adapters are trained on; only the checkpoint can show it."""
    dialog = service.backend.dialog
    if problem := dialog.template_problem():
        raise ModelError(f"The chat template of {service.profile.base_model} {problem}; report it, with its files.")
    return "opens the thoughts" if dialog.opens_thoughts else "opens the answer"


def _tuned(service: ModelService) -> str:
    name, warnings = service.adapter_for("tuned", None)
    return " ".join(filter(None, (name, *warnings)))


def _calibration(service: ModelService) -> str:
    rules = service.calibration_file.rules
    return f"fitted for {', '.join(rules)}" if rules else "none (the model's own probability is used)"
