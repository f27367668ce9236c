"""A real vLLM server in a process group of its own, started as ``make serve`` starts it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from services.serving import PYTHON
from services.settings import ROOT

KEY = "key-of-the-tests"
START_S = 900
"""Long enough for two busy cores; alone it takes about a minute."""

INSTALLED = PYTHON.exists()
MISSING = "vLLM is not installed; run 'make test-server', which installs it into .venv-server."


class RunningServer:
    """``python -m agent serve`` for the profile demo-server on a free port; ``options`` go to vLLM."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.log = folder / "server.log"
        self.options = options
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.root = f"http://127.0.0.1:{self.port}"
        self.url = f"{self.root}/v1"
        self.environment = {
            "HERDLENS_PROFILE": "demo-server",
            "HERDLENS_DATA": str(folder / "data"),
            "HERDLENS_SERVER_URL": self.url,
            "HERDLENS_SERVER_KEY": KEY,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "agent", "serve", "--device", "cpu", "--", *self.options]
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True, env=os.environ | self.environment
            )
        until = time.monotonic() + START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                self.kill()
                raise RuntimeError(f"the server did not start:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.5)

    def send(self, number: signal.Signals) -> None:
        """To all of its processes at once."""
        if self._process is not None:
            os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """What a power cut does."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.send(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def metric(self, name: str) -> float:
        """A sum of vLLM's own counters."""
        with urllib.request.urlopen(f"{self.root}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name}{{", f"{name} ")))

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.root}/health", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            return False
