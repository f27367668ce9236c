"""A full disk, a kill at any moment, a folder that cannot be written: the last good checkpoint stays."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from services.errors import Cancelled, ResourceError
from services.settings import ROOT
from tests.training.toy_clips import quiet
from training import checkpoints
from training.data import Sample
from training.settings import TrainConfig
from training.trainer import train

Settings = Callable[..., TrainConfig]


def small(step: int, size: int = 1000) -> checkpoints.Checkpoint:
    values = {"w": torch.full((size,), float(step))}
    return checkpoints.Checkpoint({"step": step}, values, {}, {}, {"cpu": torch.get_rng_state()})


@contextmanager
def limited_files() -> Iterator[None]:
    """No file may grow beyond 100 KB, which fails as a full disk does, in the middle of a write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    place = tmp_path / "device"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root can mount a small file system")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_file_system_leaves_the_last_checkpoint(device: Path) -> None:
    checkpoints.save(device, 1, small(1, size=150_000))
    with pytest.raises(ResourceError, match=r"cannot be written to \(.*[Nn]o space.*make room"):
        checkpoints.save(device, 2, small(2, size=150_000))
    assert [path.name for path in device.iterdir()] == ["checkpoint-000001"]
    kept = checkpoints.latest(device)
    assert kept is not None and float(kept.weights["w"].sum()) == 150_000.0


def test_a_run_cut_in_the_middle_of_a_write_keeps_its_checkpoint_and_goes_on(
    settings: Settings, toys: list[Sample], tmp_path: Path
) -> None:
    config = settings(epochs=2, batch=4, save_every=1, context="off", validation_share=0.0)
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        train(config, toys[:4], report=quiet, cancelled=stop)
    with limited_files(), pytest.raises(ResourceError, match=r"cannot be written to \(.*make room"):
        train(config, toys[:4], resume=True, report=quiet)
    kept = checkpoints.latest(config.output)
    assert kept is not None and kept.state["progress"]["step"] == 1
    assert [path.name for path in config.output.iterdir() if path.name.startswith(".")] == []
    assert train(config, toys[:4], resume=True, report=quiet).metrics["steps"] == 2


def test_saving_the_same_step_again_never_leaves_a_moment_without_one(tmp_path: Path) -> None:
    """A step and the end of its epoch both save: what is put aside counts until the new one has its place."""
    checkpoints.save(tmp_path, 3, small(3))
    os.replace(tmp_path / "checkpoint-000003", tmp_path / ".checkpoint-000003.before")  # killed between two renames
    found = checkpoints.latest(tmp_path)
    assert found is not None and float(found.weights["w"][0]) == 3.0
    checkpoints.save(tmp_path, 4, small(4))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-000004"]


SAVING = """
import sys
from pathlib import Path
from tests.training.test_durability import small
from training import checkpoints
while True:
    checkpoints.save(Path(sys.argv[1]), 7, small(7))
"""


@pytest.mark.slow
def test_killed_while_saving_the_same_step_there_is_always_a_whole_one(tmp_path: Path) -> None:
    for number in range(8):
        process = subprocess.Popen([sys.executable, "-c", SAVING, str(tmp_path)], cwd=ROOT)
        while checkpoints.present(tmp_path) is None:
            time.sleep(0.01)
        time.sleep(3.0 + 0.037 * number)  # importing takes the longest
        process.send_signal(signal.SIGKILL)
        process.wait()
        found = checkpoints.latest(tmp_path)
        assert found is not None and float(found.weights["w"][999]) == 7.0


def test_an_output_that_cannot_be_a_folder_is_told_in_words(
    settings: Settings, toys: list[Sample], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ResourceError, match="cannot be written to"):
        train(settings(output=tmp_path / "file" / "run"), toys[:8], report=quiet)
