"""Settings and profiles: the only door to the environment.

Variables: ``HERDLENS_PROFILE`` (demo), ``HERDLENS_DATA`` (the platform's user data folder), ``HERDLENS_MEDIA``
(a folder whose long files may be analysed from the browser); for profiles with a model server ``HERDLENS_SERVER_URL``,
``HERDLENS_SERVER_KEY``, ``HERDLENS_SERVER_MODEL`` (the base model's name there, if it is not the profile's) and
``HERDLENS_SERVER_TIMEOUT_S`` (how long to wait for a sign of life).
Profiles stand in ``profiles.toml`` beside this file; an unknown key or profile is an error.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NoReturn

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.errors import SettingsError
from services.schema import RetrievalMode, Sampling, Task

ROOT = Path(__file__).resolve().parent.parent
"""The project's folder; ``assets/`` paths in profiles resolve against it."""
LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})
"""Hosts that are this machine."""


class TrainingDefaults(BaseModel):
    """What fine-tuning takes where nothing else is said: clips in one pass, passes in one step, learning rate, whether
    activations are computed again instead of kept. As written here they suit a real base on 8 GB."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    batch: int = Field(default=1, ge=1)
    accumulation: int = Field(default=16, ge=1)
    learning_rate: float = Field(default=2e-4, gt=0)
    gradient_checkpointing: bool = True


class Profile(BaseModel):
    """One profile. ``scoring``: ``direct`` reads the two continuations right after the question; ``after_reasoning``
    after the generated reasoning (models that think). ``tuned`` and ``tuned_quality`` name the adapters of the tasks
    mounting and quality. ``neighbours`` is k of the vote. ``cpu_threads`` limits torch in
    this process (None: its own choice): matrices of the tiny demo model are too small to share between cores.
    ``like`` names a profile whose values stand where this one is silent. Of a server that ``make serve`` starts:
    ``context`` tokens of prompt and answer, ``reasoning_parser`` (vLLM's name of it), ``served_adapters`` at once."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    engine: Literal["transformers", "server"]
    base_model: str
    embedder: str
    adapters: tuple[str, ...] = ()
    tuned: str | None = None
    tuned_quality: str | None = None
    library: str | None = None
    calibration: str | None = None
    compatible_bases: tuple[str, ...] = ()
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    quantisation: Literal["none", "nf4"] = "none"
    cpu_threads: int | None = Field(default=None, ge=1)
    notice: str | None = None
    frames: int = Field(default=16, ge=2, le=768)
    window_s: float = Field(default=60.0, gt=0.5)
    min_pixels: int
    max_pixels: int
    max_tokens: int = Field(gt=0)
    temperature: float = Field(default=0.0, ge=0.0)
    top_k: int = 0
    repetition_penalty: float = 1.0
    scoring: Literal["direct", "after_reasoning"] = "direct"
    retrieval: RetrievalMode = "contrastive"
    neighbours: int = Field(default=9, ge=1)
    like: str | None = None
    context: int = Field(default=4096, ge=512)
    reasoning_parser: str | None = None
    served_adapters: int = Field(default=2, ge=1)
    training: TrainingDefaults = TrainingDefaults()

    def tuned_for(self, task: Task) -> str | None:
        """The adapter that ``tuned`` runs with when none is named."""
        return self.tuned if task == "mounting" else self.tuned_quality

    @property
    def sampling(self) -> Sampling:
        return Sampling(frames=self.frames, window_s=self.window_s)


def located(name: str) -> Path | None:
    """Folder of an ``assets/…`` or existing path; None for a model id of the hub."""
    path = ROOT / name if name.startswith("assets/") else Path(name).expanduser()
    return path if name.startswith("assets/") or path.exists() else None


class Settings(BaseSettings):
    """What the environment says; read once by the composition root or the command line."""

    model_config = SettingsConfigDict(env_prefix="HERDLENS_", extra="ignore", frozen=True)

    profile: str = "demo"
    data: Path = Field(default_factory=lambda: Path(platformdirs.user_data_dir("HerdLens", appauthor=False)))
    media: Path | None = None
    server_url: str = Field(default="http://127.0.0.1:8000/v1", pattern=r"^https?://[^/]+(/.*)?/v1/?$")
    server_key: str | None = None
    server_model: str | None = None
    server_timeout_s: float = Field(default=120.0, gt=0)
    upload_limit_mb: int = 1024


@lru_cache(maxsize=1)
def profiles() -> dict[str, Profile]:
    """All profiles by name."""
    table = tomllib.loads(Path(__file__).with_name("profiles.toml").read_text(encoding="utf-8"))
    try:
        return {name: Profile(name=name, **_with_model(name, table)) for name in table}
    except ValidationError as error:
        raise SettingsError(f"services/profiles.toml is wrong: {_first(error)}.") from error


def _with_model(name: str, table: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The values of ``name``, completed by those of the profile that it is ``like``."""
    model = table[name].get("like")
    if model is not None and model not in table:
        raise SettingsError(f"services/profiles.toml is wrong: {name} is like {model!r}, which is no profile.")
    return (table[model] if model else {}) | table[name]


def profile(name: str) -> Profile:
    """The profile called ``name``; SettingsError lists the known ones."""
    known = profiles()
    if name not in known:
        raise SettingsError(f"There is no profile {name!r}; choose one of {', '.join(known)}.")
    return known[name]


def load_settings() -> Settings:
    """Settings from the environment; a wrong value is one sentence."""
    try:
        return Settings()
    except ValidationError as error:
        raise SettingsError(f"An environment variable HERDLENS_… is wrong: {_first(error)}.") from error


def quiet_libraries(*, progress: bool = False) -> None:
    """Tell the libraries, before they are imported, to keep their advice and (unless ``progress``) their bars off
    standard error, and to send no traces anywhere."""
    quiet = {
        "LANGSMITH_TRACING": "false",
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
        "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
        "BITSANDBYTES_NOWELCOME": "1",
    }
    if not progress:
        quiet |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TQDM_DISABLE": "1"}
    for name, value in quiet.items():
        os.environ.setdefault(name, value)  # noqa: TID251


def environment_with(more: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with ``more`` on top, for a process that it starts."""
    return {**os.environ, **more}  # noqa: TID251


def become(command: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Replace this process by ``command``, with ``environment`` on top of this process's own."""
    os.execve(command[0], list(command), environment_with(environment))


def _first(error: ValidationError) -> str:
    problem = error.errors()[0]
    return f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
