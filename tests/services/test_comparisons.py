"""Comparisons on disk: what was written is read again, by another process too, and a damaged one costs no other."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from services.comparisons import FILE, Compared, Comparison, Comparisons, Judged, new_id
from services.errors import InputError, ResourceError
from services.settings import ROOT

SEEN = Compared(
    "/barn/\udcff.mp4",  # a file name that is no text
    "barn.mp4",
    "mounting",
    (1.5, 61.5),
    {"base": Judged("normal", 0.1, 0.2), "tuned": Judged("mounting", 0.9, 0.8), "alone": Judged(error="No.")},
    "ab" * 32,
    "abcdefgh",
)


def made(created_at: str = "2026-11-25T10:00:00.000+00:00") -> Comparison:
    items = (SEEN, Compared("/barn/b.mp4", "b.mp4"))
    return Comparison(new_id(), created_at, "demo", "mounting", "d" * 64, "contrastive", items)


@pytest.fixture
def store(tmp_path: Path) -> Comparisons:
    return Comparisons(tmp_path / "comparisons")


def test_what_is_saved_is_read_again(store: Comparisons) -> None:
    comparison = store.own(made())
    assert store.get(comparison.id) == comparison
    assert comparison.done == 1 and [item.done for item in comparison.items] == [True, False]
    later = replace(made("2026-11-26T10:00:00.000+00:00"), state="finished")
    store.save(later)
    assert [one.id for one in store.list()] == [later.id, comparison.id]


def test_the_owner_is_known_until_its_process_ends(store: Comparisons, tmp_path: Path) -> None:
    mine = store.own(made())
    assert store.is_own(mine) and store.has_owner(mine)
    code = (
        "from services.comparisons import Comparisons; from pathlib import Path;"
        f"s = Comparisons(Path({str(tmp_path / 'comparisons')!r})); s.own(s.get({mine.id!r})); print('x', flush=True);"
        "input()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None and other.stdout.readline() == "x\n"
    taken = store.get(mine.id)
    assert not store.is_own(taken) and store.has_owner(taken)
    other.communicate("\n")
    assert not store.has_owner(taken)


def test_a_damaged_comparison_costs_no_other(store: Comparisons, tmp_path: Path) -> None:
    good, bad = made(), made()
    store.save(good)
    store.save(bad)
    (tmp_path / "comparisons" / bad.id / FILE).write_text('{"id": 3')
    assert [one.id for one in store.list()] == [good.id]
    with pytest.raises(InputError, match="no comparison"):
        store.get(bad.id)


@pytest.mark.parametrize("id", ["../etc", "", "abc", "A" * 8])
def test_an_id_that_is_none_leads_nowhere(store: Comparisons, id: str) -> None:
    with pytest.raises(InputError, match="no comparison"):
        store.get(id)


def test_deleting_takes_the_pictures_along(store: Comparisons, tmp_path: Path) -> None:
    comparison = made()
    store.save(comparison)
    store.keep_picture(comparison.id, 0, b"jpeg")
    assert store.picture(comparison.id, 0) == b"jpeg" and store.picture(comparison.id, 1) is None
    store.delete(comparison.id)
    assert list((tmp_path / "comparisons").iterdir()) == [] and store.list() == []


def test_what_cannot_be_written_is_one_sentence_and_leaves_the_last_good_one(
    store: Comparisons, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comparison = made()
    store.save(comparison)

    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ResourceError, match="No space left"):
        store.save(replace(comparison, state="finished"))
    assert store.get(comparison.id).state == "running"
    assert [path.name for path in (tmp_path / "comparisons" / comparison.id).iterdir()] == [FILE]
