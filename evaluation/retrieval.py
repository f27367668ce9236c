"""How well an embedding model, with or without a reranker, finds the records that answer a query.

Records are embedded once into a store (in pieces, so that a killed run goes on), queries in one or several forms: text
and image together, the image alone, the text alone. A form that differs from the records' is answered all the same, and
the store's warning stands in the result.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from evaluation.graded import Graded, Media, Source
from evaluation.metrics import Estimate
from evaluation.ranking import CUTS, mean, measures
from evaluation.records import write_text
from services.errors import InputError
from services.qwen_embedder import QwenEmbedder
from services.qwen_reranker import QwenReranker
from services.schema import Sampling, digest_of
from services.vector_store import VectorStore

PIECE = 64
"""Records that are embedded and put to disk at a time."""
BATCH = 8
"""Records or queries whose media are in memory at a time: sixteen frames of full HD are 100 MB."""
DEPTH = 1000
"""Records that are ranked for each query; MRR counts 0 beyond."""


@dataclass(frozen=True, slots=True)
class Row:
    """One form of the queries, with or without reranking: its measures, and the store's warnings. ``reordered``: how
    many of the queries had their records put into another order by the reranker."""

    form: str
    reranked: bool
    reordered: int
    queries: int
    left_out: int
    measures: dict[str, Estimate]
    warnings: tuple[str, ...]
    seconds_per_query: float


@dataclass(frozen=True, slots=True)
class Region:
    """Where the queries of one form lie, as mean cosines: ``among`` different queries, ``to_nearest`` record, and
    ``to_own``, the same query in the records' form (None where it is that form, or has not all parts)."""

    form: str
    among: float
    to_nearest: float
    to_own: float | None


@dataclass(frozen=True, slots=True)
class Found:
    """What a measurement found; ``rows`` and ``regions`` in the order of the forms."""

    store: VectorStore
    rows: tuple[Row, ...]
    regions: tuple[Region, ...]


def store_of(
    graded: Graded, parts: Sequence[str], embedder: QwenEmbedder, media: Media, folder: Path, instruction: str
) -> VectorStore:
    """The store of the records' ``parts`` below ``folder``: an earlier one of the same records and model, or built
    now. Raises InputError where a record lacks a part."""
    lacking = next((record.id for record in graded.records if not record.has(parts)), None)
    if lacking is not None:
        raise InputError(f"Record {lacking!r} has no {' and '.join(parts)}; choose --records by what all of them have.")
    about = [[r.id, r.text, _stamp(r.image), _stamp(r.video)] for r in graded.records]
    model = [dataclasses.asdict(embedder.provenance), embedder.dimension, embedder.dtype]
    mark = digest_of([about, list(parts), model, dataclasses.asdict(media.sampling), instruction])[:12]
    target, pieces = folder / f"store_{mark}", folder / f"pieces_{mark}"
    if target.exists():
        return VectorStore.open(target)
    vectors = np.concatenate(_pieces(graded.records, parts, embedder, media, pieces, instruction))
    kinds = ["+".join(parts)] * len(vectors)
    store = VectorStore.create(target, vectors, [r.id for r in graded.records], kinds, embedder.provenance)
    shutil.rmtree(pieces, ignore_errors=True)
    return store


def _pieces(
    records: Sequence[Source],
    parts: Sequence[str],
    embedder: QwenEmbedder,
    media: Media,
    folder: Path,
    instruction: str,
) -> list[NDArray[np.float32]]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror}); choose another --out.") from error
    found = []
    with tqdm(total=len(records), desc="records", unit="record", disable=None) as bar:
        for first in range(0, len(records), PIECE):
            path, piece = folder / f"{first:08}.npy", records[first : first + PIECE]
            if not path.exists():
                _save(path, _embedded(piece, parts, embedder, media, instruction))
            found.append(np.load(path, allow_pickle=False))
            bar.update(len(piece))
    return found


def _embedded(
    sources: Sequence[Source], parts: Sequence[str], embedder: QwenEmbedder, media: Media, instruction: str
) -> NDArray[np.float32]:
    """(len(sources), D), media read a few at a time."""
    rows = [
        embedder.embed([media.content(source, parts) for source in sources[i : i + BATCH]], instruction=instruction)
        for i in range(0, len(sources), BATCH)
    ]
    return np.concatenate(rows)


def _save(path: Path, vectors: NDArray[np.float32]) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as part:
        np.save(part, vectors, allow_pickle=False)
    os.replace(part.name, path)


def _stamp(path: Path | None) -> list[object] | None:
    return None if path is None else [str(path), path.stat().st_size, path.stat().st_mtime_ns]


