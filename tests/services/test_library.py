"""The reference library: exact search against a brute-force reference, votes, and what is refused."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.errors import InputError, MismatchError, ModelError, ResourceError
from services.library import Library, create_shipped
from tests.services.library_cases import HERE, JPEG, OTHER, ids, ref, sha, three


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    return three(tmp_path / "shipped")


@pytest.fixture
def library(shipped: Path, tmp_path: Path) -> Library:
    return Library(shipped, tmp_path / "user", HERE)


# ---- search --------------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 40), k=st.integers(1, 50), d=st.integers(4, 24))
def test_search_and_vote_agree_with_brute_force(seed: int, n: int, k: int, d: int) -> None:
    draw = np.random.default_rng(seed)
    vectors = draw.normal(size=(n, d)) * draw.uniform(0.01, 100, size=(n, 1))
    labels = draw.choice(["mounting", "normal"], n)
    split = int(draw.integers(0, n + 1))
    everyone = [ref(f"r{i:02d}", vectors[i], labels[i]) for i in range(n)]
    query = draw.normal(size=d)
    excluded = int(draw.integers(0, n))
    wanted: list[tuple[float, str, str]] = []
    for i in range(n):
        cosine = float(vectors[i] @ query / np.linalg.norm(vectors[i]) / np.linalg.norm(query))
        if i != excluded:
            wanted.append((cosine, f"r{i:02d}", str(labels[i])))
    wanted.sort(reverse=True)
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder, "shipped") if split else None
        if base:
            create_shipped(base, everyone[:split], HERE)
        library = Library(base, Path(folder, "user"), HERE)
        library.add(everyone[split:])
        hits = library.search(query, k, exclude_sha256=sha(f"r{excluded:02d}"))
        assert [h.similarity for h in hits] == pytest.approx([c for c, _, _ in wanted[:k]], abs=1e-5)
        assert len({h.id for h in hits}) == len(hits)
        for hit in hits:
            assert hit.similarity == pytest.approx(next(c for c, name, _ in wanted if name == hit.id), abs=1e-5)
        one = library.search(query, k, exclude_sha256=sha(f"r{excluded:02d}"), label="mounting")
        expected = [c for c, _, label in wanted if label == "mounting"][:k]
        assert [h.similarity for h in one] == pytest.approx(expected, abs=1e-5)
        around = library.neighbourhood(query, "contrastive", k, sha(f"r{excluded:02d}"))
        weights = [(label, max(c, 0.0)) for c, _, label in wanted[:k]]
        total = sum(w for _, w in weights)
        if total > 1e-3:
            assert around.vote == pytest.approx(sum(w for label, w in weights if label == "mounting") / total, abs=1e-3)
        firsts = [next((c for c, _, name in wanted if name == label), None) for label in ("mounting", "normal")]
        best = sorted((c for c in firsts if c is not None), reverse=True)
        assert [h.similarity for h in around.shown] == pytest.approx(best, abs=1e-5)


def test_hits_carry_what_the_library_knows(library: Library, shipped: Path) -> None:
    first, second = library.search((1, 0.1, 0), 2)
    assert (first.id, first.label, first.origin, first.description) == ("m", "mounting", "shipped", "about m")
    assert first.thumbnail_path is not None and Path(first.thumbnail_path).read_bytes() == JPEG
    assert library.thumbnail("m") == JPEG
    assert not Path(first.thumbnail_path).is_relative_to(shipped)
    assert first.clip_path is None and second.thumbnail_path is None


def test_the_query_clip_is_never_its_own_neighbour(library: Library) -> None:
    assert ids(library.search((1, 0, 0), 5)) == ["m", "n", "far"]
    assert ids(library.search((1, 0, 0), 5, exclude_sha256=sha("m"))) == ["n", "far"]
    around = library.neighbourhood((1, 0, 0), "contrastive", 5, sha("m"))
    assert ids(around.shown) == ["n"] and "m" not in ids(around.voters)


def test_modes_show_what_the_design_says(library: Library) -> None:
    query = (np.cos(np.radians(100)), np.sin(np.radians(100)), 0)  # far at 20°, n at 40°, m at 100°: negative
    nearest = library.neighbourhood(query, "nearest", 2)
    assert ids(nearest.shown) == ["far"] and ids(nearest.voters) == ["far", "n"] and nearest.vote == 0.0
    contrastive = library.neighbourhood(query, "contrastive", 99)
    assert ids(contrastive.shown) == ["far", "m"]
    assert len(contrastive.voters) == 3 and contrastive.vote == 0.0
    off = library.neighbourhood(None, "off", 5)
    assert (off.mode, off.shown, off.voters, off.vote) == ("off", (), (), None)


def test_no_neighbour_that_is_similar_at_all_gives_no_vote(library: Library) -> None:
    assert library.neighbourhood((0, 0, 1), "contrastive", 3).vote is None
    assert library.neighbourhood((-1, -1, 0), "contrastive", 2).vote is None


def test_an_empty_library_finds_nothing(tmp_path: Path) -> None:
    library = Library(None, tmp_path / "user", HERE)
    assert library.search((1, 0), 3) == [] and library.count() == 0
    assert library.neighbourhood((1, 0), "contrastive", 3).vote is None
    assert not (tmp_path / "user").exists()


def test_equal_neighbours_come_in_order_of_their_ids(tmp_path: Path) -> None:
    library = Library(None, tmp_path / "user", HERE)
    library.add([ref(f"x{i}", (1, 2, 3)) for i in (3, 1, 2, 0)])
    assert ids(library.search((3, 2, 1), 4)) == ["x0", "x1", "x2", "x3"]


# ---- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [(0, 0, 0), (1e-12, 0, 0), (np.nan, 1, 0), (np.inf, 1, 0)])
def test_vectors_without_a_direction_are_refused_everywhere(library: Library, bad: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="direction"):
        library.search(bad, 1)
    with pytest.raises(ModelError, match="new"):
        library.add([ref("good", (1, 1, 1)), ref("new", bad)])
    assert library.count() == 3
    with pytest.raises(ModelError):
        create_shipped(tmp_path / "x", [ref("new", bad)], HERE)


def test_another_dimension_is_refused(library: Library) -> None:
    with pytest.raises(MismatchError, match="clip has a vector of 4 numbers, the library's have 3"):
        library.search((1, 0, 0, 0), 1)
    with pytest.raises(MismatchError, match="2 numbers"):
        library.add([ref("flat", (1, 0))])
    assert library.count() == 3


def test_another_provenance_is_refused_on_opening_with_both_named(
    library: Library, shipped: Path, tmp_path: Path
) -> None:
    with pytest.raises(MismatchError, match=r"aaaaaaaaaaaa.*cccccccccccc"):
        Library(shipped, tmp_path / "user", OTHER)
    library.add([ref("mine", (1, 1, 1))])
    with pytest.raises(MismatchError, match="anew"):
        Library(None, tmp_path / "user", OTHER)


def test_another_provenance_is_refused_on_searching(tmp_path: Path) -> None:
    """A second process may put a library of another embedder there while the first one is open."""
    open_one = Library(None, tmp_path / "user", HERE)
    Library(None, tmp_path / "user", OTHER).add([ref("theirs", (1, 0))])
    with pytest.raises(MismatchError):
        open_one.search((1, 0), 1)
    with pytest.raises(MismatchError):
        open_one.add([ref("mine", (1, 0))])


@pytest.mark.parametrize(
    "fields",
    [
        {"label": "lying"},
        {"clip_sha256": "abc"},
        {"id": "../../etc"},
        {"thumbnail": b"<svg>"},
        {"thumbnail": JPEG + bytes(300_000)},
        {"description": "x" * 4001},
        {"metadata": {"a": float("nan")}},
        {"metadata": {"a": "x" * 30_000}},
        {"id": "m"},
    ],
)
def test_impossible_references_are_refused_and_nothing_is_added(library: Library, fields: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        library.add([ref("fine", (1, 0, 0)), ref("new", (1, 0, 0), **fields)])
    assert library.count() == 3


def test_unknown_ids_and_impossible_k_are_named(library: Library) -> None:
    for call in (library.get, library.remove, library.hide, library.restore, library.thumbnail):
        with pytest.raises(InputError, match="'nobody'"):
            call("nobody")
    with pytest.raises(InputError, match="at least 1"):
        library.search((1, 0, 0), 0)


def test_a_missing_shipped_library_is_named_and_not_created(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="no reference library"):
        Library(tmp_path / "nowhere", tmp_path / "user", HERE)
    assert not (tmp_path / "nowhere").exists()
