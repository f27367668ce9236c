"""The reference library: exact search against a brute-force reference, the overlay, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services import annotations
from services.errors import HerdLensError, InputError, MismatchError, ModelError, ResourceError
from services.library import Library, Reference, create_shipped, reference_id
from services.schema import Provenance

HERE = Provenance("tiny-videomae", "a" * 64, "mean", 16, "b" * 64)
OTHER = replace(HERE, weights="c" * 64)
JPEG = b"\xff\xd8\xff\xe0 a picture"
ROOT = Path(__file__).parents[2]
OUTSIDE = f"""
    import sys; sys.path.insert(0, {str(ROOT)!r})
    import hashlib, os
    import numpy as np
    from pathlib import Path
    from services.library import Library, Reference
    from services.schema import Provenance
    HERE = Provenance(*{(HERE.model, HERE.weights, HERE.pooling, HERE.frames, HERE.preprocessing)!r})
    def ref(name, vector):
        digest = hashlib.sha256(name.encode()).hexdigest()
        vector = np.asarray(vector, np.float32)
        return Reference(id=name, label="normal", description="", clip_sha256=digest, vector=vector)
"""
"""How the code of another process begins."""


def sha(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def ref(name: str, vector: Any, label: Any = "normal", **fields: Any) -> Reference:
    return Reference(
        id=fields.pop("id", name),
        label=label,
        description=fields.pop("description", f"about {name}"),
        clip_sha256=fields.pop("clip_sha256", sha(name)),
        vector=np.asarray(vector, np.float32),
        **fields,
    )


def tree(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    """Three references: m (mounting) at 0°, n (normal) at 60°, far (normal) at 120°."""
    turn = [(np.cos(a), np.sin(a), 0) for a in np.radians((0, 60, 120))]
    folder = tmp_path / "shipped"
    create_shipped(
        folder,
        [
            ref("m", turn[0], "mounting", thumbnail=JPEG),
            ref("n", turn[1]),
            ref("far", turn[2], metadata={"light": "Night"}),
        ],
        HERE,
    )
    return folder


@pytest.fixture
def library(shipped: Path, tmp_path: Path) -> Library:
    return Library(shipped, tmp_path / "user", HERE)


def ids(hits: Any) -> list[str]:
    return [hit.id for hit in hits]


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


# ---- the user's changes --------------------------------------------------------------------------------------------


def test_added_references_are_found_by_a_fresh_library(library: Library, shipped: Path, tmp_path: Path) -> None:
    (added,) = library.add(
        [
            ref(
                "mine",
                (0, 0, 1),
                "mounting",
                id="",
                description="Answer: YES\nstood behind",
                thumbnail=JPEG,
                metadata={"a": 1},
            )
        ]
    )
    assert added.id == reference_id(sha("mine")) and added.description == "stood behind"
    again = Library(shipped, tmp_path / "user", HERE).get(added.id)
    assert (again.label, again.origin, again.thumbnail, again.metadata) == ("mounting", "user", JPEG, {"a": 1})
    assert again.vector.dtype == np.float32 and again.vector.tolist() == [0, 0, 1]


def test_the_same_clip_is_added_once_and_updated(library: Library, tmp_path: Path) -> None:
    first = ref("mine", (0, 0, 1), thumbnail=JPEG, metadata={"day": 1})
    library.add([first, replace(first, description="second")])
    assert library.count() == 4 and library.get("mine").description == "second"
    library.hide("mine")
    (updated,) = library.add([replace(first, id="other-name", label="mounting", description="third", thumbnail=None)])
    assert (updated.id, updated.label, updated.description, updated.hidden) == ("mine", "mounting", "third", False)
    assert updated.corrected and updated.thumbnail == JPEG and updated.metadata == {"day": 1}
    assert library.count() == 4


def test_adding_a_shipped_clip_corrects_it_in_the_overlay(library: Library, shipped: Path) -> None:
    before = tree(shipped)
    (got,) = library.add([ref("copy", (0, 1, 1), "mounting", clip_sha256=sha("n"), description="it did mount")])
    assert (got.id, got.origin, got.label, got.description, got.corrected) == (
        "n",
        "shipped",
        "mounting",
        "it did mount",
        True,
    )
    assert library.count() == 3 and tree(shipped) == before


def test_shipped_references_are_hidden_corrected_and_restored_without_a_change_to_their_folder(
    library: Library, shipped: Path, tmp_path: Path
) -> None:
    before = tree(shipped)
    library.relabel("n", "mounting", "rose once")
    library.hide("n")
    assert library.remove("m") == "hidden"
    fresh = Library(shipped, tmp_path / "user", HERE)
    assert ids(fresh.search((1, 0, 0), 9)) == ["far"] and fresh.count() == 1
    n = fresh.get("n")
    assert (n.label, n.description, n.hidden, n.corrected) == ("mounting", "rose once", True, True)
    fresh.restore("n")
    n = library.get("n")
    assert (n.label, n.description, n.hidden, n.corrected) == ("normal", "about n", False, False)
    assert tree(shipped) == before


def test_relabelling_drops_a_reason_that_argues_for_the_old_label(library: Library) -> None:
    assert library.relabel("n", "normal").description == "about n"
    assert library.relabel("n", "mounting").description == ""
    library.add([ref("mine", (0, 0, 1), "mounting")])
    mine = library.relabel("mine", "normal", "only sniffed")
    assert (mine.label, mine.description, mine.corrected) == ("normal", "only sniffed", True)


def test_the_overlay_follows_the_clip_into_a_rebuilt_library(library: Library, shipped: Path, tmp_path: Path) -> None:
    library.hide("n")
    create_shipped(shipped, [ref("n", (1, 0, 0), id="renamed"), ref("x", (0, 1, 0))], HERE)
    assert ids(library.search((1, 0, 0), 9)) == ["x"]


def test_list_filters_by_label_origin_and_text(library: Library) -> None:
    library.add([ref("mine", (0, 0, 1), "mounting", description="ROSE behind")])
    library.hide("far")
    assert ids(library.list()) == ["far", "m", "mine", "n"]
    assert ids(library.list(label="mounting")) == ["m", "mine"]
    assert ids(library.list(label="mounting", origin="user")) == ["mine"]
    assert ids(library.list(text="rose")) == ["mine"] and ids(library.list(text="night")) == ["far"]


def test_removing_leaves_nothing_of_the_clip_on_disk(library: Library, tmp_path: Path) -> None:
    clip = tmp_path / "clip.MP4"
    clip.write_bytes(b"moving pictures")
    secret = ref(
        "mine",
        (0, 0, 1),
        clip_path=str(clip),
        thumbnail=JPEG + b"SECRET",
        clip_sha256=hashlib.sha256(b"moving pictures").hexdigest(),
    )
    (kept,) = library.add([secret, ref("rest", (0, 1, 1))], keep_clips=True)[:1]
    library.search((0, 0, 1), 1)
    library.hide("mine")
    assert kept.clip_path is not None and Path(kept.clip_path).parent == tmp_path / "user/clips"
    clip.unlink()
    assert Path(kept.clip_path).read_bytes() == b"moving pictures"
    assert library.remove("mine") == "removed"
    assert not any(b"SECRET" in path.read_bytes() for path in (tmp_path / "user").rglob("*") if path.is_file())
    assert not Path(kept.clip_path).exists() and library.get("rest").label == "normal"


def test_a_hit_names_its_clip_only_while_the_file_is_there(library: Library, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"x")
    library.add([ref("mine", (0, 0, 1), clip_path=str(clip))])
    assert library.search((0, 0, 1), 1)[0].clip_path == str(clip)
    clip.unlink()
    assert library.search((0, 0, 1), 1)[0].clip_path is None


# ---- export --------------------------------------------------------------------------------------------------------


def test_export_can_be_read_back_and_says_which_clips_are_absent(library: Library, tmp_path: Path) -> None:
    clips = {}
    for name in ("good", "changed"):
        clips[name] = tmp_path / f"{name}.mp4"
        clips[name].write_bytes(name.encode())
    library.add([ref(name, (0, 1, 1), "mounting", clip_path=str(path)) for name, path in clips.items()])
    clips["changed"].write_bytes(b"another clip by now")
    library.hide("far")
    done = library.export(tmp_path / "out/library.json")
    assert (done.entries, done.clips, done.absent) == (4, 1, ("changed", "m", "n"))
    entries = annotations.read(tmp_path / "out/library.json", check_media=False)
    assert [entry.label for entry in entries] == ["mounting", "mounting", "mounting", "normal"]
    good = entries[1]
    assert good.media[0].read_bytes() == b"good" and good.reason == "about good" and good.metadata["id"] == "good"
    assert "clip" not in good.metadata and entries[0].metadata["clip"] == "absent"
    assert sorted(path.name for path in (tmp_path / "out").rglob("*")) == ["good.mp4", "library.json", "library_clips"]
    assert library.export(tmp_path / "mine.json", origin="user").entries == 2


def test_exported_entries_have_the_wording_of_the_annotation_service(library: Library, tmp_path: Path) -> None:
    library.export(tmp_path / "library.json")
    for entry in json.loads((tmp_path / "library.json").read_text()):
        reference = library.get(entry["metadata"]["id"])
        made = annotations.entry_for(entry["video"], reference.label, reference.description, entry["metadata"])
        assert entry == made


# ---- the shipped table ---------------------------------------------------------------------------------------------


def test_a_shipped_library_is_small_and_unchanged_by_an_equal_rebuild(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    references = [
        ref(
            f"demo-{i:04d}",
            draw.normal(size=192),
            thumbnail=b"\xff\xd8\xff" + draw.bytes(4000),
            description="a cow " * 30,
        )
        for i in range(332)
    ]
    folder = tmp_path / "library"
    create_shipped(folder, references, HERE)
    first = tree(folder)
    assert sum(os.path.getsize(path) for path in first) < 3_000_000
    assert not any(str(tmp_path).encode() in Path(path).read_bytes() for path in first)
    create_shipped(folder, reversed(references), HERE)
    assert tree(folder) == first
    create_shipped(folder, references[:-1], HERE)
    assert Library(folder, tmp_path / "user", HERE).count() == 331
    assert len(tree(folder)) == len(first)


def test_shipped_clips_are_stored_relative_to_their_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    (folder / "clips").mkdir(parents=True)
    (folder / "clips/m.mp4").write_bytes(b"x")
    (tmp_path / "elsewhere.mp4").write_bytes(b"x")
    inside = ref("m", (1, 0), clip_path=str(folder / "clips/m.mp4"))
    create_shipped(folder, [inside, ref("n", (0, 1), clip_path=str(tmp_path / "elsewhere.mp4"))], HERE)
    folder.rename(tmp_path / "b")
    library = Library(tmp_path / "b", tmp_path / "user", HERE)
    assert library.search((1, 0), 1)[0].clip_path == str(tmp_path / "b/clips/m.mp4")
    assert library.get("n").clip_path is None


def test_two_references_of_one_clip_cannot_be_shipped(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="same clip"):
        create_shipped(tmp_path / "x", [ref("a", (1, 0)), ref("b", (1, 0), clip_sha256=sha("a"))], HERE)


@pytest.mark.skipif(os.name != "posix", reason="read-only folders are made with POSIX permissions")
def test_a_shipped_folder_that_cannot_be_written_works() -> None:
    """In a process without rights over the shipped folder; one run by root gives its rights up first."""
    code = """
        base = Path(sys.argv[1])
        shipped = base / "shipped"
        Library(shipped, base / "user", HERE).hide("n")   # whatever is imported late is imported now
        if os.getuid() == 0:
            for path in (base / "user").rglob("*"):
                os.chown(path, 65534, 65534)
            os.setgid(65534)
            os.setuid(65534)
        assert not any(os.access(path, os.W_OK) for path in (shipped, *shipped.rglob("*")))
        library = Library(shipped, base / "user", HERE)
        library.restore("n")
        assert [h.id for h in library.search((1, 0), 5)] == ["m", "n"]
        library.hide("m"); library.relabel("n", "mounting")
        assert [(h.id, h.label) for h in library.search((1, 0), 5)] == [("n", "mounting")]
    """
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        create_shipped(base / "shipped", [ref("m", (1, 0), "mounting"), ref("n", (0, 1))], HERE)
        (base / "user").mkdir()
        for path in (base, *base.rglob("*")):
            path.chmod(0o777 if path.name == "user" else 0o555 if path.is_dir() else 0o444)
        try:
            done = subprocess.run(
                [sys.executable, "-c", textwrap.dedent(OUTSIDE) + textwrap.dedent(code), name],
                capture_output=True,
                text=True,
            )
        finally:
            for path in (base, *(base / "shipped").rglob("*")):
                path.chmod(0o755)
        assert done.returncode == 0, done.stderr


# ---- damage --------------------------------------------------------------------------------------------------------


def flip(table: Path, needle: bytes) -> None:
    """Flip one bit of ``needle`` in the table's data file."""
    for path in (table / "data").iterdir():
        content = bytearray(path.read_bytes())
        at = content.find(needle)
        if at >= 0:
            content[at] ^= 1
            path.write_bytes(content)
            return
    raise AssertionError("not found")


