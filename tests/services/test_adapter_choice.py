"""Which adapter a request runs with, and which are refused before one waits for an answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.adapter_choice import AdapterChoice
from services.adapters import AdapterRegistry
from services.errors import AdapterError
from services.settings import located
from tests.services.adapter_cases import shipped


@pytest.fixture
def registry(service: Any, tmp_path: Path) -> AdapterRegistry:
    folders = [folder for name in service.profile.adapters if (folder := located(name))]
    return AdapterRegistry(folders, tmp_path / "adapters")


@pytest.fixture
def choice(service: Any, registry: AdapterRegistry) -> Iterator[AdapterChoice]:
    yield AdapterChoice(registry, service)


def other_base(folder: Path) -> Path:
    """The shipped adapter as if it had been trained for another base."""
    made = shipped(folder, 0.5)
    record = json.loads((made / "herdlens.json").read_text())
    record |= {"architecture": "f" * 64, "weights": "f" * 64, "base_model": "somebody/else"}
    (made / "herdlens.json").write_text(json.dumps(record))
    return made


def test_without_a_name_the_profiles_adapter_of_the_task_runs(choice: AdapterChoice) -> None:
    assert choice.named(None, "mounting")[0].name == "mounting"
    assert choice.named(None, "quality")[0].name == "quality"


def test_an_adapter_of_another_task_is_refused_by_name(choice: AdapterChoice) -> None:
    with pytest.raises(AdapterError, match="'quality' was trained for the task 'quality', not for 'mounting'"):
        choice.named("quality", "mounting")


def test_an_adapter_of_another_base_is_neither_run_nor_kept(choice: AdapterChoice, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="somebody/else"):
        choice.add(other_base(tmp_path / "foreign"), "foreign")
    assert "foreign" not in choice.names(None)


def test_a_foreign_adapter_is_not_offered_once_the_base_is_known(
    choice: AdapterChoice, registry: AdapterRegistry, service: Any, tmp_path: Path
) -> None:
    service.backend.warm_up()
    registry.add(other_base(tmp_path / "foreign"), "foreign")
    assert "foreign" in choice.names(None)
    assert "foreign" not in choice.names("mounting")
    assert "somebody/else" in str(choice.problem(registry.get("foreign")))


def test_a_refused_new_version_leaves_the_registered_one(
    choice: AdapterChoice, registry: AdapterRegistry, tmp_path: Path
) -> None:
    choice.add(shipped(tmp_path / "good", 0.5), "mine")
    before = registry.get("mine").digest
    with pytest.raises(AdapterError):
        choice.add(shipped(tmp_path / "idle", 0.0), "mine")
    assert registry.get("mine").digest == before


def test_the_verdict_rule_speaks_for_the_very_adapter_it_was_fitted_for(choice: AdapterChoice, tmp_path: Path) -> None:
    choice.add(shipped(tmp_path / "half", 0.5), "half")
    assert choice.is_calibrated("mounting")
    assert not choice.is_calibrated("half")
