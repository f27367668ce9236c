"""Without a server: doctor and analyze say so in one sentence each and end with status 3."""

from __future__ import annotations

from pathlib import Path

from tests.agent.test_cli import SAMPLES, agent

NOWHERE = {"HERDLENS_PROFILE": "demo-server", "HERDLENS_SERVER_URL": "http://127.0.0.1:9/v1"}


def test_doctor_names_the_server_that_does_not_answer(tmp_path: Path) -> None:
    result = agent("doctor", data=tmp_path, **NOWHERE)
    assert result.returncode == 3
    lines = result.stdout.splitlines()
    assert "--  server: not usable" in lines
    assert "make serve" in lines[lines.index("--  server: not usable") + 1]
    assert any(line.startswith("ok  base model's files") for line in lines)


def test_an_analysis_is_one_line_and_status_three(tmp_path: Path) -> None:
    result = agent("analyze", str(SAMPLES / "normal_head_pushing.mp4"), data=tmp_path, **NOWHERE)
    assert (result.returncode, result.stdout) == (3, "")
    (line,) = result.stderr.splitlines()
    assert "No model server answers at http://127.0.0.1:9/v1" in line and "make serve" in line
