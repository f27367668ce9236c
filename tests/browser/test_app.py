"""The main job in a real browser: a farmer drops a clip and sees a verdict, with the reasons."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlparse

import pytest
from playwright.sync_api import Page, expect

from tests.browser.running_app import CHROMIUM, RunningApp, chromium, overflow, settled

SAMPLES = Path(__file__).resolve().parents[2] / "assets" / "demo" / "samples"
ANALYSIS_MS = 120_000

if CHROMIUM is None:
    pytest.skip("needs Debian's chromium: apt-get install chromium chromium-driver", allow_module_level=True)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[RunningApp]:
    running = RunningApp(tmp_path / "data")
    running.start()
    try:
        yield running
    finally:
        running.stop()


def clip_to_upload(folder: Path) -> Path:
    """A sample under another name, as a farmer's file would come."""
    source = sorted(SAMPLES.glob("*mount*.mp4"))[0]
    return Path(shutil.copy(source, folder / "my barn.mp4"))


def test_upload_verdict_restart_history(app: RunningApp, tmp_path: Path) -> None:
    """Nothing is asked of any other machine, nothing scrolls sideways, and the result is there after a restart."""
    with chromium(tmp_path / "browser", 390, 844) as browser:
        page = browser.new_page()
        asked: set[str | None] = set()
        page.on("request", lambda request: asked.add(urlparse(request.url).hostname))
        page.goto(app.url)
        page.set_input_files("input[type=file]", clip_to_upload(tmp_path), timeout=60_000)
        expect(page.get_by_text("Verdict: Mounting").first).to_be_visible(timeout=ANALYSIS_MS)
        settled(page)
        assert overflow(page) <= 0
        _plays(page)
        link = page.url
        assert "report=" in link

        app.stop()
        app.start()
        page.goto(f"{app.url}/history")
        page.get_by_role("button", name="Open").first.click(timeout=60_000)
        expect(page.get_by_role("heading", name="Verdict: Mounting")).to_be_visible(timeout=60_000)
        settled(page)
        assert page.url == link, "a link to a result stays good"
        assert overflow(page) <= 0
        assert asked <= {"localhost", None, ""}


def _plays(page: Page) -> None:
    """The clip's player has decoded a picture."""
    page.wait_for_function("() => (document.querySelector('video')?.videoWidth ?? 0) > 0", timeout=30_000)
