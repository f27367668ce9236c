"""Ways of embedding real clips with the demo models, put to disk clip by clip; the command from end to end."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from agent.__main__ import main
from evaluation.__main__ import app
from evaluation.clip_tables import PART
from evaluation.clip_vectors import IN_ORDER, MOVING, WHOLE, clip_vectors, cropped
from evaluation.data import read_data
from evaluation.marked_text import marks
from services.errors import ResourceError
from services.model_service import ModelService
from services.schema import Frames
from services.settings import ROOT, Settings, profile

SAMPLES = ROOT / "assets" / "demo" / "samples"


@pytest.fixture(scope="module")
def twelve(tmp_path_factory):
    """An annotation file of twelve clips: the six samples, each under two names."""
    folder = tmp_path_factory.mktemp("twelve")
    entries = []
    for entry in json.loads((SAMPLES / "annotations.json").read_text(encoding="utf-8")):
        name = entry["video"].removeprefix("./")
        for copy in (name, f"again_{name}"):
            shutil.copy(SAMPLES / name, folder / copy)
            entries.append({**entry, "video": f"./{copy}"})
    (folder / "annotations.json").write_text(json.dumps(entries), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def ran(twelve, tmp_path_factory):
    """(output folder, document, status) of the command."""
    out = tmp_path_factory.mktemp("out")
    document = out / "page.md"
    document.write_text("\n".join(("# Page", *marks(PART), "")), encoding="utf-8")
    call = ["retrieval", "clips", "--data", str(twelve), "--out", str(out), "--write", str(document)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HERDLENS_DATA", str(tmp_path_factory.mktemp("data")))
        status = main(lambda **options: app(call, **options))
    return out, document, status


def test_the_command_measures_every_way_and_writes_its_tables(ran):
    out, document, status = ran
    assert status == 0
    text = (out / "retrieval.md").read_text(encoding="utf-8")
    ways = (WHOLE, MOVING, f"{IN_ORDER} (as shipped)", "motion crop", "windows")
    for way in (*ways, "tower, mean", "VLM, last token", "text"):
        assert text.count(f"| {way} |") == 2
    assert "12 labelled clips" in text and "The shipped library of" in text
    # Each clip has a copy, which every way must find first.
    row = next(line for line in text.splitlines() if line.startswith(f"| {WHOLE} |"))
    assert row.split(" | ")[2].startswith("1.000")
    assert text.strip() in document.read_text(encoding="utf-8")
    assert document.read_text(encoding="utf-8").startswith("# Page\n")


def test_a_clip_is_looked_at_once_and_a_killed_run_goes_on(ran, twelve, tmp_path):
    out, _, _ = ran
    kept = sorted(out.glob("vectors_*/*.npz"))
    assert len(kept) == 6  # by content: the copies cost nothing
    before = {path: path.stat().st_mtime_ns for path in kept}
    kept[2].unlink()  # as if killed before this clip was done
    items, _ = read_data(twelve)
    service = ModelService(Settings(data=tmp_path), profile("demo"))
    try:
        found = clip_vectors(service, items, out)
    finally:
        service.close()
    assert {path for path in kept if path.stat().st_mtime_ns == before[path]} == set(kept) - {kept[2]}
    assert found.served == IN_ORDER and len(found.captions) == 12 and found.neighbours is not None
    for name, parts in found.parts.items():
        assert np.linalg.norm(parts, axis=-1) == pytest.approx(1, abs=1e-4), name
        assert (parts[::2] == parts[1::2]).all(), name  # a clip and its copy
    kept[0].write_bytes(b"cut off")
    service = ModelService(Settings(data=tmp_path), profile("demo"))
    try:
        with pytest.raises(ResourceError, match="damaged; remove it"):
            clip_vectors(service, items, out)
    finally:
        service.close()


def test_the_motion_crop_holds_what_moves():
    """A small square that walks on a still picture; the box around it is blown up to the picture's size."""
    rgb = np.full((8, 256, 384, 3), 40, np.uint8)
    for i in range(8):
        rgb[i, 100:130, 200 + 6 * i : 230 + 6 * i] = 250
    found = cropped(Frames(rgb, np.arange(8.0)))
    assert found.rgb.shape == rgb.shape
    assert (found.rgb > 200).mean() > 1.5 * (rgb > 200).mean()
    assert (found.rgb[0] > 200).any() and (found.rgb[-1] > 200).any()
