"""The real app in a process of its own and the real Chromium, for the browser tests and the screenshots."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import BrowserContext, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class RunningApp:
    """``streamlit run app.py`` on a free port with a data folder of its own; ``log`` is where its output goes."""

    def __init__(self, data: Path, **environment: str) -> None:
        self.data = data
        self.log = data.with_name(data.name + ".log")
        self.environment = environment
        self.port = _free_port()
        self.url = f"http://localhost:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start and return the seconds until it answers."""
        started = time.perf_counter()
        variables = {"HERDLENS_DATA": str(self.data)} | self.environment
        command = ["env", *(f"{name}={value}" for name, value in variables.items()), sys.executable, "-m", "streamlit"]
        command += ["run", "app.py", f"--server.port={self.port}", "--server.headless=true"]
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        while True:
            if self._process.poll() is not None:
                raise RuntimeError(f"the app ended at once:\n{self.log.read_text()}")
            try:
                with urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=2):
                    return time.perf_counter() - started
            except OSError:
                if time.perf_counter() - started > 60:
                    self.stop()
                    raise
                time.sleep(0.1)

    def stop(self) -> None:
        """End the process that ``start`` started."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None


@contextmanager
def chromium(profile: Path, width: int = 1280, height: int = 900) -> Iterator[BrowserContext]:
    """Debian's Chromium with a fresh user folder."""
    assert CHROMIUM is not None
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(profile),
            executable_path=CHROMIUM,
            headless=True,
            args=FLAGS,
            viewport={"width": width, "height": height},
            has_touch=width < 600,
        )
        try:
            yield context
        finally:
            context.close()


def settled(page: Page) -> None:
    """Wait until Streamlit shows a page and no script is running."""
    page.wait_for_selector("[data-testid=stMainBlockContainer] h1", timeout=60_000)
    page.wait_for_function(
        "() => document.querySelector('[data-testid=stApp]')?.getAttribute('data-test-script-state') === 'notRunning'",
        timeout=60_000,
    )


def overflow(page: Page) -> int:
    """Pixels by which the page is wider than the window; 0 is right."""
    return int(page.evaluate("() => document.documentElement.scrollWidth - window.innerWidth"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
