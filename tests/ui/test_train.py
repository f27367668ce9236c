"""The Train screen, driven as a farmer would: the real trainer on the demo base, in a process of its own."""

from __future__ import annotations

import json
import shutil
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.training_runs import RunSettings
from services.training_set import counts
from tests.ui.conftest import PATIENCE_S, address, finished, shown
from ui.words_en_train import WORDS

EPOCHS = 2
STEPS = 12
"""Enough that the run is still going on when the page asks it to stop: six clips to learn from, one at a time."""


def again(source: Path, target: Path) -> Path:
    """The same clip with other content: a box that players skip stands behind it."""
    shutil.copy(source, target)
    with open(target, "ab") as file:
        file.write(struct.pack(">I4s", 16, b"free") + b"herdlens")
    return target


@pytest.fixture
def own(service: Any, samples: list[Any], tmp_path: Path) -> Iterator[None]:
    """Four clips of each label in the farmer's library."""
    more = [next(sample for sample in samples if sample.label == label) for label in ("mounting", "normal")]
    clips = [(sample.path, sample) for sample in samples]
    clips += [(again(sample.path, tmp_path / f"{sample.label}.mp4"), sample) for sample in more]
    ids = [service.add_reference(str(path), sample.label, sample.description).id for path, sample in clips]
    yield
    for id in ids:
        service.library.remove(id)


@pytest.fixture
def page(tab: Any) -> Callable[..., Any]:
    def opened(**parameters: str) -> Any:
        at = tab().switch_page("ui/train.py")
        for key, value in parameters.items():
            at.query_params[key] = value
        return at.run()

    return opened


def start_button(at: Any) -> Any:
    return next(button for button in at.button if button.form_id == "train_form")


def until(at: Any, true: Callable[[], bool]) -> Any:
    """Run the page, as its own polling would, until it is so."""
    deadline = time.monotonic() + 2 * PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)
    return at.run()


def test_what_is_missing_is_one_sentence(page: Any) -> None:
    at = page()
    at.button_group("train_sources").set_value(["sample"])
    at.run()
    assert not at.exception and not at.error
    assert [(metric.label, metric.value) for metric in at.metric] == [("Mounting", "3"), ("Normal", "3")]
    assert "There are 3 mounting and 3 normal clips; training needs at least 4 of each." in shown(at)
    assert start_button(at).disabled


def test_drawn_practice_clips_are_chosen_at_once(page: Any, service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("services.practice", "ui.train_set"):
        monkeypatch.setattr(f"{module}.CLIPS", 8)
    own = counts(service.own_clips())
    at = page()
    assert start_button(at).disabled
    assert bool(sum(own.values())) or "Choose others above, draw practice clips" in shown(at)
    at.button("train_draw").click().run()
    assert not at.exception and not at.error
    assert at.button_group("train_sources").value == ["own", "practice"]
    at = until(at, lambda: service.practice.drawing() is None)
    try:
        expected = [(label.capitalize(), str(number + 4)) for label, number in own.items()]
        assert [(metric.label, metric.value) for metric in at.metric] == expected
        assert not start_button(at).disabled
    finally:
        shutil.rmtree(service.practice.folder)


@pytest.mark.timeout(900)  # the trainer starts twice, at low priority
def test_a_training_is_begun_stopped_resumed_and_put_to_use(own: None, page: Any, tab: Any, service: Any) -> None:
    at = page()
    assert not at.exception and not at.error
    assert "8 clips, 8 of them with a reason in words." in shown(at)
    at.selectbox("train_begin").set_value("mounting")
    at.slider("train_epochs").set_value(EPOCHS)
    at.select_slider("train_batch").set_value(1)
    start_button(at).click().run()
    name = address(at, "run")
    assert name is not None and not at.exception and not at.error

    at = until(at, lambda: service.runs.view(name).step >= 1 or not service.runs.view(name).active)
    run = service.runs.view(name)
    assert run.active and run.total_steps == STEPS, run.message
    assert f"of {run.total_steps}" in at.get("progress")[0].proto.text
    assert start_button(at).disabled, "one training at a time"
    at.button("train_stop").click().run()
    at = until(at, lambda: not service.runs.view(name).active)
    stopped = service.runs.view(name)
    assert stopped.state == "stopped" and 1 <= stopped.step < STEPS
    assert f"Stopped and saved after step {stopped.step} of {STEPS}." in shown(at)

    at.button("train_resume").click().run()
    at = until(at, lambda: not service.runs.view(name).active)
    done = service.runs.view(name)
    assert done.state == "done", done.message
    assert done.head["resumed_at_step"] == stopped.step and done.step == STEPS
    assert done.base["validation_loss"] > done.best["validation_loss"]
    (figures,) = [table.value for table in at.table]
    assert list(figures["Base"])[-1] == f"{done.base['validation_loss']:.3f}"
    assert list(figures["New adapter"])[-1] == f"{done.best['validation_loss']:.3f}"
    assert "On the 2 held-out clips" in shown(at)
    assert "goes on from mounting" in shown(at)
    assert json.loads((done.output / "metrics.json").read_text())["started_from"]["name"] == "mounting"

    at.button("train_use").click().run()
    assert not at.exception and not at.error
    assert f"In use as {name}" in shown(at)
    assert name in service.adapter_names("mounting")
    analyze = tab()
    analyze.selectbox("adapter").set_value(name).run()
    report = service.history.get(address(finished(analyze.button("sample_0").click().run()), "report")).report
    assert [variant["adapter"] for variant in report["variants"]] == [None, name]
    compare = tab().switch_page("ui/compare.py").run()
    assert name in compare.selectbox("compare_adapter").options

    at.button("train_delete").click().run()
    assert service.runs.view(name) is None and name in service.adapter_names(), "the adapter in use is a copy"
    service.adapters.remove(name)


def test_a_failed_run_says_why(page: Any, service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def empty(folder: Path) -> Path:
        folder.mkdir(parents=True)
        (folder / "annotations.json").write_text("[]")
        return folder / "annotations.json"

    service.runs.start("empty", RunSettings("demo"), {}, empty)
    at = page(run="empty")
    at = until(at, lambda: not service.runs.view("empty").active)
    assert not at.exception
    assert len(at.error) == 1 and "empty list" in at.error[0].value and "Traceback" not in at.error[0].value

    # Going on takes the GPU's memory as starting does: not while an analysis has it.
    monkeypatch.setattr(service, "free_for_training", lambda: False)
    at = at.button("train_resume").click().run()
    assert [error.value for error in at.error][-1] == WORDS["train.busy"]
    assert service.runs.view("empty").state == "failed"
    service.runs.delete("empty")


def test_the_name_of_an_adapter_is_not_given_twice(own: None, page: Any, service: Any) -> None:
    at = page()
    next(field for field in at.text_input if field.key.startswith("train_name")).set_value("Mounting")
    start_button(at).click().run()
    assert [error.value for error in at.error] == ["There is an adapter called Mounting already; choose another name."]
    assert service.runs.list() == []
