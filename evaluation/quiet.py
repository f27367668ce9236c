"""How every command begins: settings read, libraries told to be quiet, the log opened."""

from __future__ import annotations

import warnings

from agent.__main__ import log_to
from services.settings import Settings, load_settings, quiet_libraries


def quiet_settings() -> Settings:
    """The environment's settings, with the libraries told, before they load, to be quiet and write to the log."""
    warnings.filterwarnings("ignore")
    quiet_libraries()
    settings = load_settings()
    log_to(settings.data)
    return settings
