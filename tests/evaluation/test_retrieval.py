"""Measuring an embedding model: against brute force, with its warnings, and after a kill."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import numpy as np
import pytest

from agent.__main__ import main
from evaluation import retrieval
from evaluation.__main__ import app
from evaluation.graded import Graded, Media, Source, read_graded
from evaluation.ranking import measures
from evaluation.retrieval import ask, measured, store_of
from services.errors import InputError
from services.multimodal import Content, Limits
from services.qwen_embedder import INSTRUCTION, QwenEmbedder
from services.qwen_reranker import QwenReranker
from services.schema import Sampling
from services.settings import ROOT
from services.vector_store import VectorStore

BASE = ROOT / "assets" / "demo" / "base"
SAMPLES = ROOT / "assets" / "demo" / "samples"
SMALL = Limits(4096, 8192, 4096, 8192)
TEXTS = ("a cow mounts another", "a cow lies down", "two cows walk past", "a cow feeds at night", "heads are pushed")
RECORDS = tuple(Source(f"r{i}", text) for i, text in enumerate(TEXTS))
QUERIES = tuple(
    Source(f"q{i}", f"which clip shows that {text}?", grades={f"r{i}": 4, f"r{(i + 1) % 5}": 3, f"r{(i + 2) % 5}": 1})
    for i, text in enumerate(TEXTS)
)
WORDS = Graded(RECORDS, QUERIES)
COMMON = {"threshold": 3, "instruction": INSTRUCTION}


@pytest.fixture(scope="module")
def embedder() -> QwenEmbedder:
    return QwenEmbedder(BASE, limits=SMALL)


@pytest.fixture(scope="module")
def reranker() -> QwenReranker:
    return QwenReranker(BASE, limits=SMALL)


@pytest.fixture
def media():
    found = Media(Sampling(frames=4))
    yield found
    found.close()


def brute_force(embedder) -> list[list[str]]:
    """Ids of all records by cosine, best first, for each query."""
    records, queries = (embedder.embed([Content(s.text) for s in group]) for group in (RECORDS, QUERIES))
    return [[RECORDS[i].id for i in np.argsort(-row, kind="stable")] for row in queries @ records.T]


def test_measures_are_those_of_a_sort_by_cosine(embedder, media, tmp_path):
    store = store_of(WORDS, ["text"], embedder, media, tmp_path, INSTRUCTION)
    (row,), region = ask(WORDS, ["text"], store, embedder, media, record_parts=["text"], **COMMON)
    expected = measures(brute_force(embedder), [query.grades for query in QUERIES], 3)
    assert {name: e.value for name, e in row.measures.items()} == pytest.approx(
        {name: values.mean() for name, values in expected.items()}
    )
    assert (row.form, row.reranked, row.queries, row.left_out, row.warnings) == ("text", False, 5, 0, ())
    vectors = embedder.embed([Content(query.text) for query in QUERIES])
    apart = (vectors @ vectors.T)[~np.eye(5, dtype=bool)]
    assert region.among == pytest.approx(float(apart.mean()), abs=1e-5) and region.to_own is None


def test_the_reranker_orders_the_first_anew_and_leaves_the_rest(embedder, reranker, media, tmp_path):
    store = store_of(WORDS, ["text"], embedder, media, tmp_path, INSTRUCTION)
    few = Graded(RECORDS, QUERIES[:2])
    (_, row), _ = ask(few, ["text"], store, embedder, media, reranker=reranker, record_parts=["text"], top=3, **COMMON)
    texts = {record.id: record.text for record in RECORDS}
    ranked = []
    for query, ids in zip(QUERIES[:2], brute_force(embedder)[:2], strict=True):
        scores = reranker.score(Content(query.text), [Content(texts[id]) for id in ids[:3]])
        ranked.append([ids[i] for i in np.argsort(-scores, kind="stable")] + ids[3:])
    expected = measures(ranked, [query.grades for query in QUERIES[:2]], 3)
    changed = sum(one != other for one, other in zip(ranked, brute_force(embedder), strict=False))
    assert row.reranked and row.reordered == changed
    assert {name: e.value for name, e in row.measures.items()} == pytest.approx(
        {name: values.mean() for name, values in expected.items()}
    )


@pytest.fixture
def clips() -> Graded:
    return read_graded(SAMPLES)


def test_a_form_that_no_record_has_is_answered_with_a_warning_that_names_both(embedder, media, clips, tmp_path):
    store = store_of(clips, ["text", "image"], embedder, media, tmp_path, INSTRUCTION)
    common = {"threshold": 1, "instruction": INSTRUCTION, "record_parts": ["text", "image"]}
    (alike,), _ = ask(clips, ["text", "image"], store, embedder, media, **common)
    (image,), region = ask(clips, ["image"], store, embedder, media, **common)
    assert alike.warnings == () and image.queries == 2
    (warning,) = image.warnings
    assert "records are text+image, the query is image" in warning
    assert region.to_own is not None and region.to_own < 0.9999  # the text is missing, so it lies elsewhere


def test_a_store_of_another_pooling_is_answered_with_a_warning(embedder, media, tmp_path):
    store = store_of(WORDS, ["text"], embedder, media, tmp_path, INSTRUCTION)
    (row,), _ = ask(WORDS, ["text"], store, embedder.pooled_by("mean"), media, record_parts=["text"], **COMMON)
    assert len(row.warnings) == 1 and "'last token, L2'" in row.warnings[0] and "'mean over the mask" in row.warnings[0]


def test_a_record_without_a_part_and_queries_without_a_grade_are_told(embedder, media, tmp_path):
    with pytest.raises(InputError, match="'r0' has no text and image; choose --records"):
        store_of(WORDS, ["text", "image"], embedder, media, tmp_path, INSTRUCTION)
    store = store_of(WORDS, ["text"], embedder, media, tmp_path, INSTRUCTION)
    with pytest.raises(InputError, match="No query has image"):
        ask(WORDS, ["image"], store, embedder, media, **COMMON)
    one = Graded(RECORDS, (*QUERIES[:3], Source("q", "nothing fits", grades={"r0": 2})))
    (row,), _ = ask(one, ["text"], store, embedder, media, record_parts=["text"], **COMMON)
    assert (row.queries, row.left_out) == (3, 1)


def test_a_store_is_used_again_but_not_for_other_frames_records_or_instructions(embedder, media, clips, tmp_path):
    words = Graded((*RECORDS[:4], Source("r4", "other words")), QUERIES)
    for graded, instruction in ((WORDS, INSTRUCTION), (words, INSTRUCTION), (WORDS, "Find it."), (WORDS, INSTRUCTION)):
        store_of(graded, ["text"], embedder, media, tmp_path, instruction)
    assert len(list(tmp_path.glob("store_*"))) == 3
    other = Media(Sampling(frames=2))
    try:
        store_of(WORDS, ["text"], embedder, other, tmp_path, INSTRUCTION)
    finally:
        other.close()
    assert len(list(tmp_path.glob("store_*"))) == 4


def test_everything_is_written(embedder, tmp_path):
    found = measured(
        WORDS, [["text"]], ["text"], embedder, tmp_path, document_instruction=INSTRUCTION,
        sampling=Sampling(frames=4), **COMMON,
    )  # fmt: skip
    kept = json.loads((tmp_path / "retrieval.json").read_text(encoding="utf-8"))
    assert kept["grade_threshold"] == 3 and kept["modalities"] == {"text": 5}
    assert kept["provenance"] == found.store.provenance.to_json()
    assert kept["rows"][0]["measures"]["MRR"]["value"] == found.rows[0].measures["MRR"].value
    assert kept["regions"][0]["form"] == "text"


def test_a_killed_embedding_goes_on_behind_its_last_piece(tmp_path, monkeypatch):
    """A real process is killed in its work; what it had put to disk is not embedded again."""
    monkeypatch.setenv("HERDLENS_DATA", str(tmp_path / "data"))
    count = 4 * retrieval.PIECE
    data, out = tmp_path / "graded.json", tmp_path / "out"
    records = [{"id": f"r{i}", "text": f"cow number {i}"} for i in range(count)]
    query = {"id": "q", "text": "cow number 3", "grades": {"r3": 4}}
    data.write_text(json.dumps({"records": records, "queries": [query]}), encoding="utf-8")
    call = ["retrieval", "--data", str(data), "--out", str(out), "--records", "text", "--queries", "text"]
    process = subprocess.Popen(
        [sys.executable, "-m", "evaluation", *call], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and not list(out.glob("pieces_*/*.npy")):
        time.sleep(0.005)
    process.kill()
    process.wait()
    done = sorted(out.glob("pieces_*/*.npy"))
    assert 1 <= len(done) < 4 and not list(out.glob("store_*"))
    # A mark that only this piece has: its first two rows change places.
    marked = np.load(done[0])[[1, 0, *range(2, retrieval.PIECE)]]
    np.save(done[0], marked)
    assert main(lambda **options: app(call, **options)) == 0
    (folder,) = out.glob("store_*")
    store = VectorStore.open(folder)
    assert len(store) == count and (store.vectors[: retrieval.PIECE] == marked).all()
    assert not list(out.glob("pieces_*"))
