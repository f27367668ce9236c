"""A store is exact, survives the disk, and says when a query is of another kind."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services import vector_store
from services.errors import InputError, MismatchError, ModelError, ResourceError
from services.schema import Provenance
from services.vector_store import VectorStore, _best

OURS = Provenance("m", "w" * 64, "mean over the mask, L2", 0, "p" * 64)


def unit(rows: int, dimension: int, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal((rows, dimension)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


@pytest.fixture
def store(tmp_path) -> VectorStore:
    names = [f"r{i:03}" for i in range(50)]
    return VectorStore.create(tmp_path / "store", unit(50, 16), names, ["text+image"] * 40 + ["text"] * 10, OURS)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 9), st.randoms(use_true_random=False))
def test_a_search_is_a_sort_of_all_similarities(rows, k, block, random):
    """Also across blocks, and with many equal similarities, of which the earlier records come first."""
    rng = np.random.default_rng(random.randrange(1 << 30))
    vectors = rng.integers(-1, 2, (rows, 3)).astype(np.float32)
    queries = rng.integers(-1, 2, (2, 3)).astype(np.float32)
    whole = queries @ vectors.T
    expected = np.argsort(-whole, axis=1, kind="stable")[:, :k]
    usual, vector_store.BLOCK = vector_store.BLOCK, block
    try:
        scores, places = _best(vectors, queries, min(k, rows))
    finally:
        vector_store.BLOCK = usual
    assert (places == expected).all()
    assert (scores == np.take_along_axis(whole, expected, 1)).all()


def test_a_reopened_store_answers_the_same(store, tmp_path):
    queries = unit(3, 16, seed=1)
    for again in (VectorStore.open(tmp_path / "store", check=True), VectorStore.open(tmp_path / "store", load=True)):
        assert len(again) == 50 and again.dimension == 16
        assert again.provenance == OURS and again.modalities == {"text": 10, "text+image": 40}
        assert again.search(queries, 5, provenance=OURS) == store.search(queries, 5, provenance=OURS)
    nearest = store.search(store.vectors[7], 1, provenance=OURS)
    assert nearest.ids == (("r007",),) and nearest.similarities[0][0] == pytest.approx(1)


def test_alike_queries_bring_no_warning_and_others_a_warning_that_names_both(store):
    query = unit(1, 16, seed=2)
    assert store.search(query, 3, provenance=OURS, modalities=["text", "text+image"]).warnings == ()
    (about,) = store.search(query, 3, provenance=OURS, modalities=["image", "image"]).warnings
    assert "records are text and text+image" in about and "query is image" in about
    last = dataclasses.replace(OURS, pooling="last token, L2")
    found = store.search(query, 3, provenance=last, modalities=["text"])
    assert len(found.ids[0]) == 3
    assert "mean over the mask" in found.warnings[0] and "last token" in found.warnings[0]


@pytest.mark.parametrize("what", ["model", "weights", "preprocessing"])
def test_vectors_of_another_model_are_refused(store, what):
    with pytest.raises(MismatchError, match=what):
        store.search(unit(1, 16), 3, provenance=dataclasses.replace(OURS, **{what: "x"}))


def test_wrong_shapes_values_and_calls_are_refused(store, tmp_path):
    with pytest.raises(MismatchError, match="8 numbers"):
        store.search(unit(1, 8), 3, provenance=OURS)
    with pytest.raises(ModelError, match="no direction"):
        store.search(np.zeros(16), 3, provenance=OURS)
    with pytest.raises(InputError, match="at least 1"):
        store.search(unit(1, 16), 0, provenance=OURS)
    zero = unit(2, 16)
    zero[1] = 0
    with pytest.raises(ModelError, match="'b'"):
        VectorStore.create(tmp_path / "zero", zero, ["a", "b"], ["text"] * 2, OURS)
    with pytest.raises(InputError, match="'a'"):
        VectorStore.create(tmp_path / "twice", unit(2, 16), ["a", "a"], ["text"] * 2, OURS)
    with pytest.raises(InputError, match="exists already"):
        VectorStore.create(tmp_path / "store", unit(1, 16), ["a"], ["text"], OURS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]


def test_a_flipped_byte_and_a_missing_file_are_told(store, tmp_path):
    path = tmp_path / "store" / "vectors.npy"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(ResourceError, match=r"damaged \(vectors\.npy\)"):
        VectorStore.open(tmp_path / "store", check=True)
    (tmp_path / "store" / "ids.npy").unlink()
    with pytest.raises(ResourceError, match="build it again"):
        VectorStore.open(tmp_path / "store")
