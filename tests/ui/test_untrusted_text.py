"""Texts of models, files and people are data: on the page and in the exported report they are shown, never obeyed."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from PIL import Image

from tests.ui.conftest import shown
from ui.history_entry import VIEW, Entry, load
from ui.markup import marked_difference, paragraph, scroll_up
from ui.report_html import to_html
from ui.wording import Words

EVIL = "<img src=x onerror=alert(1)><script>alert(2)</script> **bold** [click](http://evil.example) {{ 7*7 }}"


@pytest.fixture
def evil(service: Any) -> Entry:
    """A stored report with hostile text wherever a model, a file name or a reference can put it."""
    variants = [
        {"name": name, "adapter": None, "p_mounting": 0.5, "verdict": "normal", "text_verdict": "normal",
         "reasoning": EVIL, "answer": f"{EVIL} {name}", "finish_reason": "stop", "seconds": 1.0, "error": None}
        for name in ("base", "tuned")
    ]  # fmt: skip
    report = {
        "clip": {"path": "x", "sha256": "0" * 64, "duration_s": 6.0, "fps": 10.0, "width": 320, "height": 240,
                 "window": [0.0, 6.0]},
        "profile": "demo", "verdict": "normal", "p_mounting": 0.1,
        "decided_by": {"rule": "model score", "variant": "tuned"}, "variants": variants,
        "neighbours": [{"id": "gone", "label": "normal", "similarity": 0.9, "description": EVIL}],
        "quality": {"score": 1.0, "findings": []}, "timings": {"total_s": 1.0}, "warnings": [EVIL],
        "reason": EVIL, "model": EVIL, "retrieval": "nearest", "frame_times_s": [0.0], "created_at": "2026-01-01",
    }  # fmt: skip
    picture = io.BytesIO()
    Image.new("RGB", (32, 24), "green").save(picture, "JPEG")
    extras = {VIEW: b'{"shown": 1, "vote": 0.2}', "frame_00.jpg": picture.getvalue()}
    return load(service, service.history.add(report, clip_name=EVIL, extras=extras))


class Tags(HTMLParser):
    """Collects tags and addresses."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_exported_page_is_inert_and_self_contained(evil: Entry, service: Any) -> None:
    page = Tags(to_html(evil, service, Words("en")))
    assert "script" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    sources = [value or "" for name, value in page.attributes if name in ("src", "href")]
    assert sources and all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert EVIL in page.words, "the text itself is still there to read"
    assert "49" not in re.sub(r"\d{3,}", "", page.words), "it is no template"
    assert "Verdict: Normal" in page.words


def test_the_exported_page_speaks_korean(evil: Entry, service: Any) -> None:
    page = to_html(evil, service, Words("ko"))
    assert '<html lang="ko">' in page and "판정: 정상" in page


def test_the_page_shows_hostile_text_as_text(tab: Any, evil: Entry) -> None:
    at = tab(report=evil.id)
    assert not at.exception and not at.error
    scripts = [element.value for element in at.html if "script" in Tags(element.value).tags]
    assert scripts == [scroll_up(evil.id)], "our own, and no other"
    for element in at.html:
        assert "onerror" not in dict(Tags(element.value).attributes)
    for element in [*at.markdown, *at.caption, *at.warning]:
        assert "[click](" not in element.value and "<script>" not in re.sub(r"\\<", "", element.value)
    assert "alert(2)" in shown(at)


def test_only_the_words_that_differ_are_marked() -> None:
    marked = marked_difference("a red cow <b>rises</b> now", "a red cow stands now")
    assert marked == '<p class="hl-text" dir="auto">a red cow <mark>&lt;b&gt;rises&lt;/b&gt;</mark> now</p>'
    assert "<mark>" not in marked_difference("the same", "the same")
    assert paragraph("<i>") == '<p class="hl-text" dir="auto">&lt;i&gt;</p>'
