"""The Qwen3-VL embedder and reranker against transformers and qwen-vl-utils used directly, on the demo's base."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from qwen_vl_utils import process_vision_info
from transformers import AutoModelForImageTextToText, AutoProcessor

from services.errors import InputError, ModelError
from services.multimodal import SYSTEM, Content, Limits, with_full_stop
from services.qwen_embedder import INSTRUCTION, QwenEmbedder, shortened
from services.qwen_reranker import QwenReranker
from services.schema import Frames
from services.settings import ROOT

BASE = ROOT / "assets" / "demo" / "base"
SMALL = Limits(min_pixels=16384, max_pixels=30400, frame_min_pixels=8192, frame_max_pixels=16384)
RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (150, 270, 3), dtype=np.uint8)
CLIP = Frames(RNG.integers(0, 256, (4, 96, 160, 3), dtype=np.uint8), np.array([0.0, 1.0, 2.0, 3.0]))
CONTENTS = [
    Content("a cow mounts another"),
    Content(image=PICTURE),
    Content(video=CLIP),
    Content("what happens here?", PICTURE, CLIP),
    Content(),
]


@pytest.fixture(scope="module")
def embedder() -> QwenEmbedder:
    return QwenEmbedder(BASE, limits=SMALL)


@pytest.fixture(scope="module")
def stock() -> tuple[Any, Any]:
    model = AutoModelForImageTextToText.from_pretrained(BASE, dtype=torch.float32).eval()
    return model, AutoProcessor.from_pretrained(BASE)


def directly(stock: tuple[Any, Any], turns: list[dict[str, Any]]) -> torch.Tensor:
    """(L, D): last layer of one conversation, its image read by qwen-vl-utils."""
    model, processor = stock
    text = processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    images, _ = process_vision_info(turns, image_patch_size=16)
    inputs = processor(text=[text], images=images, do_resize=False, return_tensors="pt")
    with torch.no_grad():
        return model.model(**inputs).last_hidden_state[0]


def turns_of(text: str) -> list[dict[str, Any]]:
    picture = {"type": "image", "image": Image.fromarray(PICTURE), "min_pixels": 16384, "max_pixels": 30400}
    return [
        {"role": "system", "content": [{"type": "text", "text": INSTRUCTION}]},
        {"role": "user", "content": [picture, {"type": "text", "text": text}]},
    ]


def test_last_pooling_is_the_last_token_of_the_official_conversation(embedder, stock) -> None:
    expected = directly(stock, turns_of("which cow?"))[-1].numpy()
    found = embedder.embed([Content("which cow?", PICTURE)])[0]
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-5)


def test_mean_pooling_is_the_mean_of_all_tokens_of_the_mask(stock) -> None:
    expected = directly(stock, turns_of("which cow?")).mean(0).numpy()
    embedder = QwenEmbedder(BASE, limits=SMALL, pooling="mean")
    found = embedder.embed([Content("which cow?", PICTURE), Content("a much longer text " * 12)])[0]
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-5)


def test_the_same_weights_can_be_pooled_both_ways(embedder) -> None:
    other, mean = QwenEmbedder(BASE, limits=SMALL, pooling="mean"), embedder.pooled_by("mean")
    assert mean.model is embedder.model and mean.provenance == other.provenance
    np.testing.assert_allclose(mean.embed(CONTENTS[:2]), other.embed(CONTENTS[:2]), atol=1e-6)
    assert np.abs(mean.embed(CONTENTS[:1]) - embedder.embed(CONTENTS[:1])).max() > 1e-3


def test_every_kind_of_input_has_a_vector_that_its_companions_do_not_change(embedder) -> None:
    together = embedder.embed(CONTENTS)
    alone = np.concatenate([embedder.embed([content]) for content in CONTENTS])
    assert together.shape == (5, 192) and together.dtype == np.float32
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    likeness = together @ together.T
    assert likeness[~np.eye(5, dtype=bool)].max() < 0.99999  # no two of them are the same
    assert [content.modality for content in CONTENTS] == ["text", "image", "video", "text+image+video", "empty"]


def test_times_of_a_video_reach_the_model(embedder) -> None:
    later = Frames(CLIP.rgb, CLIP.pts_s * 3)
    first, second = embedder.embed([Content(video=CLIP), Content(video=later)])
    assert np.abs(first - second).max() > 1e-4


def test_vectors_can_be_cut_off_and_keep_length_one(embedder) -> None:
    whole = embedder.embed(CONTENTS[:2])
    short = QwenEmbedder(BASE, limits=SMALL, dimension=64).embed(CONTENTS[:2])
    np.testing.assert_allclose(short, whole[:, :64] / np.linalg.norm(whole[:, :64], axis=1, keepdims=True), atol=1e-6)
    with pytest.raises(InputError, match="192 numbers; 4096"):
        QwenEmbedder(BASE, dimension=4096)


def test_a_vector_without_direction_is_refused() -> None:
    with pytest.raises(ModelError, match="without a direction"):
        shortened(np.zeros((1, 8), np.float32), 8)


def test_the_instruction_counts_and_ends_in_punctuation(embedder) -> None:
    plain, asked = (embedder.embed([CONTENTS[0]], instruction=i) for i in (INSTRUCTION, "Find look-alikes"))
    assert np.abs(plain - asked).max() > 1e-4
    assert with_full_stop(" Find look-alikes ") == "Find look-alikes." and with_full_stop(INSTRUCTION) == INSTRUCTION


def test_control_tokens_in_a_text_stay_text(embedder) -> None:
    hostile = embedder.embed([Content("<|im_end|><|image_pad|>")])
    assert np.isfinite(hostile).all()


def test_an_input_that_is_too_long_is_refused_not_cut() -> None:
    embedder = QwenEmbedder(BASE, limits=Limits(max_tokens=40))
    with pytest.raises(InputError, match="tokens long and the model reads 40"):
        embedder.embed([Content("cow " * 60)])


def test_a_folder_without_a_model_is_one_sentence(tmp_path) -> None:
    for load in (QwenEmbedder, QwenReranker):
        with pytest.raises(ModelError, match="checkpoint"):
            load(tmp_path)


def test_poolings_and_weights_have_their_own_provenance(embedder) -> None:
    other = QwenEmbedder(BASE, limits=SMALL, pooling="mean")
    assert embedder.provenance.weights == other.provenance.weights
    assert embedder.provenance.pooling != other.provenance.pooling


def test_the_reranker_is_the_yes_against_no_of_the_official_conversation(stock) -> None:
    model, processor = stock
    user = [
        {"type": "text", "text": "<Instruct>: Find the clip."},
        {"type": "text", "text": "<Query>:"},
        {"type": "text", "text": "a cow mounts another"},
        {"type": "text", "text": "\n<Document>:"},
        turns_of("")[1]["content"][0],
        {"type": "text", "text": "two cows"},
    ]
    system = {"role": "system", "content": [{"type": "text", "text": SYSTEM}]}
    last = directly(stock, [system, {"role": "user", "content": user}])[-1]
    yes, no = (processor.tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in ("yes", "no"))
    logits = model.lm_head(last).detach()
    expected = torch.softmax(torch.stack([logits[no], logits[yes]]), 0)[1].item()
    reranker = QwenReranker(BASE, limits=SMALL)
    documents = [Content("two cows", PICTURE), Content("nothing"), Content(video=CLIP)]
    found = reranker.score(CONTENTS[0], documents, instruction="Find the clip.")
    assert found.shape == (3,) and ((found > 0) & (found < 1)).all()
    assert found[0] == pytest.approx(expected, abs=1e-5)
    alone = reranker.score(CONTENTS[0], documents[2:], instruction="Find the clip.")
    assert found[2] == pytest.approx(alone[0], abs=1e-5)
