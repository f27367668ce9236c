"""Four ways to keep the same vectors and search them exactly, behind one face, for ``evaluation.bench_store``.

Each engine gets ``vectors`` ((N, D) float32, rows of length 1, mapped from a file), writes them into ``folder``, and in
another process opens that folder again and answers queries. Record i is called ``r`` and i.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from services.schema import Provenance
from services.vector_store import VectorStore

BATCH = 4096
"""Records that are handed to LanceDB at a time."""
MADE_UP = Provenance("drawn vectors", "0" * 64, "none", 0, "0" * 64)
KIND = "text+image"

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


class Engine(Protocol):
    """``write`` in one process, ``open`` and ``search`` in another."""

    def write(self, vectors: Floats, folder: Path) -> None: ...

    def open(self, folder: Path) -> None: ...

    def search(self, queries: Floats, k: int) -> Ints:
        """(Q, k) places of the most similar records of ``queries`` (Q, D), best first."""
        ...


class Store:
    """``services.vector_store``: mapped from disk, or read into memory with ``load``."""

    def __init__(self, load: bool = False) -> None:
        self._load = load

    def write(self, vectors: Floats, folder: Path) -> None:
        VectorStore.create(folder, vectors, _names(len(vectors)), [KIND] * len(vectors), MADE_UP)

    def open(self, folder: Path) -> None:
        self._store = VectorStore.open(folder, load=self._load)

    def search(self, queries: Floats, k: int) -> Ints:
        found = self._store.search(queries, k, provenance=MADE_UP, modalities=[KIND])
        return _places(found.ids)


class Numpy:
    """One matrix in memory, one product for all similarities, and a partition: no ids, no checks."""

    def write(self, vectors: Floats, folder: Path) -> None:
        folder.mkdir()
        np.save(folder / "vectors.npy", vectors, allow_pickle=False)

    def open(self, folder: Path) -> None:
        self._vectors = np.load(folder / "vectors.npy", allow_pickle=False)

    def search(self, queries: Floats, k: int) -> Ints:
        scores = queries @ self._vectors.T
        best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        inner = np.argsort(-np.take_along_axis(scores, best, 1), axis=1)
        return np.take_along_axis(best, inner, 1)


class FaissFlat:
    """``IndexFlatIP``: exact, in memory. A development requirement, so it loads when it is asked for."""

    def __init__(self) -> None:
        import faiss

        self._faiss: Any = faiss

    def write(self, vectors: Floats, folder: Path) -> None:
        folder.mkdir()
        index = self._faiss.IndexFlatIP(vectors.shape[1])
        index.add(np.ascontiguousarray(vectors))
        self._faiss.write_index(index, str(folder / "index.faiss"))

    def open(self, folder: Path) -> None:
        self._index = self._faiss.read_index(str(folder / "index.faiss"))

    def search(self, queries: Floats, k: int) -> Ints:
        return np.asarray(self._index.search(np.ascontiguousarray(queries), k)[1], np.int64)


class LanceFlat:
    """A LanceDB table without an index: exact, read from disk. Takes long to load, so it loads when it is asked for."""

    def __init__(self) -> None:
        import lancedb
        import pyarrow

        self._lancedb: Any = lancedb
        self._arrow: Any = pyarrow

    def write(self, vectors: Floats, folder: Path) -> None:
        pa, dimension = self._arrow, vectors.shape[1]
        schema = pa.schema([("id", pa.string()), ("vector", pa.list_(pa.float32(), dimension))])

        def batches() -> Iterator[Any]:
            for first in range(0, len(vectors), BATCH):
                block = np.asarray(vectors[first : first + BATCH])
                rows = pa.FixedSizeListArray.from_arrays(pa.array(block.ravel()), dimension)
                yield pa.record_batch([pa.array(_names(len(block), first)), rows], schema=schema)

        reader = pa.RecordBatchReader.from_batches(schema, batches())
        self._lancedb.connect(folder).create_table("records", reader, schema=schema)

    def open(self, folder: Path) -> None:
        self._table = self._lancedb.connect(folder).open_table("records")

    def search(self, queries: Floats, k: int) -> Ints:
        asked = self._table.search(list(queries), vector_column_name="vector").distance_type("dot")
        rows = asked.limit(k).select(["id", "_distance"]).to_arrow().to_pylist()
        # One query brings no query_index.
        by_query: list[list[str]] = [[] for _ in queries]
        for row in sorted(rows, key=lambda row: (row.get("query_index", 0), row["_distance"])):
            by_query[row.get("query_index", 0)].append(row["id"])
        return _places(by_query)


ENGINES: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "store, mapped": (Store, {}),
    "store, in memory": (Store, {"load": True}),
    "NumPy": (Numpy, {}),
    "FAISS flat": (FaissFlat, {}),
    "LanceDB flat": (LanceFlat, {}),
}


def engine(name: str) -> Engine:
    made, options = ENGINES[name]
    found: Engine = made(**options)
    return found


def _names(count: int, first: int = 0) -> list[str]:
    return [f"r{i}" for i in range(first, first + count)]


def _places(ids: Any) -> Ints:
    return np.array([[int(id[1:]) for id in row] for row in ids], np.int64)
