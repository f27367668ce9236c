"""The written architectures against what was published about the checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoProcessor

from services.architectures import architecture, architectures, config_of, described, on_meta, parameters
from services.errors import InputError
from services.settings import ROOT, profiles

NAMES = sorted(architectures())


@pytest.mark.parametrize("name", NAMES)
def test_every_value_has_a_source_and_doubts_are_named(name: str) -> None:
    found = architecture(name)
    assert found.sources and found.unverified
    assert all(source.strip() for source in found.sources)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("qwen2-vl-2b", 2_208_985_600),
        ("qwen2.5-vl-3b", 3_754_622_976),
        ("qwen3-vl-2b", 2_127_532_032),
        ("qwen3-vl-4b", 4_437_815_808),
    ],
)
def test_the_number_of_parameters_is_the_published_one(name: str, count: int) -> None:
    found = architecture(name)
    total = parameters(on_meta(config_of(found.config)))
    assert total == count
    if found.published_parameters:
        digits = len(found.published_parameters.partition(".")[2].rstrip("B"))
        assert f"{total / 1e9:.{digits}f}B" == found.published_parameters


@pytest.mark.parametrize("name", NAMES)
def test_config_and_tokenizer_agree_on_the_special_tokens(name: str) -> None:
    found = architecture(name)
    named = {"image": "<|image_pad|>", "video": "<|video_pad|>", "vision_start": "<|vision_start|>"}
    named |= {"vision_end": "<|vision_end|>"}
    for key, token in named.items():
        assert found.config[f"{key}_token_id"] == found.special_tokens[token]
    text = found.config.get("text_config", found.config)
    assert max(found.special_tokens.values()) < text["vocab_size"]
    assert text["eos_token_id"] == found.special_tokens["<|im_end|>"]


def test_every_model_of_a_profile_has_a_written_architecture() -> None:
    for chosen in profiles().values():
        if not chosen.base_model.startswith("assets/"):
            assert chosen.base_model in architecture(chosen.base_model).models


def test_a_folder_is_read_and_an_unknown_name_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(architecture("qwen3-vl-2b").config))
    assert described(str(tmp_path)).text_config.hidden_size == 2048
    with pytest.raises(InputError, match=r"known are.*qwen3-vl-2b"):
        described("Qwen/Qwen9-VL")


def test_the_demo_has_the_patches_and_the_classes_of_qwen3_vl() -> None:
    demo = AutoProcessor.from_pretrained(ROOT / "assets/demo/base", local_files_only=True)
    real = architecture("qwen3-vl-2b")
    assert type(demo).__name__ == real.processor
    for part in ("image_processor", "video_processor"):
        for key in ("patch_size", "temporal_patch_size", "merge_size", "image_mean", "image_std"):
            found = getattr(getattr(demo, part), key)
            assert (list(found) if isinstance(found, (list, tuple)) else found) == getattr(real, part)[key], (part, key)
