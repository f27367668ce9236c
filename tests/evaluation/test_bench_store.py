"""The bench of stores at a small size: every engine answers exactly, and what is missing is told."""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

from evaluation.bench_store import Memory, lines, measure_stores
from evaluation.store_engines import ENGINES, engine
from services.errors import ResourceError


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_finds_again_what_it_wrote(name, tmp_path):
    rng = np.random.default_rng(3)
    vectors, queries = unit(rng.standard_normal((300, 24))), unit(rng.standard_normal((4, 24)))
    expected = np.argsort(-(queries @ vectors.T), axis=1)[:, :7]
    engine(name).write(vectors, tmp_path / "written")
    again = engine(name)
    again.open(tmp_path / "written")
    assert (again.search(queries, 7) == expected).all()
    assert (again.search(queries[:1], 7) == expected[:1]).all()


def test_all_engines_are_measured_in_processes_of_their_own(tmp_path):
    bench = measure_stores(tmp_path, 1200, 48, ("store, mapped", "FAISS flat"))
    assert [row.name for row in bench.engines] == ["store, mapped", "FAISS flat"]
    for row in bench.engines:
        assert row.found == 1.0 and row.disk >= 1200 * 48 * 4
        assert min(row.write_s, row.open_s, row.first_s, row.query_s, row.batch_s) > 0
    assert [path.name for path in tmp_path.iterdir()] == ["bench.json"]
    assert json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))["records"] == 1200
    text = "\n".join(lines(bench))
    assert text.count("| store, mapped |") == 2 and "| store, mapped | 1 | 1 | 1 |" in text
    assert "faiss-cpu" in text.splitlines()[0]


def taken() -> int:
    """What ``Memory`` finds of 128 MiB beside 256 that were there before."""
    there = np.ones(32 << 20)
    with Memory() as memory:
        more = np.ones(16 << 20)
        until = time.monotonic() + 20  # looked at every few milliseconds, but a busy machine may take its time
        while memory.own < 100 << 20 and time.monotonic() < until:
            time.sleep(0.01)
        del more
    del there
    return memory.own


def test_memory_is_what_a_block_takes_beyond_what_was_there():
    # As in the bench, in a process of its own: here, what earlier tests leave is given back at any time.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        own = pool.submit(taken).result()
    assert 100 << 20 < own < 160 << 20


def test_without_faiss_one_sentence_names_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ResourceError, match=r"FAISS.*not installed; install the development requirements"):
        measure_stores(tmp_path, 1000, 8)


def test_a_size_beyond_this_machine_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ResourceError, match="GiB of memory and"):
        measure_stores(tmp_path / "out", 2_000_000_000, 2048)
    assert not (tmp_path / "out" / "work").exists()
