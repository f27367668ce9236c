"""What the vision tower is trained on: pictures and dense targets are turned and enlarged together."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from training.demo import tower
from training.demo.vision import CLASSES, SCALE, mirrored, zoomed

NAMES = (*SCALE, *CLASSES)


class Always:
    """A generator that enlarges every group by the same part, at the same place."""

    def __init__(self, part: float, place: float) -> None:
        self.part, self.place = part, place

    def random(self, size: int) -> np.ndarray:
        return np.zeros(size)

    def uniform(self, low: float, high: float, size: int | tuple[int, int]) -> np.ndarray:
        return np.full(size, self.part if isinstance(size, int) else self.place)


@pytest.fixture
def drawn() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Two groups; one bright 32 px square at the top left, with an animal's centre in its last patch."""
    pictures = np.zeros((4, tower.HEIGHT, tower.WIDTH, 3), np.uint8)
    pictures[:, :32, :32] = 200
    plane = np.zeros((2, 1, *tower.GRID), np.float32)
    plane[:, :, :2, :2] = 1.0
    spot = np.zeros_like(plane)
    spot[:, :, 1, 1] = 1.0
    ordered = {name: tower.in_patch_order(spot if name == "centre" else plane) for name in NAMES}
    wide = ("facing", "motion")
    targets = {
        name: torch.from_numpy(np.repeat(value, 4 if name in wide else 2, 1).astype(np.float32))
        for name, value in ordered.items()
    }
    return torch.from_numpy(tower.patches(pictures)), targets


def test_planes_are_the_pictures() -> None:
    pictures = np.random.default_rng(0).integers(0, 255, (6, tower.HEIGHT, tower.WIDTH, 3), np.uint8)
    stored = torch.from_numpy(tower.patches(pictures))
    planes = tower.planes(stored)
    both = planes.unflatten(1, (2, 3)).flatten(0, 1).permute(0, 2, 3, 1)
    assert (both.numpy() == pictures).all()
    assert (tower.from_planes(planes) == stored).all()


def test_enlarging_the_corner_enlarges_what_lies_in_it(drawn: tuple[torch.Tensor, dict[str, torch.Tensor]]) -> None:
    x, targets = drawn
    y, found, chosen = zoomed(x.clone(), {k: v.clone() for k, v in targets.items()}, Always(0.5, -1.0))  # type: ignore[arg-type]
    assert chosen.all()
    shown = tower.pictures(y.numpy())
    assert (shown[:, :60, :60] == 200).all() and not shown[:, 68:].any() and not shown[:, :, 68:].any()
    cow = found["cow"][0, 0, tower.PLACE].view(tower.GRID)
    assert (cow[:3, :3] == 1).all() and not cow[5:].any()
    assert float(found["centre"][0, 0].sum()) == pytest.approx(1.0, abs=0.05), "one animal is one animal"
    assert float(found["motion"].max()) == pytest.approx(2.0) and float(found["distance"].max()) == pytest.approx(0.5)
    assert float(found["height"].max()) == 1.0


def test_an_animal_that_is_cut_off_is_not_counted(drawn: tuple[torch.Tensor, dict[str, torch.Tensor]]) -> None:
    x, targets = drawn
    y, found, _ = zoomed(x, targets, Always(0.5, 1.0))  # type: ignore[arg-type]
    assert not y.any() and not any(float(value.abs().max()) for value in found.values())


def test_what_points_to_the_right_points_to_the_left_in_a_mirror(
    drawn: tuple[torch.Tensor, dict[str, torch.Tensor]],
) -> None:
    x, targets = drawn
    y, found = mirrored(x, targets, torch.tensor([True, False]))
    shown = tower.pictures(y.numpy())
    assert (shown[:2, :32, -32:] == 200).all() and (shown[2:, :32, :32] == 200).all()
    right = found["facing"][0][:, tower.PLACE].unflatten(1, tower.GRID)[:, 0, -1]
    assert right.tolist() == [-1.0, 1.0, -1.0, 1.0]
