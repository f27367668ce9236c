"""The whole build, rehearsed at a hundredth of its size: from nothing, killed in the middle, and gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from services.settings import ROOT
from training.demo import stages
from training.demo.build import LANES, MINUTES, build, grouped, minutes
from training.demo.bundle import Bundle
from training.demo.card import TIMES
from training.demo.figures_file import FILES, MEASURED_WITH, OF, TITLES, Figures, begin_anew, keep, unchanged
from training.demo.harvest import Stored
from training.demo.stages import STAGES

ALONE = {"clips", "vision", "base", "samples", "calibrate", "card"}


def _build(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "training.demo.build", "--scale", "0.01"]
    command += ["--bundle", str(folder / "bundle"), "--work", str(folder / "work")]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, start_new_session=True)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_build_from_nothing_survives_a_kill_and_ends_with_a_card(tmp_path: Path) -> None:
    first = _build(tmp_path)
    done = tmp_path / "work" / "done"
    while not (done / "vision").exists():
        assert first.poll() is None, first.stderr and first.stderr.read().decode()[-2000:]
        time.sleep(0.2)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    kept = {path.name: path.stat().st_mtime_ns for path in done.iterdir()}
    assert set(kept) == {"clips", "vision"}

    second = _build(tmp_path)
    _, said = second.communicate(timeout=1500)
    assert second.returncode == 0, said.decode()[-2000:]
    assert {path.name for path in done.iterdir()} == set(STAGES)
    assert {name: (done / name).stat().st_mtime_ns for name in kept} == kept, "a finished stage was made again"
    bundle = tmp_path / "bundle"
    card = (bundle / "CARD.md").read_text(encoding="utf-8")
    assert all(title in card for title in json.loads((bundle / "figures.json").read_text(encoding="utf-8")))
    times = json.loads((bundle / TIMES).read_text(encoding="utf-8"))
    assert list(times) == list(STAGES) and all(f"| {name} | {row['minutes']} |" in card for name, row in times.items())
    weights = ("base/model", "embedder/model", "adapters/mounting/adapter_model", "adapters/quality/adapter_model")
    for part in (f"{name}.safetensors" for name in weights):
        assert (bundle / part).stat().st_size > 0


def _ran(monkeypatch: pytest.MonkeyPatch, bundle: Bundle, first: str | None, only: list[str]) -> list[str]:
    """The stages that ``build`` does, one after the other; they do nothing."""
    ran: list[str] = []
    for name in STAGES:
        monkeypatch.setitem(STAGES, name, lambda _, name=name: ran.append(name))
    monkeypatch.setattr("training.demo.build.LANES", ())
    monkeypatch.setattr("training.demo.build.write_card", lambda *_: None)
    build(bundle, first, only)
    return ran


def test_from_makes_a_stage_and_all_after_it_anew_and_only_the_named_ones_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Bundle(tmp_path / "bundle", tmp_path / "work")
    bundle.work.mkdir()
    assert _ran(monkeypatch, bundle, None, []) == list(STAGES)
    assert _ran(monkeypatch, bundle, None, []) == [], "finished stages were made again"
    assert _ran(monkeypatch, bundle, "quality", []) == list(STAGES)[list(STAGES).index("quality") :]
    assert _ran(monkeypatch, bundle, None, ["card", "calibrate", "adapter"]) == ["adapter", "calibrate", "card"]
    assert list(json.loads((bundle.folder / TIMES).read_text(encoding="utf-8"))) == list(STAGES)


def test_a_killed_stage_is_not_done_and_leaves_the_time_of_those_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Bundle(tmp_path / "bundle", tmp_path / "work")
    bundle.work.mkdir()

    def killed(_: Bundle) -> None:
        raise KeyboardInterrupt

    for name in STAGES:
        monkeypatch.setitem(STAGES, name, killed if name == "base" else lambda _: None)
    with pytest.raises(KeyboardInterrupt):
        build(bundle, None, [])
    assert {path.name for path in (bundle.work / "done").iterdir()} == {"clips", "vision"}
    assert list(json.loads((bundle.folder / TIMES).read_text(encoding="utf-8"))) == ["clips", "vision"]


def test_the_shipped_adapter_stays_until_the_new_one_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Bundle(tmp_path / "bundle", tmp_path / "work")
    bundle.adapter.mkdir(parents=True)
    bundle.base.symlink_to(ROOT / "assets" / "demo" / "base")
    (bundle.adapter / "adapter_model.safetensors").write_text("shipped")
    monkeypatch.setattr(stages.torch, "set_num_threads", lambda _: None)
    none = Stored(tmp_path, np.zeros((0, 0), np.uint8), None, {}, ())
    monkeypatch.setattr(Bundle, "stored", lambda *_: none)
    started: list[object] = []
    monkeypatch.setattr(stages, "features", lambda *_, **__: None)
    outputs: list[Path] = []

    def broken(profile: object, base: Path, output: Path, *_: object, **__: object) -> None:
        (output / "checkpoint").mkdir(parents=True)
        outputs.append(output)
        raise KeyboardInterrupt

    def finished(profile: object, base: Path, output: Path, *_: object, **__: object) -> None:
        assert (output / "checkpoint").is_dir(), "the broken training is not gone on with"
        outputs.append(output)
        (output / "herdlens.json").write_text("first")

    def gone_on(profile: object, base: Path, output: Path, *_: object, start: Path, **__: object) -> None:
        assert (start / "herdlens.json").is_file()
        outputs.append(output)
        started.append(start)
        output.mkdir(exist_ok=True)
        if len(started) == 2:
            raise KeyboardInterrupt
        for name in ("adapter_model.safetensors", "progress.jsonl", "settings.yaml", "herdlens.json"):
            (output / name).write_text("new")

    monkeypatch.setattr(stages, "go_on_with_cases", gone_on)
    monkeypatch.setattr(stages, "fine_tune", broken)
    with pytest.raises(KeyboardInterrupt):
        stages.adapter(bundle)
    assert (bundle.adapter / "adapter_model.safetensors").read_text() == "shipped"
    monkeypatch.setattr(stages, "fine_tune", finished)
    with pytest.raises(KeyboardInterrupt):
        stages.adapter(bundle)
    assert (bundle.adapter / "adapter_model.safetensors").read_text() == "shipped"
    stages.adapter(bundle)
    assert {path.name for path in bundle.adapter.iterdir()} == {"adapter_model.safetensors", "herdlens.json"}
    assert (bundle.adapter / "adapter_model.safetensors").read_text() == "new"
    first, again, second, third, resumed = outputs  # what is finished is not made again when a later run was killed
    assert first == again and third == resumed and len({first, second, third}) == 3
    assert started == [first, second, second]
    assert not any(output.exists() for output in outputs)


def test_a_rehearsal_does_not_replace_the_shipped_bundle() -> None:
    command = [sys.executable, "-m", "training.demo.build", "--scale", "0.5"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 2 and "--bundle" in run.stderr


def test_lanes_run_in_one_step_and_nothing_else_changes_its_place() -> None:
    steps = grouped(list(STAGES))
    assert [list(lane) for lane in LANES] in steps
    assert [step for step in steps if len(step) == 1] == [[[name]] for name in STAGES if name in ALONE]
    assert grouped(["quality", "card"]) == [[["quality"]], [["card"]]]
    assert grouped(["adapter", "quality"]) == [[["adapter"], ["quality"]]]


def test_every_stage_is_planned_within_an_hour_and_lanes_take_no_longer_than_one_after_the_other() -> None:
    assert set(MINUTES) == set(STAGES)
    assert max(MINUTES.values()) <= 60
    lanes = [list(lane) for lane in LANES]
    assert max(minutes([lane]) for lane in lanes) <= minutes(lanes) < sum(minutes([lane]) for lane in lanes)


def _kept(folder: Path) -> set[str]:
    return set(json.loads((folder / "figures.json").read_text(encoding="utf-8"))) - {MEASURED_WITH}


def test_a_figure_stays_only_as_long_as_the_files_that_it_is_of(tmp_path: Path) -> None:
    for file in FILES.values():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("first")
    titles = ("Mounting, new viewpoints", "Base, captions", "Embedder", "Picture quality, held-out renders")
    keep(Figures({title: {"new viewpoints: a": "1"} for title in titles}), tmp_path)
    assert set(unchanged(tmp_path)) == set(titles)
    gone = {
        "mounting adapter": {titles[0]},
        "calibration": {titles[0]},
        "novelty": {titles[0]},
        "quality adapter": {titles[0], titles[3]},
        "embedder": {titles[0], titles[2]},
        "base": {titles[0], titles[1], titles[3]},
    }
    assert gone.keys() == FILES.keys() and all(set(files) <= FILES.keys() for files in OF.values())
    for name, lost in gone.items():
        (tmp_path / FILES[name]).write_text("second")
        assert set(unchanged(tmp_path)) == set(titles) - lost, name
        (tmp_path / FILES[name]).write_text("first")
    (tmp_path / FILES["base"]).write_text("second")
    keep(Figures({"Tower": {"a": "1"}}), tmp_path)
    assert _kept(tmp_path) == {"Embedder", "Tower"}


def test_what_the_build_leaves_out_stays_as_long_as_it_is_of_the_same_files(tmp_path: Path) -> None:
    for file in FILES.values():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("first")
    more = f"Mounting, {TITLES['more']}: tuned, off"
    keep(Figures({more: {"recall": "1"}, "Mounting, new viewpoints": {"recall": "1"}}), tmp_path)
    begin_anew(tmp_path)
    assert _kept(tmp_path) == {more}
    (tmp_path / FILES["mounting adapter"]).write_text("second")
    begin_anew(tmp_path)
    assert not (tmp_path / "figures.json").exists()
