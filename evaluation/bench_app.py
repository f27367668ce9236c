"""The app's first page against the loading of the models, seen through a real browser on a fresh process."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from tests.browser.running_app import CHROMIUM, RunningApp, chromium
from ui.words_en import WORDS

PATIENCE_MS = 180_000


def measure() -> dict[str, float | str]:
    """Seconds from the start of the process until the page can be used, and until no models are loading any more."""
    if CHROMIUM is None:
        return {"skipped": "Chromium is not installed"}
    notes = [WORDS["loading.services"], WORDS["loading.models"]]
    with tempfile.TemporaryDirectory() as folder:
        app = RunningApp(Path(folder) / "data")
        with chromium(Path(folder) / "browser") as context:
            page = context.new_page()
            started = time.perf_counter()
            app.start()
            try:
                page.goto(app.url)
                page.wait_for_selector("[data-testid=stFileUploader]", timeout=PATIENCE_MS)
                first = time.perf_counter() - started
                page.wait_for_function(
                    "notes => !notes.some(note => document.body.innerText.includes(note))",
                    arg=notes,
                    timeout=PATIENCE_MS,
                )
                loaded = time.perf_counter() - started
            finally:
                app.stop()
    return {"first_page_s": first, "models_loaded_s": loaded, "first_over_loaded": first / loaded}
