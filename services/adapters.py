"""Registry of LoRA adapters: shipped ones, read-only, and the user's.

An adapter is a folder with PEFT's ``adapter_config.json`` and ``adapter_model.safetensors`` and, beside them, our
record ``herdlens.json``::

    {"name", "task", "base_model", "architecture", "weights", "preprocessing", "metrics", "created_at"}

where architecture, weights and preprocessing are the digests of the base it was trained on. ``validate`` decides
whether a folder may be handed to PEFT at all, ``check_base`` whether it may run on the base at hand.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
import shutil
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from services.adapters_check import CONFIG, MAX_JSON_BYTES, WEIGHTS, check_folder, is_finite_json, read_json
from services.errors import AdapterError
from services.settings import Profile, Settings, located

RECORD = "herdlens.json"
KEPT_FILES = (CONFIG, WEIGHTS, RECORD, "README.md", "metrics.json", "loss.csv", "loss.png")
"""What is copied of a training run's folder."""
RESERVED = frozenset({"base", "default", "none", "con", "nul", "aux", "prn"})

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_log = logging.getLogger(__name__)

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True, slots=True)
class AdapterRecord:
    """What is known of an adapter. ``base_model`` is the id of the base it was trained on; ``architecture`` and
    ``weights`` are that base's digests, ``preprocessing`` that of the contract; ``digest`` covers the adapter's own
    configuration and weights, ``rank`` and ``alpha`` are LoRA's."""

    name: str
    folder: Path
    base_model: str
    architecture: str
    weights: str
    task: str
    preprocessing: str
    digest: str
    rank: int
    alpha: float
    created_at: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)


def _adapter_name(name: str) -> str:
    if not _NAME.fullmatch(name) or name.lower() in RESERVED or name in "lora_":
        raise ValueError(
            f"{name!r} cannot be an adapter's name; use up to 64 letters, digits, dashes and underscores, and none of "
            "'base', 'default', 'none' and 'lora'"
        )
    return name


def _finite(metrics: dict[str, Any]) -> dict[str, Any]:
    if not is_finite_json(metrics):
        raise ValueError("metrics hold NaN or an infinite number")
    return metrics


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, AfterValidator(_adapter_name)]
    task: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")
    base_model: str = Field(min_length=1, max_length=200)
    architecture: Digest
    weights: Digest
    preprocessing: Digest
    metrics: Annotated[dict[str, Any], AfterValidator(_finite)] = Field(default_factory=dict)
    created_at: str = Field(default="", max_length=40)


class AdapterRegistry:
    """``shipped``: adapter folders, or folders of such; never written to. ``user``: made by the first ``add``.
    Thread-safe; a folder is checked once and again when its files change."""

    def __init__(self, shipped: Sequence[Path], user: Path) -> None:
        self._shipped = tuple(Path(folder) for folder in shipped)
        self._user = Path(user)
        self._checked: dict[Path, tuple[object, AdapterRecord | AdapterError]] = {}

    @classmethod
    def of(cls, settings: Settings, chosen: Profile) -> Self:
        """Adapters that ship with the profile ``chosen``, and the user's."""
        shipped = [folder for name in chosen.adapters if (folder := located(name))]
        return cls(shipped, settings.data / "adapters")

    def list(self) -> list[AdapterRecord]:
        """Usable adapters, shipped ones first; ``problems`` names the others."""
        return list(self._found()[0].values())

    def problems(self) -> dict[str, str]:
        """Folder name to sentence for every folder that is not a usable adapter."""
        return {name: str(error) for name, error in self._found()[1].items()}

    def get(self, name: str) -> AdapterRecord:
        """The adapter called ``name``. Raises AdapterError if it is unknown or unusable."""
        records, problems = self._found()
        if name in records:
            return records[name]
        if name in problems:
            raise AdapterError(str(problems[name])) from problems[name]
        known = ", ".join(records) or "none"
        raise AdapterError(f"There is no adapter {name!r}; known are: {known}. Add one with `adapters add`.")

    def add(self, folder: Path, name: str | None = None) -> AdapterRecord:
        """Check a copy of ``folder`` and keep it, whole or not at all. ``name`` replaces the record's.

        Adding what is already there under the same name changes nothing; other content under it is refused."""
        folder = Path(folder)
        fresh = self._user / f".{uuid.uuid4().hex}"
        try:
            record = validate(folder) if name is None else dataclasses.replace(validate(folder), name=name)
            there = {known.name.lower(): known for known in self.list()}.get(record.name.lower())
            if there is not None:
                if there.digest == record.digest and there.name == record.name:
                    return there
                raise AdapterError(f"There is another adapter {there.name!r} already; remove it or choose a name.")
            fresh.mkdir(parents=True)
            for kept in KEPT_FILES:
                if (folder / kept).is_file():
                    shutil.copyfile(folder / kept, fresh / kept)
            write_record(fresh, record)
            validate(fresh)
            os.rename(fresh, self._user / record.name)
        except OSError as error:
            raise AdapterError(
                f"The adapter in {folder} could not be stored in {self._user} ({error.strerror}); make room or remove "
                "what lies there under its name."
            ) from error
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return self.get(record.name)

    def remove(self, name: str) -> None:
        """Delete one of the user's adapters, usable or not; a shipped one is refused."""
        folder = next((path for path in _subfolders(self._user) if path.name == name), None)
        if folder is None:
            folder = self.get(name).folder
        if folder.parent != self._user:
            raise AdapterError(f"The adapter {name!r} is shipped with HerdLens and cannot be removed.")
        gone = self._user / f".{uuid.uuid4().hex}"
        try:
            os.rename(folder, gone)
            shutil.rmtree(gone)
        except OSError as error:
            raise AdapterError(f"The adapter {name!r} could not be removed ({error.strerror}).") from error

    def _found(self) -> tuple[dict[str, AdapterRecord], dict[str, AdapterError]]:
        records: dict[str, AdapterRecord] = {}
        problems: dict[str, AdapterError] = {}
        shipped = [[path] if (path / CONFIG).is_file() else _subfolders(path) for path in self._shipped]
        for folder in chain(*shipped, _subfolders(self._user)):
            result = self._validated(folder)
            if isinstance(result, AdapterError):
                problems[folder.name] = result
            elif result.name in records:
                problems[folder.name] = AdapterError(
                    f"{folder} is another adapter called {result.name!r}; remove one of the two."
                )
            else:
                records[result.name] = result
        return records, problems

    def _validated(self, folder: Path) -> AdapterRecord | AdapterError:
        mark = _mark(folder)
        known = self._checked.get(folder)
        if known is not None and known[0] == mark:
            return known[1]
        result: AdapterRecord | AdapterError
        try:
            result = validate(folder)
        except AdapterError as error:
            _log.warning("adapter refused: %s", error)
            result = error
        self._checked[folder] = (mark, result)
        return result


