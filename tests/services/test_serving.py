"""The command that `make serve` runs: what vLLM is told, and what is refused."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import distributions
from pathlib import Path

import pytest

from services import serving as module
from services.adapters import validate
from services.errors import SettingsError
from services.model_identity import identify
from services.serving import serving
from services.settings import ROOT, Settings, profile


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is started here, so vLLM need not be installed."""
    python = tmp_path / "python"
    python.touch()
    monkeypatch.setattr(module, "PYTHON", python)


def options(*arguments: str, **settings: str) -> tuple[str, ...]:
    return serving(Settings(data=Path("/nonexistent"), **settings), profile("demo-server"), "cpu", arguments).command


def after(command: tuple[str, ...], option: str) -> str:
    return command[command.index(option) + 1]


def test_names_carry_the_digests_of_what_they_name() -> None:
    command = options()
    at = command.index("--served-model-name")
    weights = identify(ROOT / "assets/demo/base").weights
    assert command[at + 1 : at + 3] == ("assets/demo/base", f"weights-{weights}")
    record = validate(ROOT / "assets/demo/adapters/mounting")
    assert after(command, "--lora-modules") == f"mounting-{record.digest[:12]}={record.folder.resolve()}"


def test_the_servers_own_sampling_settings_are_off() -> None:
    assert after(options(), "--generation-config") == "vllm"


def test_the_profile_gives_context_and_type() -> None:
    command = options()
    assert (after(command, "--max-model-len"), after(command, "--dtype")) == ("4096", "float32")


def test_further_options_come_last() -> None:
    assert options("--seed", "3")[-2:] == ("--seed", "3")


def test_the_key_is_in_the_environment_and_not_in_the_command() -> None:
    made = serving(Settings(data=Path("/nonexistent"), server_key="secret"), profile("demo-server"), "cpu")
    assert made.environment["VLLM_API_KEY"] == "secret" and "secret" not in " ".join(made.command)


def test_a_server_for_others_needs_a_key() -> None:
    with pytest.raises(SettingsError, match="HERDLENS_SERVER_KEY"):
        options(server_url="http://0.0.0.0:8000/v1")


def test_a_profile_that_quantises_while_loading_is_refused() -> None:
    with pytest.raises(SettingsError, match="gpu-8gb"):
        serving(Settings(data=Path("/nonexistent")), profile("gpu-8gb"), "cpu")


def test_the_cpu_server_finds_its_plugin_and_the_gpu_server_has_none() -> None:
    cpu, gpu = (serving(Settings(data=Path("/nonexistent")), profile("demo-server"), one) for one in ("cpu", "gpu"))
    assert "PYTHONPATH" not in gpu.environment
    found = distributions(path=[cpu.environment["PYTHONPATH"]])
    (plugin,) = [entry for one in found for entry in one.entry_points if entry.group == "vllm.general_plugins"]
    assert plugin.value == "herdlens_vllm_cpu:keep_base_apart"
    assert hasattr(import_module(f"services.vllm_cpu.{plugin.module}"), plugin.attr)
