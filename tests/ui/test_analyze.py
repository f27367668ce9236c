"""The Analyze screen, driven as a farmer would."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.verdict import percent
from tests.ui.conftest import ROOT, address, finished, shown
from ui.desk import Desk
from ui.history_entry import load
from ui.report_html import to_html
from ui.wording import Words


def press_sample(at: Any, index: int) -> Any:
    return at.button(f"sample_{index}").click().run()


def uploads(data: Path) -> list[Path]:
    folder = data / "history" / "uploads"
    return [path for path in folder.rglob("*") if path.is_file()]


def test_pages_are_imported_without_torch() -> None:
    """The first page must not wait for torch; only the desk's background thread may load it."""
    pages = "ui.analyze, ui.history, ui.compare, ui.library, ui.train, ui.about"
    code = f"import sys, {pages}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_sample_gets_its_right_verdict_with_the_reasons(tab: Any, samples: list[Any], service: Any) -> None:
    at = tab()
    assert not at.exception
    index = next(i for i, sample in enumerate(samples) if sample.label == "mounting")
    at = finished(press_sample(at, index))
    assert not at.exception and not at.error
    assert [header.value for header in at.header] == ["Verdict: Mounting"]
    text = shown(at)
    assert service.notice in text
    assert "probability of mounting" in text and "Looked at" in text
    assert "Base model" in text and "Tuned model" in text
    report = service.history.get(address(at, "report")).report
    assert report["reason"] in text
    pictures = sum(len(image.value) for image in at.image)
    assert pictures >= len(report["frame_times_s"]) == service.profile.frames
    assert {button.label for button in at.download_button} == {"Report for printing (HTML)", "Data (JSON)"}
    past = load(service, address(at, "report"))
    vote = f"Vote of the most similar clips: {past.vote * 100:.0f} % for mounting."
    assert vote in to_html(past, service, Words())


def test_choices_reach_the_models(tab: Any, service: Any) -> None:
    at = tab()
    at.radio("variant").set_value("base")
    at.radio("retrieval").set_value("off")
    at = finished(press_sample(at.run(), 0))
    report = service.history.get(address(at, "report")).report
    assert [variant["name"] for variant in report["variants"]] == ["base"]
    assert report["retrieval"] == "off" and report["neighbours"] == []
    assert "Comparison was switched off." in shown(at)
    (base,) = report["variants"]
    assert base["verdict"] == "unclear", "the base alone is sure of nothing; choose another sample to see why"
    why = f"All in all {percent(base['p_decided'])} probability of mounting: not sure enough"
    assert why in shown(at)
    assert why in to_html(load(service, address(at, "report")), service, Words())


def test_a_bad_upload_costs_one_sentence_and_loses_nothing(tab: Any, data: Path) -> None:
    at = finished(press_sample(tab(), 0))
    verdict = at.header[0].value
    before = uploads(data)
    at.file_uploader[0].upload("barn.mp4", b"this is a text file\n" * 20, "video/mp4")
    at = finished(at.run())
    assert not at.exception
    assert len(at.error) == 1 and "barn.mp4" in at.error[0].value and "Traceback" not in at.error[0].value
    assert at.header[0].value == verdict
    assert "Your previous result" in [heading.value for heading in at.subheader]
    assert uploads(data) == before


def test_an_upload_goes_to_disk_and_leaves_memory(tab: Any, data: Path, samples: list[Any], service: Any) -> None:
    at = tab()
    name = at.file_uploader[0].key
    at.file_uploader[0].upload("my barn.mp4", samples[0].path.read_bytes(), "video/mp4")
    at = finished(at.run())
    past = service.history.get(address(at, "report"))
    assert past.clip_name == "my barn.mp4"
    assert past.clip_path in uploads(data)
    assert at.file_uploader[0].key != name, "the widget that held the bytes is gone"


def test_a_refresh_and_a_second_tab_do_not_lose_a_run(tab: Any, service: Any) -> None:
    """The job is in the address: a tab opened with it (which is what a refresh does) comes to the same report."""
    first = press_sample(tab(), 0)
    job = address(first, "job")
    assert job is not None
    refreshed = finished(tab(job=job))
    other = finished(press_sample(tab(), 1))
    assert (
        service.history.get(address(refreshed, "report")).clip_name
        != service.history.get(address(other, "report")).clip_name
    )
    assert address(finished(first), "report") == address(refreshed, "report")


def test_a_cancel_stops_and_is_said(tab: Any, desk: Desk, service: Any) -> None:
    before = service.history.count()
    at = press_sample(tab(), 2)
    job = address(at, "job")
    assert job is not None
    desk.jobs.cancel(job)
    view = None
    for _ in range(200):
        at.run()
        view = desk.jobs.view(job)
        if view is not None and view.state != "running":
            break
    assert view is not None and view.state == "cancelled"
    assert "was cancelled" in shown(at.run())
    assert service.history.count() == before


def test_a_file_of_the_media_folder_can_be_chosen_and_no_other(tab: Any, service: Any, samples: list[Any]) -> None:
    folder = service.settings.media
    (folder / "night").mkdir(exist_ok=True)
    (folder / "night" / "cam1.mp4").write_bytes(samples[1].path.read_bytes())
    (folder / "escape.mp4").symlink_to(samples[0].path)
    at = tab()
    assert at.selectbox("media_file").options == ["night/cam1.mp4"]
    at.selectbox("media_file").set_value("night/cam1.mp4").run()
    at = finished(at.button("media_start").click().run())
    assert service.history.get(address(at, "report")).clip_name == "night/cam1.mp4"


def test_korean(tab: Any, samples: list[Any]) -> None:
    at = finished(press_sample(tab(lang="ko"), 0))
    assert at.title[0].value == "소가 승가하고 있나요?"
    assert at.header[0].value.startswith("판정: ")


def test_the_browsers_own_language_needs_no_choice(tab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ui.session.usual_language", lambda: "ko")
    at = tab()
    assert at.title[0].value == "소가 승가하고 있나요?" and address(at, "lang") is None
    at.button_group("language").set_value("en").run()
    assert at.title[0].value == "Is a cow mounting?" and address(at, "lang") == "en"
    assert tab(lang="en").title[0].value == "Is a cow mounting?", "the choice outlives the page"
