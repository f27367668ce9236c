"""The calibration file belongs to exactly the models it was fitted for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.calibration import read_calibration
from services.errors import MismatchError, ResourceError
from services.schema import Calibration

NUMBERS = {"bias": 0.1, "weight_vlm": 0.9, "weight_vote": 2.0, "normal_below": 0.2, "mounting_above": 0.7}


def write(path: Path, **table: object) -> Path:
    path.write_text(json.dumps({"base": "b1", "preprocessing": "p1", "rules": {"off": {"tuned": NUMBERS}}} | table))
    return path


def test_rules_are_read_per_mode_and_variant(tmp_path: Path) -> None:
    found = read_calibration(write(tmp_path / "calibration.json"))
    assert found.rule("off", "tuned") == Calibration(**NUMBERS)
    assert found.rule("nearest", "base") is None


def test_other_weights_are_refused_and_both_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "calibration.json")
    found = read_calibration(path)
    found.require(path, base="b1", preprocessing="p1")
    with pytest.raises(MismatchError, match=r"b1.*b2"):
        found.require(path, base="b2")
    with pytest.raises(MismatchError, match="embedder"):
        found.require(path, embedder="e1")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"rules": {"off": {"tuned": {"slope": 1}}}}'])
def test_a_malformed_file_is_one_sentence(text: str, tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(text)
    with pytest.raises(ResourceError, match=r"calibration\.json"):
        read_calibration(path)