def test_a_flipped_byte_of_a_vector_is_noticed(library: Library, shipped: Path, tmp_path: Path) -> None:
    library.count()
    vector = np.asarray((0.123, 0.456, 0.789), np.float32)
    library.add([ref("mine", vector), ref("fine", (1, 0, 0))])
    flip(tmp_path / "user/references.lance", vector.tobytes())
    damaged = Library(shipped, tmp_path / "user", HERE)
    with pytest.raises(ResourceError, match=r"'mine'.*damaged.*remove 'mine'"):
        damaged.search((1, 0, 0), 1)
    assert damaged.remove("mine") == "removed"
    assert ids(damaged.list(origin="user")) == ["fine"]


def test_a_flipped_byte_of_a_shipped_text_is_noticed(shipped: Path, tmp_path: Path) -> None:
    flip(shipped / "references.lance", b"about n")
    with pytest.raises(ResourceError, match=r"damaged.*restore"):
        Library(shipped, tmp_path / "user", HERE).count()


def test_a_manifest_emptied_by_a_power_cut_costs_the_last_change_only(
    library: Library, shipped: Path, tmp_path: Path
) -> None:
    library.add([ref("first", (0, 0, 1))])
    versions = tmp_path / "user/references.lance/_versions"
    saved = {path.name: path.read_bytes() for path in versions.glob("*.manifest")}
    newest = min(saved)
    (versions / f"{int(newest.split('.')[0]) - 1}.manifest").write_bytes(b"")
    recovered = Library(shipped, tmp_path / "user", HERE)
    assert ids(recovered.list(origin="user")) == ["first"]
    recovered.add([ref("second", (0, 0, 1))])
    assert library.count() == 5


