"""The check against shortcuts finds one where there is one, and says in a sentence what it cannot read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.demo import shortcut_check


def _features(seed: int, leak: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (rng.random(600) < 0.5).astype(np.float64)
    x = rng.standard_normal((600, 5))
    x[:, 3] += leak * labels
    return x, labels


def test_a_planted_shortcut_is_found_and_noise_is_none() -> None:
    shares = []
    for leak in (0.0, 2.0):
        x, labels = _features(3, leak)
        shares.append(np.mean(shortcut_check.guesses(x, labels) == (labels > 0.5)))
    assert abs(shares[0] - 0.5) < 0.06 and shares[1] > 0.8


@pytest.mark.parametrize(("clips", "status"), [("16", (0, 1)), ("0", (2,))])
def test_the_command_measures_real_plans(
    clips: str, status: tuple[int, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert shortcut_check.main(["--clips", clips, "--processes", "1"]) in status
    told = capsys.readouterr()
    assert "Traceback" not in told.err
    assert ("n=16" in told.out) if clips == "16" else ("at least 10" in told.err)


def test_a_file_that_is_none_of_ours_is_refused_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.json").write_text("no json", encoding="utf-8")
    for name, said in (("a.json", "is not JSON"), ("b.json", "does not exist")):
        assert shortcut_check.main(["--data", str(tmp_path / name)]) == 2
        assert said in capsys.readouterr().err
