"""`make serve` and the app: a farmer drops a clip, and the server's answer is the verdict in the page."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.running_app import CHROMIUM, RunningApp, chromium
from tests.server.running_server import RunningServer
from tests.server.test_equality import SAMPLES

ANALYSIS_MS = 600_000

if CHROMIUM is None:
    pytest.skip("needs Debian's chromium: apt-get install chromium chromium-driver", allow_module_level=True)


def test_a_clip_is_judged_by_the_server_in_the_browser(server: RunningServer, tmp_path: Path) -> None:
    clip = Path(shutil.copy(next(path for path in SAMPLES if "mounting" in path.name), tmp_path / "my barn.mp4"))
    environment = {name: value for name, value in server.environment.items() if name != "HERDLENS_DATA"}
    app = RunningApp(tmp_path / "data", **environment)
    before = server.metric("vllm:request_success_total")
    app.start()
    try:
        with chromium(tmp_path / "browser") as browser:
            page = browser.new_page()
            page.goto(app.url)
            page.set_input_files("input[type=file]", clip, timeout=ANALYSIS_MS)
            expect(page.get_by_text("Verdict: Mounting").first).to_be_visible(timeout=ANALYSIS_MS)
    finally:
        app.stop()
    assert server.metric("vllm:request_success_total") > before
