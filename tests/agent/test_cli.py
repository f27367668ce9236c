"""The command line as other programs call it: one JSON line per clip, one plain line per failure, exit statuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.settings import ROOT
from tests.services.adapter_cases import shipped

SAMPLES = ROOT / "assets/demo/samples"


def agent(*arguments: str, data: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in os.environ.items() if not key.startswith("HERDLENS_")}
    env |= {"HERDLENS_DATA": str(data), **environment}
    return subprocess.run(
        [sys.executable, "-m", "agent", *arguments], cwd=ROOT, capture_output=True, text=True, env=env, timeout=240
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def test_several_clips_with_one_bad_among_them(data: Path, tmp_path: Path) -> None:
    truth = {
        entry["video"].removeprefix("./"): "mounting" if "YES" in entry["conversations"][1]["value"] else "normal"
        for entry in json.loads((SAMPLES / "annotations.json").read_text())
    }
    bad = tmp_path / "holiday.mp4"
    bad.write_text("not a video")
    clips = [str(SAMPLES / name) for name in truth]
    result = agent("analyze", *clips[:3], str(bad), *clips[3:], "--json", data=data)

    reports = [json.loads(line) for line in result.stdout.splitlines()]
    assert [Path(report["clip"]["path"]).name for report in reports] == list(truth)
    assert [report["verdict"] for report in reports] == list(truth.values())
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"{bad}: ")

    report = reports[0]
    assert set(report["clip"]) == {"path", "sha256", "duration_s", "fps", "width", "height", "window"}
    assert [variant["name"] for variant in report["variants"]] == ["base", "tuned"]
    assert report["variants"][0]["adapter"] is None and report["variants"][1]["adapter"]
    assert {hit["label"] for hit in report["neighbours"][:2]} == {"mounting", "normal"}
    assert set(report["timings"]) >= {"inspect_s", "retrieve_s", "classify_s", "total_s"}
    assert report["decided_by"]["variant"] == "tuned"
    assert report["variants"][1]["p_decided"] == report["p_mounting"] != report["variants"][0]["p_decided"]
    assert any("rendered" in warning for warning in report["warnings"])


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("analyze",), 2, "CLIP"),
        (("analyze", "x.mp4", "--variant", "both-of-them"), 2, "--variant"),
        (("analyze", "x.mp4", "--start", "-3"), 2, "--start"),
        (("analyze", "x.mp4", "--profile", "nope"), 2, "nope"),
        (("analyze", "missing.mp4"), 2, "missing.mp4"),
        (("library", "remove", "no-such-id"), 2, "no-such-id"),
        (("adapters", "add", "no/such/folder"), 2, "no/such/folder"),
        (("analyze", str(SAMPLES / "normal_head_pushing.mp4"), "--profile", "cpu"), 3, "download"),
    ],
)
def test_each_failure_is_one_plain_line_with_its_status(
    arguments: tuple[str, ...], status: int, words: str, data: Path
) -> None:
    result = agent(*arguments, data=data, HF_HUB_OFFLINE="1")
    lines = result.stderr.splitlines()
    assert (result.returncode, len(lines)) == (status, 1), result.stderr
    assert words in lines[0]
    assert "Traceback" not in result.stderr and result.stdout == ""


def test_an_unusable_adapter_costs_its_own_column_only(data: Path) -> None:
    clip = next(SAMPLES.glob("*.mp4"))
    result = agent("analyze", str(clip), "--adapter", "no-such-adapter", "--json", data=data)
    report = json.loads(result.stdout)
    base, tuned = report["variants"]
    assert result.returncode == 0 and result.stderr == ""
    assert base["error"] is None and report["decided_by"]["variant"] == "base"
    assert "no-such-adapter" in tuned["error"] and tuned["p_mounting"] is None


def test_every_variant_failing_is_status_3(data: Path) -> None:
    clip = next(SAMPLES.glob("*.mp4"))
    result = agent("analyze", str(clip), "--variant", "tuned", "--adapter", "no-such-adapter", data=data)
    assert result.returncode == 3 and "no-such-adapter" in result.stderr


def test_doctor_finds_the_demo_complete(data: Path) -> None:
    result = agent("doctor", data=data)
    assert result.returncode == 0, result.stdout
    assert "332 reference clips" in result.stdout and "-- " not in result.stdout


def test_the_library_takes_and_gives_back_a_clip(data: Path, tmp_path: Path) -> None:
    own = tmp_path / "data"
    added = agent("library", "add", str(SAMPLES / "annotations.json"), data=own)
    assert (added.returncode, added.stdout) == (0, "6 reference clips added.\n")
    rows = [line.split("\t") for line in agent("library", "list", data=own).stdout.splitlines()]
    mine = [row for row in rows if row[2] == "user"]
    assert len(mine) == 6 and len(rows) == 338
    assert agent("library", "remove", mine[0][0], data=own).returncode == 0
    assert agent("library", "remove", rows[0][0], data=own).stdout.endswith("it is hidden from now on.\n")
    assert len(agent("library", "list", data=own).stdout.splitlines()) == 336
    exported = tmp_path / "mine.json"
    assert agent("library", "export", str(exported), data=own).returncode == 0
    assert len(json.loads(exported.read_text())) == 336


def test_adapters_are_tried_before_they_are_kept(tmp_path: Path) -> None:
    """One that does nothing and one of another base are refused in a sentence; a good one is chosen by its name."""
    own = tmp_path / "data"
    idle = agent("adapters", "add", str(shipped(tmp_path / "idle", 0.0)), "--name", "idle", data=own)
    foreign = agent(
        "adapters", "add", str(shipped(tmp_path / "foreign", architecture="a" * 64)), "--name", "foreign", data=own
    )
    for refused, words in ((idle, "'idle' is a no-op"), (foreign, "'foreign' was trained on assets/demo/base")):
        assert (refused.returncode, refused.stdout) == (2, "")
        (line,) = refused.stderr.splitlines()
        assert words in line and line.endswith(".")
    good = agent("adapters", "add", str(shipped(tmp_path / "mild", 0.5)), "--name", "mild", data=own)
    assert (good.returncode, good.stdout) == (0, "The adapter 'mild' was added.\n")
    names = [line.split("\t")[0] for line in agent("adapters", "list", data=own).stdout.splitlines()]
    assert "mild" in names and not {"idle", "foreign"} & set(names)
    clip = str(SAMPLES / "mounting_at_night.mp4")
    report = json.loads(agent("analyze", clip, "--variant", "tuned", "--adapter", "mild", "--json", data=own).stdout)
    assert report["variants"][0]["adapter"] == "mild" and report["variants"][0]["p_mounting"] is not None
    assert agent("adapters", "remove", "mild", data=own).returncode == 0


def test_nothing_is_loaded_from_the_network(data: Path) -> None:
    clip = next(SAMPLES.glob("*.mp4"))
    code = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise AssertionError(f'network: {a}')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "from agent.__main__ import main\n"
        f"sys.argv = ['agent', 'analyze', {str(clip)!r}, '--json']\n"
        "sys.exit(main())\n"
    )
    env = os.environ | {"HERDLENS_DATA": str(data)}
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env=env)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["verdict"] in ("mounting", "normal")
