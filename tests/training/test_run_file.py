"""Settings from a YAML file: flags win over it, it wins over the script's top, and a run can be repeated from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from services.errors import SettingsError
from training import Qlora_train, run_file


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the script would run with, as its own command line reads it."""
    found: dict[str, Any] = {}
    monkeypatch.setattr(Qlora_train, "_run", lambda given, **modes: found.update(given, **modes))
    return found


def command(*arguments: str) -> None:
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(Qlora_train.main)
    app([*arguments], standalone_mode=False)


def test_flags_win_over_the_file_and_the_file_over_the_top(tmp_path: Path, chosen: dict[str, Any]) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("data: clips.json\nrank: 8\nlearning_rate: 1e-4\nepochs: 2\ngradient_checkpointing: true\n")
    command("--epochs", "9", "--config", str(file))
    assert (chosen["data"], chosen["rank"], chosen["learning_rate"]) == ("clips.json", 8, 1e-4)
    assert chosen["epochs"] == 9 and chosen["gradient_checkpointing"] is True
    assert chosen["alpha"] == Qlora_train.ALPHA
    command("--config", str(file), "--no-gradient-checkpointing", "--data", "other.json")
    assert chosen["gradient_checkpointing"] is False and chosen["data"] == "other.json"


def test_what_is_written_repeats_the_run(tmp_path: Path, chosen: dict[str, Any]) -> None:
    command("--data", "clips.json", "--rank", "4", "--max-steps", "3", "--output", str(tmp_path / "run"))
    first = {key: value for key, value in chosen.items() if key not in ("resume", "dry", "verbose")}
    run_file.write(tmp_path / "run", first)
    chosen.clear()
    command("--config", str(tmp_path / "run" / run_file.FILE))
    assert {key: chosen[key] for key in first} == first
    assert [path.name for path in (tmp_path / "run").iterdir()] == [run_file.FILE]


def test_paths_are_written_so_that_they_hold_from_any_folder(tmp_path: Path) -> None:
    run_file.write(tmp_path, {"data": Path("clips.json"), "cache": None, "seed": 3})
    values = yaml.safe_load((tmp_path / run_file.FILE).read_text())
    assert values == {"data": str(Path("clips.json").absolute()), "seed": 3}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("lerning_rate: 1", "unknown keys (lerning_rate); known are accumulation, alpha"),
        ("resume: true", "unknown keys (resume)"),
        ("- 1\n- 2", "one 'key: value' a line"),
        ("rank: [1, 2]", "more than one value for rank"),
        ("rank: {", "not usable YAML"),
        (None, "cannot be read (No such file"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence(
    tmp_path: Path, chosen: dict[str, Any], text: str | None, says: str
) -> None:
    if text is not None:
        (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(SettingsError) as caught:
        command("--config", str(tmp_path / "run.yaml"))
    assert says in str(caught.value) and "\n" not in str(caught.value)
    assert chosen == {}


@pytest.mark.parametrize("value", ["16.5", "many", "true"])
def test_a_value_of_another_type_is_refused_and_not_rounded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    (tmp_path / "run.yaml").write_text(f"rank: {value}\n")
    monkeypatch.setattr("sys.argv", ["Qlora_train.py", "--config", str(tmp_path / "run.yaml")])
    assert Qlora_train.run() == 2
    told = capsys.readouterr().err
    assert "rank" in told and "valid integer" in told and told.count("\n") == 1
