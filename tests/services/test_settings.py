"""Profiles and settings: nothing unknown passes silently."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from services.errors import SettingsError
from services.settings import Profile, load_settings, located, profile, profiles


def test_every_profile_of_the_design_is_there_and_demo_is_the_default() -> None:
    assert list(profiles()) == ["demo", "cpu", "gpu-8gb", "gpu-6gb", "demo-server", "gpu", "server"]
    assert load_settings().profile in profiles()


def test_the_demo_needs_nothing_but_the_project() -> None:
    demo = profile("demo")
    for name in (demo.base_model, demo.embedder, demo.library, demo.calibration, *demo.adapters):
        assert name and name.startswith("assets/demo/") and located(name).exists()  # type: ignore[union-attr]


def test_an_unknown_profile_names_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=r"'farm'.*demo.*server"):
        profile("farm")


def test_an_unknown_key_in_a_profile_is_an_error() -> None:
    with pytest.raises(ValidationError, match="colour"):
        Profile(**(profile("demo").model_dump() | {"colour": "red"}))


def test_the_environment_is_read_once_and_wrong_values_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HERDLENS_DATA", str(tmp_path))
    monkeypatch.setenv("HERDLENS_PROFILE", "cpu")
    assert (load_settings().data, load_settings().profile) == (tmp_path, "cpu")
    monkeypatch.setenv("HERDLENS_UPLOAD_LIMIT_MB", "lots")
    with pytest.raises(SettingsError, match="upload_limit_mb"):
        load_settings()


def test_a_profile_that_is_like_another_differs_only_in_what_it_says() -> None:
    own = {"name", "title", "engine", "like", "context"}
    assert profile("demo-server").model_dump(exclude=own) == profile("demo").model_dump(exclude=own)
