"""The builder's sets: what is rendered, kept, and rendered anew."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from training.demo import harvest


def test_a_set_of_another_definition_is_rendered_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two = dataclasses.replace(harvest.SETS["steps"], clips=2)
    monkeypatch.setitem(harvest.SETS, "steps", two)
    root = harvest.folder("steps", tmp_path)
    (root / "notes").mkdir(parents=True)
    (root / "notes" / "000000.json").write_text(json.dumps([{"seed": 1}]), encoding="utf-8")
    shape = (1, harvest.GROUPS, harvest.tower.PATCHES, harvest.tower.PATCH_VALUES)
    np.lib.format.open_memmap(root / "patches.npy", "w+", np.uint8, shape).flush()

    harvest.harvest(["steps"], tmp_path, workers=1)
    stored = harvest.opened("steps", tmp_path)

    assert [note["seed"] for note in stored.notes] == [two.seed, two.seed + 1]
    assert stored.patches.shape == (2, *shape[1:])
    assert all(stored.patches[row].std() > 10 for row in range(2)), "an empty picture was stored"

    before = (root / "notes" / "000000.json").stat().st_mtime_ns
    harvest.harvest(["steps"], tmp_path, workers=1)
    assert (root / "notes" / "000000.json").stat().st_mtime_ns == before, "a finished shard is kept"

    monkeypatch.setitem(harvest.SETS, "steps", dataclasses.replace(two, seed=two.seed + 7, kind="feeding"))
    harvest.harvest(["steps"], tmp_path, workers=1)
    notes = harvest.opened("steps", tmp_path).notes
    assert [(note["seed"], note["facts"]["kind"]) for note in notes] == [
        (two.seed + 7, "feeding"),
        (two.seed + 8, "feeding"),
    ]

    defined = root / harvest.DEFINED
    known = json.loads(defined.read_text(encoding="utf-8"))
    defined.write_text(json.dumps({**known, "first_clip": "of another renderer"}), encoding="utf-8")
    before = (root / "notes" / "000000.json").stat().st_mtime_ns
    harvest.harvest(["steps"], tmp_path, workers=1)
    assert (root / "notes" / "000000.json").stat().st_mtime_ns > before
    assert json.loads(defined.read_text(encoding="utf-8")) == known
