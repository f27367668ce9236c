"""The reference library on disk: the shipped table, damage, and several threads and processes at once."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from services.errors import HerdLensError, InputError, ResourceError
from services.library import Library, create_shipped
from tests.services.library_cases import HERE, OUTSIDE, ROOT, ids, ref, sha, three, tree


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    return three(tmp_path / "shipped")


@pytest.fixture
def library(shipped: Path, tmp_path: Path) -> Library:
    return Library(shipped, tmp_path / "user", HERE)


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
        time.sleep(0.05)
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
