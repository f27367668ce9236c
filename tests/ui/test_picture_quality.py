"""The Analyze screen on picture quality: pictures go in, the finding, the measures and both models come out."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.ui.conftest import address, finished, outcome, shown
from training.demo.degrade import degrade
from training.demo.draw import draw_frames
from training.demo.plan import plan_clip
from ui.history_entry import load
from ui.report_html import to_html
from ui.wording import Words

DAY = 4


@pytest.fixture(scope="module")
def noisy_picture() -> bytes:
    frames = degrade(draw_frames(plan_clip(DAY), np.array([1.0])), "noise", 3, seed=1)
    buffer = io.BytesIO()
    Image.fromarray(frames[0]).save(buffer, "PNG")
    return buffer.getvalue()


def asked(tab: Any, **parameters: str) -> Any:
    at = tab(**parameters)
    at.session_state["task"] = "quality"
    return at.run()


@pytest.fixture(scope="module")
def report_id(service: Any, noisy_picture: bytes, desk: Any) -> str:
    """One analysis of the noisy picture, as the page starts it."""
    from services.schema import Request

    path = service.history.store_upload(noisy_picture, "lens.png")
    job = desk.jobs.start(Request(str(path), task="quality"), "lens.png")
    view = outcome(desk, job)
    assert view.report_id is not None, view.message
    return str(view.report_id)


def test_an_uploaded_picture_is_judged_and_kept(tab: Any, service: Any, noisy_picture: bytes) -> None:
    at = asked(tab)
    assert at.title[0].value == "How good is the picture?"
    at.file_uploader[0].upload("my lens.png", noisy_picture, "image/png")
    at = finished(at.run())
    assert not at.exception and not at.error
    past = service.history.get(address(at, "report"))
    assert past.clip_name == "my lens.png" and past.report["task"] == "quality"
    assert past.report["quality"]["verdict"] == "noise"
    text = shown(at)
    assert at.header[0].value == Words()(f"verdict.{past.report['verdict']}")
    assert past.report["quality"]["findings"][0] in text.replace("\\", "")
    assert "Base model" in text and "Tuned model" in text and "What was measured" in text
    assert sum(len(image.value) for image in at.image) >= 3


def test_the_tuned_model_names_the_noise_and_what_to_do(service: Any, report_id: str) -> None:
    report = service.history.get(report_id).report
    tuned = next(variant for variant in report["variants"] if variant["name"] == "tuned")
    assert tuned["error"] is None and tuned["adapter"] == "quality"
    assert report["verdict"] == tuned["verdict"] == "noise" and report["severity"] in (2, 3, 4)
    assert "noisy" in report["reason"] and "light" in report["reason"]


def test_the_history_opens_it_again_in_korean(tab: Any, service: Any, report_id: str) -> None:
    at = tab(report=report_id, lang="ko")
    assert not at.exception and not at.error
    verdict = service.history.get(report_id).report["verdict"]
    assert at.title[0].value == Words("ko")("analyze.title_quality"), "the choice of the next question is mounting"
    assert at.header[0].value == Words("ko")(f"verdict.{verdict}")
    assert "측정한 결과" in [heading.value for heading in at.subheader]


def test_the_printed_page_carries_findings_and_views(service: Any, report_id: str) -> None:
    page = to_html(load(service, report_id), service, Words())
    report = service.history.get(report_id).report
    assert page.count("data:image/jpeg") == 3 and Words()("view.middle") in page
    assert report["quality"]["findings"][0].replace("'", "&#39;") in page
    assert 'class="verdict mounting"' in page, "a spoilt picture is set off as what one should look at"


def test_a_picture_is_refused_for_mounting_in_one_sentence(tab: Any, service: Any, desk: Any) -> None:
    from services.schema import Request

    path = service.history.store_upload(b"\x89PNG\r\n\x1a\n" + bytes(300), "barn.png")
    job = desk.jobs.start(Request(str(path)), "barn.png")
    view = outcome(desk, job)
    assert view.state == "failed" and "PNG picture, not a video" in view.message and "\n" not in view.message
