"""Past analyses and uploads: what is kept, that deletion deletes, and what a kill or a full disk leaves behind."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import HerdLensError, InputError, ResourceError
from services.history import History
from services.history_uploads import safe_name

ROOT = Path(__file__).parents[2]
CLIP = b"moving pictures" * 1000


def report(content: bytes = CLIP, verdict: str = "mounting", **fields: Any) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    return {"clip": {"sha256": digest, "path": "x"}, "verdict": verdict, "p_mounting": 0.9, "reason": "소", **fields}


def files(folder: Path) -> list[str]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(
        path.relative_to(folder).as_posix() for path in found if not path.name.startswith((".lock", "history"))
    )


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "history")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "history"


# ---- entries -------------------------------------------------------------------------------------------------------


def test_an_entry_survives_a_restart(history: History, folder: Path) -> None:
    clip = history.store_upload(CLIP, "cow 3.mp4")
    id = history.add(
        report(), clip_name="cow 3.mp4", stored_clip=clip, extras={"frame-00.jpg": b"jpeg", "copy.mp4": clip}
    )
    past = History(folder).get(id)
    assert (past.id, past.clip_name, past.verdict, past.p_mounting, past.feedback) == (
        id,
        "cow 3.mp4",
        "mounting",
        0.9,
        None,
    )
    assert past.report == report() and past.clip_path == clip
    assert past.extras["frame-00.jpg"].read_bytes() == b"jpeg" and past.extras["copy.mp4"].read_bytes() == CLIP
    assert past.created_at.endswith("+00:00")
    assert id.isalnum() and len(id) == 8


def test_list_is_newest_first_pages_and_filters(history: History) -> None:
    ids = [
        history.add(report(verdict=v), clip_name=f"{i}.mp4")
        for i, v in enumerate(["mounting", "normal", "unclear"] * 2)
    ]
    assert [past.id for past in history.list()] == ids[::-1]
    assert [past.id for past in history.list(limit=2, offset=1)] == [ids[4], ids[3]]
    assert [past.id for past in history.list(verdict="normal")] == [ids[4], ids[1]]
    assert (history.count(), history.count("unclear")) == (6, 2)


def test_feedback_is_kept_changed_and_taken_back(history: History) -> None:
    id = history.add(report(), clip_name="a")
    for label in ("normal", "mounting", None):
        history.set_feedback(id, label)  # type: ignore[arg-type]
        assert history.get(id).feedback == label
    with pytest.raises(InputError, match="'perhaps'"):
        history.set_feedback(id, "perhaps")  # type: ignore[arg-type]


def test_what_is_not_there_is_named(history: History) -> None:
    for call in (history.get, history.delete, lambda id: history.set_feedback(id, "normal")):
        with pytest.raises(InputError, match="'; DROP"):
            call("'; DROP TABLE entries")
    assert history.list() == [] and history.count() == 0


def test_a_report_without_a_clip_and_an_extra_with_a_path_are_refused(history: History, folder: Path) -> None:
    with pytest.raises(InputError, match="lacks 'clip'"):
        history.add({"verdict": "normal"}, clip_name="a")
    with pytest.raises(InputError, match=r"\.\./x"):
        history.add(report(), clip_name="a", extras={"../x": b""})
    assert history.count() == 0 and files(folder) == []


def test_an_extra_that_cannot_be_copied_leaves_no_entry(history: History, folder: Path) -> None:
    with pytest.raises(ResourceError):
        history.add(report(), clip_name="a", extras={"a.jpg": b"x", "b.mp4": folder / "gone.mp4"})
    assert history.count() == 0 and files(folder) == []


def test_a_clip_outside_the_uploads_is_remembered_but_never_deleted(history: History, tmp_path: Path) -> None:
    outside = tmp_path / "barn.mp4"
    outside.write_bytes(CLIP)
    id = history.add(report(), clip_name="barn.mp4", stored_clip=outside)
    assert history.get(id).clip_path == outside
    history.delete(id)
    history.discard_upload(outside)
    history.delete_all()
    assert outside.read_bytes() == CLIP


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow no file names that are not text")
def test_a_clip_whose_name_is_not_text_is_kept(history: History, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"barn-\xff.mp4")
    odd.write_bytes(CLIP)
    past = history.get(history.add(report(path=str(odd)), clip_name=odd.name, stored_clip=odd))
    assert past.clip_path == odd and past.clip_name == "barn-?.mp4" and past.report["path"] == str(odd)


# ---- deletion ------------------------------------------------------------------------------------------------------


def test_a_clip_goes_with_the_last_entry_about_it(history: History, folder: Path, tmp_path: Path) -> None:
    proxies = tmp_path / "proxies"
    proxies.mkdir()
    kept = History(folder, derived=[proxies])
    clip = kept.store_upload(CLIP, "a.mp4")
    (proxies / f"{clip.parent.name}.mp4").write_bytes(b"proxy")
    first, second = (kept.add(report(), clip_name=n, stored_clip=clip, extras={"f.jpg": b"x"}) for n in "ab")
    kept.delete(first)
    assert kept.get(second).clip_path == clip and not (folder / "extras" / first).exists()
    assert list(proxies.iterdir())
    kept.delete(second)
    assert files(folder) == [] and not list(proxies.iterdir())


def test_deleted_words_are_gone_from_the_disk(history: History, folder: Path) -> None:
    id = history.add(report(reason="UNIQUEWORD" * 50), clip_name="a")
    assert any(b"UNIQUEWORD" in path.read_bytes() for path in folder.glob("history*"))
    history.delete(id)
    assert not any(b"UNIQUEWORD" in path.read_bytes() for path in folder.glob("history*"))


def test_delete_all_leaves_nothing_and_gives_the_space_back(history: History, folder: Path) -> None:
    empty = history.space_used()
    for i in range(5):
        content = os.urandom(50_000) + bytes([i])
        clip = history.store_upload(content, f"{i}.mp4")
        history.add(
            report(content, reason="x" * 50_000), clip_name="a", stored_clip=clip, extras={"f.jpg": b"x" * 1000}
        )
    orphan = history.store_upload(b"cancelled long ago", "o.mp4")
    os.utime(orphan.parent, (1, 1))
    assert history.space_used() > empty + 5 * 100_000
    assert history.delete_all() == 5
    assert files(folder) == [] and history.list() == [] and history.space_used() < 100_000


def test_a_discarded_upload_goes_unless_an_entry_needs_it(history: History, folder: Path) -> None:
    clip = history.store_upload(CLIP, "a.mp4")
    history.discard_upload(clip)
    assert not clip.exists()
    clip = history.store_upload(CLIP, "a.mp4")
    history.add(report(), clip_name="a", stored_clip=clip)
    history.discard_upload(clip)
    assert clip.exists()


def test_sweep_removes_what_dead_processes_left_and_nothing_else(history: History, folder: Path) -> None:
    used, fresh, old = (history.store_upload(name.encode(), f"{name}.mp4") for name in ("used", "fresh", "old"))
    history.add(report(b"used"), clip_name="used.mp4", stored_clip=used, extras={"f.jpg": b"x"})
    for path in (used.parent, old.parent):
        os.utime(path, (1, 1))
    half, coming = folder / "uploads/.incoming/dead.part", folder / "uploads/.incoming/live.part"
    for path in (half, coming, folder / "extras/orphaned0/f.jpg"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    os.utime(half, (1, 1))
    history.sweep()
    assert used.exists() and fresh.exists() and coming.exists()
    assert not old.exists() and not half.exists() and not (folder / "extras/orphaned0").exists()
    assert len(history.list()[0].extras) == 1


# ---- uploads -------------------------------------------------------------------------------------------------------


class Slow(io.RawIOBase):
    """A stream that cannot be rewound, in odd pieces."""

    def __init__(self, pieces: list[bytes], ending: BaseException | None = None) -> None:
        self.pieces, self.ending = list(pieces), ending

    def read(self, size: int = -1) -> bytes:
        if self.pieces:
            return self.pieces.pop(0)
        if self.ending:
            raise self.ending
        return b""


def test_uploads_are_stored_by_content_and_kept_once(history: History, folder: Path) -> None:
    first = history.store_upload(CLIP, "cow.mp4")
    assert first.read_bytes() == CLIP and first.name == "cow.mp4"
    assert first.parent.name == hashlib.sha256(CLIP).hexdigest()
    read_already = io.BytesIO(CLIP)
    read_already.read(100)
    assert history.store_upload(read_already, "again.mp4") == first
    assert history.store_upload(Slow([CLIP[:7], CLIP[7:]]), "cow.mp4") == first
    assert history.store_upload(CLIP, "cow.avi") != first
    assert len(files(folder)) == 2


def test_a_damaged_copy_is_replaced_by_a_new_upload(history: History) -> None:
    first = history.store_upload(CLIP, "cow.mp4")
    first.write_bytes(CLIP[:10])
    assert history.store_upload(CLIP, "cow.mp4").read_bytes() == CLIP


@pytest.mark.parametrize("ending", [ConnectionResetError("gone"), RuntimeError("cancelled"), KeyboardInterrupt()])
def test_an_upload_that_breaks_off_leaves_nothing(history: History, folder: Path, ending: BaseException) -> None:
    with pytest.raises((HerdLensError, RuntimeError, KeyboardInterrupt)):
        history.store_upload(Slow([b"x" * 1000] * 3, ending), "cow.mp4")
    assert files(folder) == []


def test_the_limit_is_exact_and_leaves_nothing(history: History, folder: Path) -> None:
    history.discard_upload(history.store_upload(b"x" * 1000, "a.mp4", limit_bytes=1000))
    with pytest.raises(InputError, match="larger than"):
        history.store_upload(b"x" * 1001, "a.mp4", limit_bytes=1000)
    assert files(folder) == []


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("cow.mp4", "cow.mp4"),
        ("../../etc/passwd", "passwd"),
        (r"C:\Users\farm\소 3.MP4", "소 3.MP4"),
        ("..", "clip"),
        ("", "clip"),
        (".mp4", "mp4"),
        ("-i.mp4", "i.mp4"),
        ("a\x00b\n\ud800.mp4", "a_b__.mp4"),
        ("evil\u202egpj.mp4", "evil_gpj.mp4"),
        ("con.mp4", "_con.mp4"),
        ("x" * 500 + ".mkv", "x" * 116 + ".mkv"),
        ("소" * 100 + ".mp4", "소" * 38 + ".mp4"),
    ],
)
def test_names_become_harmless(name: str, stored: str) -> None:
    assert safe_name(name) == stored


@given(st.text(max_size=300))
def test_no_name_leads_out_of_the_folder(name: str) -> None:
    safe = safe_name(name)
    assert Path("/base", safe).parent == Path("/base") and Path("/base", safe).name == safe
    assert 0 < len(safe.encode()) <= 121 and not safe.startswith((".", "-", " ")) and safe.isprintable()


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    """The file size limit of a process stands in for the disk: writing beyond it fails in the same way."""
    code = f"""
        import sys; sys.path.insert(0, {str(ROOT)!r})
        import resource, signal
        from pathlib import Path
        from services.errors import ResourceError
        from services.history import History
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))
        try:
            History(Path(sys.argv[1])).store_upload(b"x" * 5_000_000, "cow.mp4")
        except ResourceError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], capture_output=True, text=True)
    assert done.stdout == "The disk is too full to store “cow.mp4”; make room and upload it again.\n", done.stderr
    assert files(tmp_path) == []