def ask(
    graded: Graded,
    form: Sequence[str],
    store: VectorStore,
    embedder: QwenEmbedder,
    media: Media,
    *,
    threshold: int,
    instruction: str,
    reranker: QwenReranker | None = None,
    record_parts: Sequence[str] = (),
    top: int = 10,
) -> tuple[list[Row], Region]:
    """The queries in one ``form``, plain and, with a ``reranker``, with the first ``top`` records ordered anew, and
    where they lie. Queries that lack a part or a record of grade ``threshold`` are left out and counted."""
    asked = [q for q in graded.queries if q.has(form) and any(g >= threshold for g in q.grades.values())]
    left_out = len(graded.queries) - len(asked)
    if not asked:
        raise InputError(
            f"No query has {' and '.join(form)} and a record of grade {threshold} or more; choose another --grade or "
            "--queries."
        )
    name, started = "+".join(form), time.perf_counter()
    vectors = _embedded(asked, form, embedder, media, instruction)
    found = store.search(vectors, DEPTH, provenance=embedder.provenance, modalities=[name])
    seconds = (time.perf_counter() - started) / len(asked)
    grades = [query.grades for query in asked]
    rows = [
        Row(name, False, 0, len(asked), left_out, _estimates(found.ids, grades, threshold), found.warnings, seconds)
    ]
    if reranker is not None:
        started = time.perf_counter()
        records = {record.id: record for record in graded.records}
        ranked = []
        for query, ids in zip(tqdm(asked, desc=f"reranking {name}", disable=None), found.ids, strict=True):
            documents = [media.content(records[id], record_parts) for id in ids[:top]]
            best = np.argsort(-reranker.score(media.content(query, form), documents), kind="stable")
            ranked.append([*(ids[i] for i in best), *ids[top:]])
        seconds += (time.perf_counter() - started) / len(asked)
        after = _estimates(ranked, grades, threshold)
        reordered = sum(tuple(one) != other for one, other in zip(ranked, found.ids, strict=True))
        rows.append(Row(name, True, reordered, len(asked), left_out, after, found.warnings, seconds))
    nearest = float(np.mean([row[0] for row in found.similarities]))
    own = [i for i, query in enumerate(asked) if query.has(record_parts)] if list(form) != list(record_parts) else []
    to_own = None
    if own:
        others = _embedded([asked[i] for i in own], record_parts, embedder, media, instruction)
        to_own = float((vectors[own] * others).sum(1).mean())
    return rows, Region(name, _among(vectors), nearest, to_own)


def _among(vectors: NDArray[np.float32]) -> float:
    """Mean cosine between different rows of (N, D), from the length of their sum; 1 for a single row."""
    n = len(vectors)
    if n < 2:
        return 1.0
    total = vectors.astype(np.float64).sum(0)
    return float((total @ total - n) / (n * (n - 1)))


def _estimates(
    ranked: Sequence[Sequence[str]], grades: Sequence[Mapping[str, int]], threshold: int
) -> dict[str, Estimate]:
    return {name: mean(values) for name, values in measures(ranked, grades, threshold, CUTS).items()}


def measured(
    graded: Graded,
    forms: Sequence[Sequence[str]],
    record_parts: Sequence[str],
    embedder: QwenEmbedder,
    out: Path,
    *,
    threshold: int,
    instruction: str,
    document_instruction: str,
    sampling: Sampling,
    reranker: QwenReranker | None = None,
    top: int = 10,
) -> Found:
    """Everything: the store, then all forms of the queries. Writes ``retrieval.json`` into ``out``."""
    media = Media(sampling)
    try:
        store = store_of(graded, record_parts, embedder, media, out, document_instruction)
        asked = [
            ask(
                graded, form, store, embedder, media, threshold=threshold, instruction=instruction,
                reranker=reranker, record_parts=record_parts, top=top,
            )
            for form in forms
        ]  # fmt: skip
    finally:
        media.close()
    found = Found(store, tuple(row for rows, _ in asked for row in rows), tuple(region for _, region in asked))
    about = {
        "provenance": store.provenance.to_json(), "records": len(store), "modalities": store.modalities,
        "dimension": store.dimension, "grade_threshold": threshold, "depth": DEPTH, "reranked_top": top,
        "rows": [dataclasses.asdict(row) for row in found.rows],
        "regions": [dataclasses.asdict(region) for region in found.regions],
    }  # fmt: skip
    write_text(out / "retrieval.json", json.dumps(about, indent=1, ensure_ascii=False) + "\n")
    return found
