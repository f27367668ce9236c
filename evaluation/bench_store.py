"""A store at the size of the fourth source's (176,443 records of 2,048 numbers) beside NumPy, FAISS and LanceDB.

Every engine writes the same drawn vectors, is opened again in another process, and answers the same queries; its
answers are compared with a search in double precision. The processes run one after the other, each with the machine to
itself, and report the memory that they took beyond interpreter and libraries: their own, and file pages that they
mapped, which the system takes back when others need room. Seconds depend on the machine; the ratios count.

Vectors are drawn around common centres, since those of one subject resemble each other; a query is a record moved a
little. The files' pages are still in the system's cache when a store is opened again, for all engines alike.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import platform
import shutil
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import psutil
from numpy.typing import NDArray

from evaluation.records import write_text
from evaluation.store_engines import ENGINES, engine
from services.errors import InputError, ResourceError

QUERIES = 32
SINGLE = 9
"""Queries that are asked one at a time; the median is reported."""
K = 10
CENTRES = 400
SPREAD = 0.9
"""Length of a record's own part against its centre's."""
BLOCK = 8192
TICK_S = 0.005
OURS = "store, mapped"
PART = "stores at size"
"""Name of the tables in a document."""
PACKAGES = ("numpy", "faiss-cpu", "lancedb", "pyarrow")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Measured:
    """One engine. Seconds of writing (from a file of vectors to a closed store), of opening, of the first answer, of
    one more query (median), and of each query of a batch; bytes on disk and in memory (own, and mapped pages), for
    writing and for opening and searching; ``found``: share of the true nearest records among its answers."""

    name: str
    write_s: float
    open_s: float
    first_s: float
    query_s: float
    batch_s: float
    disk: int
    write_memory: int
    own_memory: int
    mapped_memory: int
    found: float


@dataclass(frozen=True, slots=True)
class Bench:
    records: int
    dimension: int
    machine: str
    versions: dict[str, str]
    engines: tuple[Measured, ...]


def measure_stores(folder: Path, records: int, dimension: int, names: Sequence[str] = tuple(ENGINES)) -> Bench:
    """Measure the engines called ``names`` below ``folder`` and write ``bench.json`` there; the stores are removed.
    Raises ResourceError where FAISS, memory or room on the disk is missing, or a process was killed."""
    _require_means(folder, records, dimension)
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        drawn = work / "drawn.npy"
        queries, truth = _alone(_draw, drawn, records, dimension)
        engines = tuple(_measured(name, drawn, queries, truth, work) for name in names)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    memory = psutil.virtual_memory().total / 2**30
    machine = f"{platform.machine()}, {psutil.cpu_count()} cores, {memory:.0f} GiB memory"
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    bench = Bench(records, dimension, machine, versions, engines)
    write_text(folder / "bench.json", json.dumps(dataclasses.asdict(bench), indent=1) + "\n")
    return bench


def _require_means(folder: Path, records: int, dimension: int) -> None:
    if find_spec("faiss") is None:
        raise ResourceError(
            "FAISS, which the store is compared with, is not installed; install the development requirements "
            "(make setup)."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror}); choose another --out.") from error
    size = records * dimension * 4
    # FAISS writes from memory what it holds besides the mapped file; two files lie on disk at a time.
    for what, needed, there in (
        ("memory", 2 * size, psutil.virtual_memory().available),
        ("room on the disk", 2 * size, shutil.disk_usage(folder).free),
    ):
        if there < 1.1 * needed:
            raise ResourceError(
                f"{records} records of {dimension} numbers need {1.1 * needed / 2**30:.1f} GiB of {what} and "
                f"{there / 2**30:.1f} are free; give fewer --records."
            )


def _alone(work: Callable[..., _T], *arguments: Any) -> _T:
    """``work`` in a process of its own, so that memory is counted from nothing and given back."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(work, *arguments).result()
        except BrokenProcessPool as error:
            raise ResourceError("A measuring process was killed, probably for memory; give fewer --records.") from error


