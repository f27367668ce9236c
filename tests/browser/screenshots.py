"""Make the README's two pictures: ``python -m tests.browser.screenshots`` writes docs/img/verdict.png and phone.png.

The app runs with a fresh data folder and analyses the first mounting sample; pictures are reduced to 256 colours, so
that each stays under 300 KB.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page

from tests.browser.running_app import ROOT, RunningApp, chromium, settled

OUT = ROOT / "docs" / "img"
LIMIT_BYTES = 300_000


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        app = RunningApp(Path(folder) / "data")
        app.start()
        try:
            with chromium(Path(folder) / "wide", 1280, 1500) as browser:
                page = browser.new_page()
                page.goto(app.url)
                page.locator(".st-key-samples button").first.click(timeout=120_000)
                page.get_by_text("Verdict:").first.wait_for(timeout=120_000)
                link = page.url if "report=" in page.url else page.wait_for_url("**report=**") or page.url
                _save(page, OUT / "verdict.png")
            with chromium(Path(folder) / "phone", 390, 1100) as browser:
                page = browser.new_page()
                page.goto(link)
                page.get_by_text("Verdict:").first.wait_for(timeout=60_000)
                _save(page, OUT / "phone.png")
        finally:
            app.stop()


def _save(page: Page, path: Path) -> None:
    settled(page)
    page.wait_for_timeout(2500)  # the player and the pictures arrive after the text
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}: {picture.width} × {picture.height}, {path.stat().st_size / 1000:.0f} kB")
    if path.stat().st_size > LIMIT_BYTES:
        raise SystemExit(f"{path} is larger than {LIMIT_BYTES} bytes")


if __name__ == "__main__":
    main()
