"""Without a server: doctor and analyze say so in one sentence each and end with status 3."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.settings import Settings, profile
from tests.agent.test_cli import SAMPLES, agent

NOWHERE = {"HERDLENS_PROFILE": "demo-server", "HERDLENS_SERVER_URL": "http://127.0.0.1:9/v1"}


def test_doctor_names_the_server_that_does_not_answer(tmp_path: Path) -> None:
    result = agent("doctor", data=tmp_path, **NOWHERE)
    assert result.returncode == 3
    lines = result.stdout.splitlines()
    assert "--  server: not usable" in lines
    assert "make serve" in lines[lines.index("--  server: not usable") + 1]
    assert any(line.startswith("ok  base model's files") for line in lines)


@pytest.mark.parametrize(
    ("url", "options"), [("http://127.0.0.1:8000/v1", ""), ("http://192.0.2.7:8000/v1", " --without-weights")]
)
def test_without_a_checkpoint_doctor_gives_the_command_that_fetches_it(tmp_path: Path, url: str, options: str) -> None:
    """Weights are needed where the server runs, and nowhere else."""
    from agent.doctor import examine
    from services.model_service import ModelService

    unknown = profile("gpu").model_copy(update={"base_model": "nobody/has-this-model"})
    service = ModelService(Settings(data=tmp_path, server_url=url), unknown)
    (found,) = [finding for finding in examine(service) if finding.what == "base model's files"]
    assert not found.good and f"'python -m agent download --profile gpu{options}'" in found.remedy


def test_a_download_without_the_hub_is_one_line_and_status_three(tmp_path: Path) -> None:
    result = agent("download", "--profile", "cpu", data=tmp_path, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))
    (line,) = result.stderr.splitlines()
    assert result.returncode == 3 and "could not be downloaded" in line and "goes on where it stopped" in line


def test_an_analysis_is_one_line_and_status_three(tmp_path: Path) -> None:
    result = agent("analyze", str(SAMPLES / "normal_head_pushing.mp4"), data=tmp_path, **NOWHERE)
    assert (result.returncode, result.stdout) == (3, "")
    (line,) = result.stderr.splitlines()
    assert "No model server answers at http://127.0.0.1:9/v1" in line and "make serve" in line