def test_a_killed_upload_leaves_no_clip_and_does_not_hinder_the_next(tmp_path: Path) -> None:
    code = f"""
        import sys; sys.path.insert(0, {str(ROOT)!r})
        import time
        from pathlib import Path
        from services.history import History
        class Endless:
            def read(self, size):
                print("chunk", flush=True)
                time.sleep(0.01)
                return b"x" * size
        History(Path(sys.argv[1])).store_upload(Endless(), "cow.mp4")
    """
    worker = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], stdout=subprocess.PIPE)
    assert worker.stdout is not None
    for _ in range(5):
        worker.stdout.readline()
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    worker.stdout.close()
    left = files(tmp_path)
    assert len(left) == 1 and left[0].startswith("uploads/.incoming/") and left[0].endswith(".part")
    history = History(tmp_path)
    clip = history.store_upload(CLIP, "cow.mp4")
    os.utime(tmp_path / left[0], (1, 1))
    history.sweep()
    assert files(tmp_path) == [clip.relative_to(tmp_path).as_posix()]


# ---- several processes, damage -------------------------------------------------------------------------------------


def test_processes_add_and_delete_at_once(tmp_path: Path) -> None:
    """All start on a folder that is not there yet, and share one clip."""
    code = f"""
        import sys; sys.path.insert(0, {str(ROOT)!r})
        import json
        from pathlib import Path
        from services.history import History
        history = History(Path(sys.argv[1]))
        report = json.loads(sys.argv[2])
        sys.stdin.readline()
        for i in range(15):
            clip = history.store_upload({CLIP!r}, "cow.mp4")
            id = history.add(report, clip_name=str(i), stored_clip=clip, extras={{"f.jpg": b"x"}})
            history.set_feedback(id, "normal")
            if i % 5:
                history.delete(id)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "h"), json.dumps(report())]
    workers = [subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(3)]
    time.sleep(0.3)
    errors = [worker.communicate(b"go\n")[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0], errors
    history = History(tmp_path / "h")
    assert history.count() == 9 and all(past.feedback == "normal" for past in history.list())
    assert len(list((tmp_path / "h/extras").iterdir())) == 9
    history.delete_all()
    assert files(tmp_path / "h") == []


def test_a_reader_is_not_stopped_by_a_writer(history: History, folder: Path) -> None:
    history.add(report(), clip_name="a")
    other = sqlite3.connect(folder / "history.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    other.execute("UPDATE entries SET clip_name = 'b'")
    began = time.monotonic()
    assert history.list()[0].clip_name == "a" and time.monotonic() - began < 5
    other.execute("ROLLBACK")
    other.close()


def test_a_damaged_or_newer_database_is_one_sentence(history: History, folder: Path) -> None:
    history.add(report(), clip_name="a")
    with sqlite3.connect(folder / "history.sqlite3") as database:
        database.execute("PRAGMA user_version = 9")
    database.close()
    with pytest.raises(ResourceError, match=r"format 9.*update HerdLens"):
        history.list()
    for path in folder.glob("history.sqlite3*"):
        path.write_bytes(b"no database " * 100)
    with pytest.raises(ResourceError, match=r"move the file history\.sqlite3 away"):
        history.list()
