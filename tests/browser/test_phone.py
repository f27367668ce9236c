"""The Compare and Train screens in a real browser: what only a browser shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.running_app import CHROMIUM, RunningApp, chromium, overflow, settled

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


def test_a_comparison_on_a_phone_outlives_its_page(app: RunningApp, tmp_path: Path) -> None:
    """Begun, the page closed, found again by its address; one card a clip, whose name leads to the report."""
    with chromium(tmp_path / "browser", 390, 844) as browser:
        page = browser.new_page()
        page.goto(f"{app.url}/compare")
        page.get_by_role("tab", name="Samples").click(timeout=ANALYSIS_MS)
        page.get_by_text("Mounting from behind").click()
        page.get_by_text("Head pushing").click()
        page.get_by_role("button", name="Add", exact=True).locator("visible=true").click()
        page.get_by_role("button", name="Compare 2 clips").click()
        page.wait_for_url("**comparison=**")
        link = page.url
        page.close()

        page = browser.new_page()
        page.goto(link)
        cards = page.locator(".st-key-compare_cards .hl-card")
        expect(cards).to_have_count(2, timeout=ANALYSIS_MS)
        expect(page.get_by_role("button", name="Delete")).to_be_visible(timeout=ANALYSIS_MS)
        expect(cards.first).to_contain_text("▲ Mounting")
        expect(page.locator(".st-key-compare_wide")).to_be_hidden()
        settled(page)
        assert overflow(page) <= 0
        cards.first.get_by_role("link").click()
        expect(page.get_by_role("heading", name="Verdict: Mounting")).to_be_visible(timeout=60_000)

        page.goto(f"{app.url}/train")
        expect(page.get_by_role("button", name="Start training")).to_be_disabled(timeout=60_000)
        settled(page)
        assert overflow(page) <= 0