def _draw(path: Path, records: int, dimension: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Draw vectors with a fixed seed, block by block, straight into the file; the queries and ``_true_nearest``."""
    rng = np.random.default_rng(0)
    centres = _unit(rng.standard_normal((CENTRES, dimension), np.float32))
    out = np.lib.format.open_memmap(path, "w+", np.float32, (records, dimension))
    for first in range(0, records, BLOCK):
        count = min(BLOCK, records - first)
        own = _unit(rng.standard_normal((count, dimension), np.float32)) * np.float32(SPREAD)
        out[first : first + count] = _unit(centres[rng.integers(CENTRES, size=count)] + own)
    out.flush()
    queries = _queries(out)
    return queries, _true_nearest(out, queries)


def _queries(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """(QUERIES, D): records moved a little."""
    rng = np.random.default_rng(1)
    picked = np.asarray(vectors[np.sort(rng.choice(len(vectors), QUERIES, replace=False))])
    return _unit(picked + _unit(rng.standard_normal(picked.shape, np.float32)) * np.float32(0.5))


def _true_nearest(vectors: NDArray[np.float32], queries: NDArray[np.float32]) -> NDArray[np.float64]:
    """(QUERIES,) similarity of each query's K-th nearest record, in double precision."""
    wide = queries.astype(np.float64)
    best = np.full((len(queries), 0), -np.inf)
    for first in range(0, len(vectors), BLOCK):
        best = np.concatenate([best, wide @ vectors[first : first + BLOCK].astype(np.float64).T], 1)
        best = -np.sort(-best, axis=1)[:, :K]
    return np.asarray(best[:, -1], np.float64)


def _measured(name: str, drawn: Path, queries: NDArray[np.float32], truth: NDArray[np.float64], work: Path) -> Measured:
    folder = work / "written"
    write_s, write_memory = _alone(_write, name, drawn, folder)
    disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    places, times, own, mapped = _alone(_search, name, folder, queries)
    shutil.rmtree(folder)
    vectors = np.load(drawn, mmap_mode="r", allow_pickle=False)
    likeness = np.einsum("qkd,qd->qk", vectors[places].astype(np.float64), queries.astype(np.float64))
    # Single precision may exchange records whose similarities differ by less than its rounding.
    found = float((likeness >= truth[:, None] - 1e-6).mean())
    distinct = np.mean([len(set(row.tolist())) for row in places]) / K
    return Measured(name, write_s, *times, disk, write_memory, own, mapped, found * float(distinct))


def _write(name: str, drawn: Path, folder: Path) -> tuple[float, int]:
    made = engine(name)
    vectors = np.load(drawn, mmap_mode="r", allow_pickle=False)
    with Memory() as memory:
        started = time.perf_counter()
        made.write(vectors, folder)
        seconds = time.perf_counter() - started
    return seconds, memory.own


def _search(
    name: str, folder: Path, queries: NDArray[np.float32]
) -> tuple[NDArray[np.int64], tuple[float, float, float, float], int, int]:
    made = engine(name)
    with Memory() as memory:
        open_s, _ = _timed(lambda: made.open(folder))
        first_s, _ = _timed(lambda: made.search(queries[:1], K))
        singles = [_timed(lambda i=i: made.search(queries[i : i + 1], K))[0] for i in range(SINGLE)]  # type: ignore[misc]
        batch_s, places = _timed(lambda: made.search(queries, K))
    times = (open_s, first_s, statistics.median(singles), batch_s / len(queries))
    return places, times, memory.own, memory.mapped


def _timed(work: Callable[[], _T]) -> tuple[float, _T]:
    started = time.perf_counter()
    found = work()
    return time.perf_counter() - started, found


class Memory:
    """Most memory of this process while the block runs, beyond what it had at the beginning, looked at every few
    milliseconds: ``own`` bytes, and ``mapped`` pages of files (counted on Linux only, elsewhere within ``own``)."""

    def __init__(self) -> None:
        self.own = self.mapped = 0
        self._process = psutil.Process()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Memory:
        self._own, self._mapped = self._now()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._stop.wait(TICK_S):
            self._look()

    def _look(self) -> None:
        own, mapped = self._now()
        self.own, self.mapped = max(self.own, own - self._own), max(self.mapped, mapped - self._mapped)

    def _now(self) -> tuple[int, int]:
        found = self._process.memory_info()
        mapped = int(getattr(found, "shared", 0))
        return int(found.rss) - mapped, mapped


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def lines(bench: Bench) -> Iterator[str]:
    """The measurements as they are, then as multiples of the store's."""
    versions = ", ".join(f"{name} {version}" for name, version in bench.versions.items())
    yield f"{bench.records} records of {bench.dimension} numbers (float32); {bench.machine}; {versions}."
    yield ""
    heads = [head for head, _, _ in COLUMNS]
    yield from _head(("engine", *heads, f"of the true {K} nearest"))
    for row in bench.engines:
        cells = [f"{value(row) * factor:.{_digits(value(row) * factor)}f}" for _, value, factor in COLUMNS]
        yield f"| {row.name} | {' | '.join(cells)} | {row.found:.3f} |"
    yield ""
    yield f"The same as multiples of '{OURS}' (above 1: the other takes more)."
    yield ""
    yield from _head(("engine", *(head for head, _ in RATIOS)))
    ours = next(row for row in bench.engines if row.name == OURS)
    for row in bench.engines:
        cells = [_ratio(value(row), value(ours)) for _, value in RATIOS]
        yield f"| {row.name} | {' | '.join(cells)} |"


COLUMNS: tuple[tuple[str, Callable[[Measured], float], float], ...] = (
    ("write, s", lambda m: m.write_s, 1),
    ("open, ms", lambda m: m.open_s, 1000),
    ("first answer, ms", lambda m: m.first_s, 1000),
    ("one query, ms", lambda m: m.query_s, 1000),
    (f"each of {QUERIES} together, ms", lambda m: m.batch_s, 1000),
    ("on disk, GiB", lambda m: m.disk, 2**-30),
    ("memory writing, GiB", lambda m: m.write_memory, 2**-30),
    ("memory searching, GiB", lambda m: m.own_memory, 2**-30),
    ("and mapped, GiB", lambda m: m.mapped_memory, 2**-30),
)


RATIOS: tuple[tuple[str, Callable[[Measured], float]], ...] = (
    *((head.rpartition(", ")[0], value) for head, value, _ in COLUMNS[:-2]),
    ("memory searching, mapped pages included", lambda m: m.own_memory + m.mapped_memory),
)


def _digits(value: float) -> int:
    return 0 if value >= 100 else 1 if value >= 10 else 2


def _ratio(theirs: float, ours: float) -> str:
    if ours <= 0:
        return "–"
    return f"{theirs / ours:.3g}" if theirs >= 0.01 * ours else "< 0.01"


def _head(names: Sequence[str]) -> Iterator[str]:
    yield f"| {' | '.join(names)} |"
    yield "|---" * len(names) + "|"
