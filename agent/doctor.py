"""What this machine and profile have, what is missing and how to get it."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

from services.errors import HerdLensError

if TYPE_CHECKING:
    from services.model_service import ModelService

PACKAGES = ("torch", "transformers", "peft", "langgraph", "streamlit", "av", "lancedb")
GB = 1 << 30


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the check-up; ``remedy`` says what to do when ``good`` is false."""

    what: str
    good: bool
    value: str
    remedy: str = ""


def examine(service: ModelService) -> Iterator[Finding]:
    """Check one thing after the other; a failing part is a finding, never an exception."""
    yield Finding("system", True, f"{platform.system()} {platform.machine()}, Python {platform.python_version()}")
    yield Finding("packages", True, ", ".join(f"{name} {version(name)}" for name in PACKAGES))
    profile = service.profile
    yield Finding("profile", True, f"{profile.name}: {profile.title}")
    yield _tried("device", lambda: service.device)
    yield _tried("base model", lambda: f"{service.identity.model}, weights {service.identity.weights[:12]}")
    yield _tried("base model loads", lambda: f"preprocessing {service.preprocessing_digest()[:12]}")
    yield _tried("embedder", lambda: f"{service.embedder.provenance.model}, {service.embedder.provenance.pooling}")
    yield _tried("library", lambda: f"{service.library.count()} reference clips")
    yield _tried("adapters", lambda: ", ".join(service.adapter_names()) or "none")
    if profile.tuned:
        yield _tried("tuned adapter fits", lambda: _tuned(service))
    for problem in service.adapters.problems().values():
        yield Finding("adapter folder", False, "unusable", problem)
    yield _tried("calibration", lambda: _calibration(service))
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


def _tuned(service: ModelService) -> str:
    name, warnings = service.adapter_for("tuned", None)
    return " ".join(filter(None, (name, *warnings)))


def _calibration(service: ModelService) -> str:
    rules = service.calibration_file.rules
    return f"fitted for {', '.join(rules)}" if rules else "none (the model's own probability is used)"


def _tried(what: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, check())
    except HerdLensError as error:
        return Finding(what, False, "missing", str(error))