def validate(folder: Path) -> AdapterRecord:
    """The adapter in ``folder``, checked without loading it. AdapterError says what is wrong and what to do."""
    folder = Path(folder)
    checked = check_folder(folder)
    if not (folder / RECORD).is_file():
        raise AdapterError(
            f"{folder} has no {RECORD}, which says for which base and preprocessing it was trained; train with "
            f"training/Qlora_train.py, which writes it, or write the keys {', '.join(_Record.model_fields)} yourself."
        )
    record = _parsed(read_json(folder / RECORD), folder / RECORD)
    return AdapterRecord(
        folder=folder, digest=checked.digest, rank=checked.rank, alpha=checked.alpha, **record.model_dump()
    )


def write_record(folder: Path, record: AdapterRecord | Mapping[str, Any]) -> None:
    """Write ``herdlens.json`` into ``folder``, whole or not at all; only the keys of the format are written."""
    values = dataclasses.asdict(record) if isinstance(record, AdapterRecord) else dict(record)
    path = Path(folder) / RECORD
    if isinstance(record, AdapterRecord):
        values = {key: values[key] for key in _Record.model_fields}
    text = json.dumps(_parsed(values, path).model_dump(), indent=1, ensure_ascii=False) + "\n"
    if len(text.encode()) > MAX_JSON_BYTES:
        raise AdapterError(f"The record for {path} is {len(text)} characters long; keep the metrics short.")
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        part.write_text(text, encoding="utf-8", newline="\n")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def check_base(
    record: AdapterRecord,
    base_model: str,
    architecture: str,
    weights: str,
    preprocessing: str,
    compatible_bases: Collection[str] = (),
) -> list[str]:
    """Warnings for running ``record`` on this base; AdapterError, naming both sides, where it must not.

    Another architecture or preprocessing is refused. Other weights of the same architecture (a quantised release of
    the same model) need the adapter's own base to stand in the profile's ``compatible_bases``, and give a warning."""
    if record.architecture != architecture:
        raise AdapterError(
            f"The adapter {record.name!r} was trained on {record.base_model} (architecture "
            f"{record.architecture[:12]}), but this profile runs {base_model} (architecture {architecture[:12]}); "
            "choose another adapter or profile."
        )
    if record.preprocessing != preprocessing:
        raise AdapterError(
            f"The adapter {record.name!r} was trained with preprocessing {record.preprocessing[:12]}, but this profile "
            f"uses {preprocessing[:12]}; train it again with this profile's settings or choose another."
        )
    if record.weights == weights:
        return []
    sides = (
        f"The adapter {record.name!r} was trained on {record.base_model} (weights {record.weights[:12]}), but this "
        f"profile runs {base_model} (weights {weights[:12]})"
    )
    if record.base_model not in compatible_bases:
        raise AdapterError(
            f"{sides}; choose another adapter, or list {record.base_model!r} under compatible_bases of the profile if "
            "they are releases of the same model."
        )
    return [f"{sides}; its figures were not measured on these weights."]


def _parsed(values: Mapping[str, Any], path: Path) -> _Record:
    try:
        return _Record.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise AdapterError(
            f"{path} is refused: {where}: {first['msg']}; mend it or train the adapter again."
        ) from error


def _subfolders(folder: Path) -> list[Path]:
    """Its folders by name, without hidden ones (an adapter that is being added)."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _mark(folder: Path) -> object:
    """Changes when a file in ``folder`` is added, removed or written to."""
    try:
        stats = {str(path): path.stat() for path in folder.rglob("*")}
    except FileNotFoundError:  # removed meanwhile
        return None
    return {name: (stat.st_mtime_ns, stat.st_size) for name, stat in stats.items()}
