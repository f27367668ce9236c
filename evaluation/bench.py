"""Performance figures, measured side by side in one run: ``make bench``.

Prints a table and writes ``build/bench.json``. Ratios are what counts; seconds depend on the machine. Sections:

- verdict: warm upload-to-verdict of a sample clip for both variants, split over the steps; share of all but the models
- variants: base + tuned against one of them
- long: 16 exact frames of a 60-minute 1080p clip against decoding all of it, and the memory that takes
- page: the app's first page against the loading of the models
- training: samples a second and memory with and without cached vision features, by transformers' Trainer, and in the
  precision that is not chosen here
- server: requests per second of a vLLM server at 1, 4 and 16 clients, base + tuned against base alone
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent.events import Failed, Finished
from agent.graph import analyze
from services.schema import Report, Request, VariantName
from services.settings import ROOT, Settings, profile, quiet_libraries

REPEATS = 5
LONG_MINUTES = 60


class Stopwatch:
    """Sums the time spent in methods it has been put around."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._lock = threading.Lock()

    def around(self, owner: Any, name: str) -> None:
        method: Callable[..., Any] = getattr(owner, name)

        def timed(*arguments: Any, **options: Any) -> Any:
            started = time.perf_counter()
            try:
                return method(*arguments, **options)
            finally:
                with self._lock:
                    self.seconds += time.perf_counter() - started

        setattr(owner, name, timed)


def run_once(service: Any, path: Path, variants: tuple[VariantName, ...]) -> Report:
    request = Request(str(path), variants, service.profile.retrieval)
    for event in analyze(request, service, threading.Event()):
        if isinstance(event, Finished):
            return event.report
        if isinstance(event, Failed):
            raise SystemExit(f"bench: {path.name}: {event.message}")
    raise SystemExit("bench: the analysis ended without a result")


def bench_verdict(service: Any) -> dict[str, float]:
    """Upload (copy into the data folder, digest) to verdict, median of REPEATS on different sample clips."""
    samples = [sample.path for sample in service.samples()]
    models = Stopwatch()
    models.around(service.engine, "run")
    models.around(service.embedder, "embed")
    run_once(service, samples[0], ("base", "tuned"))  # warm
    totals, shares = [], []
    steps: dict[str, list[float]] = {}
    for index in range(REPEATS):
        path = samples[(index + 1) % len(samples)]
        models.seconds, started = 0.0, time.perf_counter()
        with path.open("rb") as stream:
            stored = service.history.store_upload(stream, path.name)
        upload = time.perf_counter() - started
        report = run_once(service, stored, ("base", "tuned"))
        total = time.perf_counter() - started
        totals.append(total)
        shares.append(1 - models.seconds / total)
        for key, value in {"upload_s": upload, **report.timings}.items():
            steps.setdefault(key, []).append(value)
    return {
        "upload_to_verdict_s": statistics.median(totals),
        "share_without_models": statistics.median(shares),
        **{key: statistics.median(values) for key, values in steps.items()},
    }


def bench_variants(service: Any) -> dict[str, float]:
    """Time of classify for both variants over the slower single one; the single runs are taken in turn with it."""
    path = service.samples()[0].path
    times: dict[str, list[float]] = {"base": [], "tuned": [], "both": []}
    choices: dict[str, tuple[VariantName, ...]] = {"base": ("base",), "tuned": ("tuned",), "both": ("base", "tuned")}
    for _ in range(REPEATS):
        for name, variants in choices.items():
            service.engine.forget_clips()
            times[name].append(run_once(service, path, variants).timings["classify_s"])
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        **{f"{name}_s": value for name, value in medians.items()},
        "both_over_one": medians["both"] / max(medians["base"], medians["tuned"]),
    }


def main() -> None:
    quiet_libraries()
    from services.model_service import ModelService

    with tempfile.TemporaryDirectory() as data:
        service = ModelService(Settings(data=Path(data)), profile("demo"))
        figures: dict[str, Any] = {"machine": f"{platform.machine()}, {platform.python_version()}"}
        with _section("models load"):
            started = time.perf_counter()
            service.warm_up()
            figures["load_s"] = time.perf_counter() - started
        with _section("verdict"):
            figures["verdict"] = bench_verdict(service)
        with _section("variants"):
            figures["variants"] = bench_variants(service)
        service.close()
    from evaluation import bench_app, bench_long, bench_server, bench_training

    with _section("long"):
        figures["long"] = bench_long.measure(LONG_MINUTES)
    with _section("page"):
        figures["page"] = bench_app.measure()
    with _section("training"):
        figures["training"] = bench_training.measure()
    with _section("server"):
        figures["server"] = bench_server.measure()
    target = ROOT / "build" / "bench.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(figures, indent=2), encoding="utf-8")
    _print(figures)


@contextmanager
def _section(name: str) -> Iterator[None]:
    print(f"{name} …", file=sys.stderr, flush=True)
    yield


def _print(figures: dict[str, Any], prefix: str = "") -> None:
    for key, value in figures.items():
        if isinstance(value, dict):
            _print(value, f"{prefix}{key}.")
        else:
            shown = f"{value:.3f}" if isinstance(value, float) else value
            print(f"{prefix}{key:<28} {shown}")


if __name__ == "__main__":
    main()
