"""History, Library and About, and what is filed from one into the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import streamlit as st

from tests.ui.conftest import address, finished, shown


@pytest.fixture
def analysed(tab: Any) -> str:
    """The id of a fresh analysis of the first sample."""
    found = address(finished(tab().button("sample_0").click().run()), "report")
    assert found is not None
    return found


def test_a_past_analysis_is_listed_and_opens_by_link(tab: Any, analysed: str, service: Any) -> None:
    at = tab().switch_page("ui/history.py").run()
    assert not at.exception
    past = service.history.get(analysed)
    assert past.clip_name in shown(at) and f"{service.history.count()} analyses" in shown(at)
    assert at.button(f"open_{analysed}").label == "Open"
    reopened = tab(report=analysed)
    assert reopened.header[0].value == f"Verdict: {past.verdict.capitalize()}"


def test_an_unknown_report_is_one_sentence(tab: Any) -> None:
    at = tab(report="zzzzzzzz")
    assert not at.exception and len(at.error) == 1
    assert at.file_uploader, "the rest of the page is still there"


def test_an_analysis_can_be_deleted(tab: Any, analysed: str, service: Any) -> None:
    at = tab().switch_page("ui/history.py").run()
    at.button(f"delete_{analysed}").click().run()
    assert not at.exception
    assert analysed not in {past.id for past in service.history.list(1000)}


def test_the_farmers_word_files_the_clip(tab: Any, samples: list[Any], service: Any) -> None:
    at = tab()
    at.file_uploader[0].upload("gate.mp4", samples[3].path.read_bytes(), "video/mp4")
    at = finished(at.run())
    report = address(at, "report")
    at.text_input(f"why_{report}").set_value("They only stood by the <b>gate</b>.")
    at = at.button(f"right_normal_{report}").click().run()
    assert not at.exception and not at.error
    assert service.history.get(report).feedback == "normal"
    filed = [found for found in service.library.list(origin="user") if "by the" in found.description]
    assert [found.label for found in filed] == ["normal"]
    assert "Filed in your library as Normal." in shown(at)
    library = tab().switch_page("ui/library.py").run()
    library.button_group("by_origin").set_value("user").run()
    assert library.button(f"look_{filed[0].id}")
    at = tab().switch_page("ui/history.py").run()
    at.button(f"delete_{report}").click().run()
    assert Path(service.library.get(filed[0].id).clip_path).is_file(), "filed clips outlive the analysis"


def test_the_library_filters_and_corrects(tab: Any, service: Any) -> None:
    at = tab().switch_page("ui/library.py").run()
    assert not at.exception
    shipped = service.library.list(origin="shipped")
    assert f"{service.library.count()} are used for comparison" in shown(at)
    at.button_group("by_label").set_value("mounting")
    at.button_group("by_origin").set_value("shipped").run()
    mounting = [found for found in shipped if found.label == "mounting"]
    assert f"{len(mounting)} found" in shown(at)
    one = mounting[0]
    at.button(f"look_{one.id}").click().run()
    at.radio(f"label_{one.id}").set_value("normal").run()
    assert at.text_area(f"description_normal_{one.id}").value == "", "the old reason argues for the old label"
    at.button(f"save_{one.id}").click().run()
    assert service.library.get(one.id).label == "normal" and service.library.get(one.id).corrected
    service.library.restore(one.id)


def test_a_clip_can_be_added_to_the_library(tab: Any, samples: list[Any], service: Any) -> None:
    at = tab().switch_page("ui/library.py").run()
    at.file_uploader[0].upload("mine.mp4", samples[4].path.read_bytes(), "video/mp4")
    at.radio[0].set_value("mounting")
    at.text_area[0].set_value("A cow rises on another one.")
    at = at.button[0].click().run()
    assert not at.exception and not at.error
    assert [found.label for found in service.library.list(text="rises on another one.", origin="user")] == ["mounting"]


def test_about_says_who_can_see_the_video(tab: Any) -> None:
    at = tab().switch_page("ui/about.py").run()
    assert not at.exception
    assert "Only this computer" in shown(at)
    before = st.get_option("server.address")
    try:
        st.config.set_option("server.address", "0.0.0.0")
        assert "everyone who can reach this computer" in shown(at.run())
    finally:
        st.config.set_option("server.address", before)


def test_a_damaged_history_is_one_sentence(tab: Any, service: Any, tmp_path: Path) -> None:
    database = service.settings.data / "history" / "history.sqlite3"
    aside = tmp_path / "aside"
    aside.write_bytes(database.read_bytes())
    database.write_bytes(b"no database" * 500)
    try:
        at = tab().switch_page("ui/history.py").run()
        assert not at.exception and len(at.error) == 1 and "history" in at.error[0].value
    finally:
        database.write_bytes(aside.read_bytes())
