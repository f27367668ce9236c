"""Where a model's files are: in the project, in a folder, or in the local hub cache; and how to fetch them."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from services.errors import ModelError, ResourceError
from services.settings import located

WEIGHTS = "*.safetensors"
WANTED = (WEIGHTS, "*.json", "*.txt", "*.jinja")
"""Weights are safetensors; everything else a repository may hold stays there."""


def model_folder(name: str, profile: str | None = None) -> Path:
    """Local folder of a model. Never touches the network; ModelError with the remedy if files are missing, which names
    the ``profile`` that wants the model where it is given."""
    folder = located(name)
    if folder is not None:
        if not (folder / "config.json").exists():
            raise ModelError(f"The model folder {name} is incomplete; restore it from where it came.")
        return folder
    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, OSError, ValueError) as error:
        command = "python -m agent download" + (f" --profile {profile}" if profile else "")
        raise ModelError(
            f"The model {name} is not on this machine; run '{command}', or choose the profile 'demo'."
        ) from error


def download(name: str, *, weights: bool = True) -> Path:
    """Fetch a model's files (``weights``: all, else only the small ones) into the hub cache, with a progress bar; goes
    on where an earlier run stopped."""
    try:
        wanted = [pattern for pattern in WANTED if weights or pattern != WEIGHTS]
        return Path(snapshot_download(name, allow_patterns=wanted))
    except (HfHubHTTPError, OSError) as error:
        raise ResourceError(
            f"{name} could not be downloaded ({type(error).__name__}); check the network and run the command again, "
            "it goes on where it stopped."
        ) from error
