"""Settings of a run as a YAML file: read for ``--config``, written into the output so that a run can be repeated."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from services.errors import SettingsError
from training.disk import writing

FILE = "settings.yaml"


def read(file: Path, known: Collection[str]) -> dict[str, str]:
    """Values by the flag's name (``learning_rate``), as text: the command line reads and checks them as it does flags.
    SettingsError, in one sentence, for a file that cannot be used or a key that is not in ``known``."""
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise SettingsError(f"The settings file {file} cannot be read ({error.strerror}).") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"The settings file {file} is not usable YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(values, dict):
        raise SettingsError(f"The settings file {file} must hold one 'key: value' a line.")
    unknown = sorted(str(key) for key in values if key not in known)
    if unknown:
        raise SettingsError(
            f"The settings file {file} has unknown keys ({', '.join(unknown)}); known are {', '.join(sorted(known))}."
        )
    wrong = [str(key) for key, value in values.items() if isinstance(value, list | dict)]
    if wrong:
        raise SettingsError(f"The settings file {file} holds more than one value for {', '.join(wrong)}.")
    return {key: str(value) for key, value in values.items() if value is not None}


def write(folder: Path, values: Mapping[str, Any]) -> None:
    """Write ``values`` as ``settings.yaml`` into ``folder``, whole or not at all; paths absolute, unset ones left
    out."""
    plain = {key: str(v.absolute()) if isinstance(v, Path) else v for key, v in values.items() if v is not None}
    head = f"# Settings of this run. To repeat it: python training/Qlora_train.py --config {FILE} --output OTHER\n"
    part = folder / f".{FILE}.{os.getpid()}.part"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        part.write_text(head + yaml.safe_dump(plain, sort_keys=False, allow_unicode=True), encoding="utf-8")
        os.replace(part, folder / FILE)
