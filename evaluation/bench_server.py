"""Requests per second of a real model server with the demo's models, and what a second variant costs.

The server is the tests' own (``make setup-server`` installs it). A request is one variant's whole answer, text and
scores, about one of the sample clips. Ratios are what counts; on a machine without a GPU the server is limited by
arithmetic, where batching helps little.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from agent.prompts import mounting_question
from services.schema import Clip, VariantName
from services.settings import Settings, profile
from tests.server.running_server import INSTALLED, KEY, MISSING, RunningServer

CLIENTS = (1, 4, 16)
REQUESTS = 32
PAIRS = 8


def measure() -> dict[str, Any]:
    """Requests per second at each number of clients, that over one client, and base + tuned over base alone."""
    if not INSTALLED:
        return {"skipped": MISSING}
    from services.model_service import ModelService

    with tempfile.TemporaryDirectory() as folder:
        server = RunningServer(Path(folder))
        server.start()
        service = ModelService(
            Settings(data=Path(folder) / "data", server_url=server.url, server_key=KEY), profile("demo-server")
        )
        try:
            clips = [service.open_clip(str(sample.path), None, threading.Event()) for sample in service.samples()]
            return _measured(service, clips)
        finally:
            service.close()
            server.kill()


def _measured(service: Any, clips: Sequence[Clip]) -> dict[str, Any]:
    adapter, _ = service.adapter_for("tuned", None)
    for clip in clips:  # warm: every clip seen once, every part compiled
        _ask(service, clip, "base", None)
        _ask(service, clip, "tuned", adapter)
    rates = {}
    for clients in CLIENTS:
        started = time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(lambda clip: _ask(service, clip, "base", None), _in_turn(clips, REQUESTS)))
        rates[clients] = REQUESTS / (time.perf_counter() - started)
    alone, both = [], []
    for clip in _in_turn(clips, PAIRS):
        alone.append(_seconds(service, clip, ("base",), adapter))
        both.append(_seconds(service, clip, ("base", "tuned"), adapter))
    return {
        **{f"requests_per_s_{clients}": rate for clients, rate in rates.items()},
        **{f"rate_{clients}_over_1": rates[clients] / rates[1] for clients in CLIENTS[1:]},
        "base_s": statistics.median(alone),
        "both_s": statistics.median(both),
        "both_over_base": statistics.median(two / one for one, two in zip(alone, both, strict=True)),
    }


def _in_turn(clips: Sequence[Clip], count: int) -> list[Clip]:
    return list(itertools.islice(itertools.cycle(clips), count))


def _seconds(service: Any, clip: Clip, variants: tuple[VariantName, ...], adapter: str | None) -> float:
    started = time.perf_counter()
    with ThreadPoolExecutor(len(variants)) as pool:
        list(pool.map(lambda name: _ask(service, clip, name, adapter if name == "tuned" else None), variants))
    return time.perf_counter() - started


def _ask(service: Any, clip: Clip, variant: VariantName, adapter: str | None) -> None:
    service.ask(
        clip,
        variant,
        adapter,
        mounting_question(),
        together=1,
        on_token=lambda channel, text: None,
        on_place=lambda place: None,
        cancelled=threading.Event(),
    )
