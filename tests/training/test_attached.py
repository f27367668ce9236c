"""LoRA on the real architectures, without weights."""

from __future__ import annotations

import pytest

from services.architectures import architectures
from training.architectures import CHOICES, attach_report

# rank × (inputs + outputs) of the seven projections, summed over the layers; from the published sizes by hand.
LANGUAGE = {
    "qwen2-vl-2b": 16 * 28 * (2 * (1536 + 1536) + 2 * (1536 + 256) + 3 * (1536 + 8960)),
    "qwen3-vl-2b": 16 * 28 * (2 * (2048 + 2048) + 2 * (2048 + 1024) + 3 * (2048 + 6144)),
    "qwen3-vl-4b": 16 * 36 * (2 * (2560 + 4096) + 2 * (2560 + 1024) + 3 * (2560 + 9728)),
}


@pytest.mark.parametrize("name", sorted(LANGUAGE))
def test_language_reaches_the_seven_projections_of_every_layer_and_nothing_else(name: str) -> None:
    found = attach_report(name)
    assert found.trained == LANGUAGE[name]
    assert len(found.modules) == 7 * found.layers
    assert all(".language_model.layers." in path for path in found.modules)


@pytest.mark.parametrize(
    ("name", "kinds", "blocks"),
    [
        ("qwen2-vl-2b", {"qkv", "proj", "fc1", "fc2"}, 32),
        ("qwen2.5-vl-3b", {"qkv", "proj", "gate_proj", "up_proj", "down_proj"}, 32),
        ("qwen3-vl-2b", {"qkv", "proj", "linear_fc1", "linear_fc2"}, 24),
    ],
)
def test_vision_reaches_the_tower_by_path_whatever_its_parts_are_called(
    name: str, kinds: set[str], blocks: int
) -> None:
    found = attach_report(name, "vision")
    assert set(found.kinds) == kinds and found.layers == blocks
    assert all(".visual.blocks." in path for path in found.modules)


@pytest.mark.parametrize("name", sorted(architectures()))
def test_all_is_both_and_the_rank_scales_it(name: str) -> None:
    language, vision, everything = (attach_report(name, targets) for targets in CHOICES)
    assert set(everything.modules) == set(language.modules) | set(vision.modules)
    assert everything.trained == language.trained + vision.trained
    assert attach_report(name, "language", rank=8).trained * 2 == language.trained