def test_an_unreadable_table_is_one_sentence(library: Library, shipped: Path, tmp_path: Path) -> None:
    library.add([ref("first", (0, 0, 1))])
    for path in (tmp_path / "user/references.lance/_versions").glob("*.manifest"):
        path.write_bytes(b"garbage")
    with pytest.raises(ResourceError, match="cannot be read; move this folder away"):
        Library(shipped, tmp_path / "user", HERE)


# ---- several threads and processes ---------------------------------------------------------------------------------


def test_two_processes_write_at_once_and_see_each_other(tmp_path: Path) -> None:
    code = """
        library = Library(None, Path(sys.argv[1]), HERE)
        for i in range(8):
            library.add([ref(f"{sys.argv[2]}{i}", (1, i + 1, 0))])
            assert f"{sys.argv[2]}{i}" in [hit.id for hit in library.search((1, 1, 0), 99)]
            if i % 4 == 3:
                library.remove(f"{sys.argv[2]}{i}")
    """
    library = Library(None, tmp_path / "user", HERE)
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(OUTSIDE) + textwrap.dedent(code), str(tmp_path / "user"), name],
            stderr=subprocess.PIPE,
        )
        for name in "ab"
    ]
    seen = [0]
    while any(worker.poll() is None for worker in workers):
        seen.append(len(library.search((1, 0, 0), 99)))
        time.sleep(0.01)
    assert [worker.wait() for worker in workers] == [0, 0], [
        worker.stderr.read() for worker in workers if worker.stderr
    ]
    assert ids(library.list()) == sorted(f"{w}{i}" for w in "ab" for i in range(8) if i % 4 != 3)
    assert len(set(seen)) > 2, "the reader saw the library grow"


def test_threads_share_one_library(library: Library) -> None:
    errors: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for i in range(4):
                library.add([ref(f"{name}{i}", (1, 1, i))])
                assert library.search((1, 1, i), 1, label="normal")
        except (HerdLensError, AssertionError) as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in "pqr"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and library.count() == 15


def test_importing_the_library_loads_no_torch() -> None:
    modules = ", ".join(f"services.{name}" for name in ("library", "history", "adapters", "annotations"))
    code = f"import sys, {modules}; print('torch' in sys.modules, 'streamlit' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
