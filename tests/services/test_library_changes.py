"""The reference library: adding, correcting, hiding, removing and exporting."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from services import annotations
from services.library import Library, create_shipped, reference_id
from tests.services.library_cases import HERE, JPEG, ids, ref, sha, three, tree


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    return three(tmp_path / "shipped")


@pytest.fixture
def library(shipped: Path, tmp_path: Path) -> Library:
    return Library(shipped, tmp_path / "user", HERE)


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
