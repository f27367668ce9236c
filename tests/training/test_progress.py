"""The live log of a run: what a screen in another process reads while it trains, stops and goes on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.errors import AnnotationError, Cancelled
from services.settings import ROOT
from tests.training.toy_clips import quiet
from training.data import Sample
from training.progress import LOG
from training.settings import TrainConfig
from training.trainer import train

Settings = Callable[..., TrainConfig]


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / LOG).read_text(encoding="utf-8").splitlines()]


def test_a_run_logs_its_settings_each_step_each_validation_and_its_end(settings: Settings, toys: list[Sample]) -> None:
    config = settings(epochs=2, batch=10)
    result = train(config, toys, report=quiet)
    head, *rows, last = lines(config.output)
    assert head["state"] == "running" and head["total_steps"] == 4 and head["settings"]["rank"] == 16
    assert (head["samples"], head["held_out"]) == (20, 4)
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3, 4]
    measured = [row for row in rows if "validation_loss" in row]
    assert [row["step"] for row in measured] == [0, 2, 4], "the base is measured too, before it is changed"
    assert min(row["validation_loss"] for row in measured[1:]) == result.metrics["validation_loss"]
    assert measured[0]["validation_loss"] == result.metrics["base_validation_loss"]
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds) and seconds[0] > 0.0
    assert rows[1]["left_s"] > 0.0 and rows[-1]["left_s"] == 0.0
    assert last["state"] == "done" and str(config.output) in last["message"]


def test_a_resumed_run_cuts_the_log_back_to_its_checkpoint(settings: Settings, toys: list[Sample]) -> None:
    config = settings(epochs=1, batch=8)
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        train(config, toys, report=quiet, cancelled=stop)
    assert lines(config.output)[-1]["state"] == "stopped"
    with open(config.output / LOG, "a", encoding="utf-8") as log:  # as a run leaves it that was killed after a step
        log.write('{"step": 2, "loss": 99.0}\n{"step": 3, "lo')
    train(config, toys, resume=True, report=quiet)
    head, *rows, last = lines(config.output)
    assert head["resumed_at_step"] == 1
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3]
    assert all(row.get("loss") != 99.0 for row in rows)
    assert last["state"] == "done"


def test_bad_data_leave_one_line_with_every_problem(settings: Settings, toys: list[Sample]) -> None:
    config = settings()
    with pytest.raises(AnnotationError):
        train(config, toys, validation=toys[:2], report=quiet)
    (only,) = lines(config.output)
    assert only["state"] == "failed" and len(only["problems"]) == 2


TRAIN = """
import sys
from pathlib import Path
from services.errors import Cancelled
from tests.training.toy_clips import toy
from training.settings import TrainConfig
from training.trainer import train
toys = [toy(seed, label) for seed in range(4) for label in ("mounting", "normal")]
config = TrainConfig(model=sys.argv[1], output=Path(sys.argv[2]), frames=4, min_pixels=16384, max_pixels=16384,
                     precision="fp32", batch=2, epochs=500)
try:
    train(config, toys)
except Cancelled:
    sys.exit(130)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_termination_save_and_stop(tiny_base: Path, tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-c", TRAIN, str(tiny_base), str(tmp_path / "run")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        log = tmp_path / "run" / LOG
        until = time.monotonic() + 120
        while not (log.is_file() and len(log.read_text(encoding="utf-8").splitlines()) > 3):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(60) == 130
    finally:
        process.kill()
    *_, step, last = lines(tmp_path / "run")
    assert last["state"] == "stopped"
    assert (tmp_path / "run" / f"checkpoint-{step['step']:06d}" / "state.json").is_file()
