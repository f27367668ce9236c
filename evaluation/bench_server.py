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
from services.schema import Clip, VariantName, Window
from services.settings import Settings, profile
from tests.server.running_server import INSTALLED, KEY, MISSING, RunningServer

CLIENTS = (1, 4, 16)
REQUESTS = 32
ROUNDS = 12
"""Clips timed for each ratio, the samples in turn."""
LATER_S = 0.15
"""How much later each further window of a sample begins: other frames are then the nearest to the sampling times."""


def measure() -> dict[str, Any]:
    """Requests per second at each number of clients, that over one client, and base + tuned over base alone.

    An adapter that gives reasons writes more than the base, so base + tuned takes at least as long as tuned alone:
    ``both_over_slower`` is what asking both at once costs beyond that."""
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
            return {**_measured(service, clips), **_unseen(service, clips)}
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
    asked: tuple[tuple[VariantName, ...], ...] = (("base",), ("tuned",), ("base", "tuned"))
    rounds = [[_seconds(service, clip, names, adapter) for names in asked] for clip in _in_turn(clips, ROUNDS)]
    base, tuned, both = map(statistics.median, zip(*rounds, strict=True))
    return {
        **{f"requests_per_s_{clients}": rate for clients, rate in rates.items()},
        **{f"rate_{clients}_over_1": rates[clients] / rates[1] for clients in CLIENTS[1:]},
        "base_s": base,
        "tuned_s": tuned,
        "both_s": both,
        "both_over_base": both / base,
        "both_over_slower": both / max(base, tuned),
    }


def _unseen(service: Any, clips: Sequence[Clip]) -> dict[str, float]:
    """The same for clips that neither side has seen, as each new clip is: encoded, sent and looked at once.
    Windows of the samples that begin a little later are such clips."""
    adapter, _ = service.adapter_for("tuned", None)
    taken: dict[tuple[VariantName, ...], list[float]] = {("base",): [], ("base", "tuned"): []}
    later = (LATER_S * number for number in itertools.count(1))
    for _ in range(ROUNDS // len(clips)):
        for names, start in zip((*taken, *reversed(taken)), later, strict=False):
            for clip in clips:
                window = Window(start, clip.duration_s)
                new = service.open_clip(clip.path, window, threading.Event())
                taken[names].append(_seconds(service, new, names, adapter))
    base, both = map(statistics.median, taken.values())
    return {"unseen_base_s": base, "unseen_both_s": both, "unseen_both_over_base": both / base}


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
