"""What is prepared for the real checkpoints: qwen-vl-utils and transformers' own processors, called stock, are the
references. The tokenizer's words and the chat template stand in (``tests.stand_ins``)."""

from __future__ import annotations

import threading
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from qwen_vl_utils import vision_process
from transformers.video_utils import VideoMetadata

from agent.prompts import DESCRIPTION_LIMIT, mounting_question
from services.dialog import Dialog, contract, messages, rendered, resize, resized_size
from services.schema import Frames, Hit
from services.settings import Profile, profile
from services.video import VideoReader
from tests import stand_ins
from tests.media import make_clip

PAIRS = [
    ("cpu", "qwen3-vl-2b"),
    ("gpu-8gb", "qwen3-vl-2b"),
    ("gpu-6gb", "qwen2-vl-2b"),
    ("gpu", "qwen3-vl-4b"),
]
SIZES = [(360, 640), (1080, 1920), (480, 640), (256, 448), (1280, 720)]
MAX_MODEL_LEN = 12288
"""Of the source's server with retrieval (PROTOCOL: max_model_len)."""


@lru_cache(maxsize=8)
def prepared(name: str, architecture: str, thinking: bool = False) -> tuple[Profile, Dialog]:
    chosen = profile(name)
    of = stand_ins.processor(architecture, thinking=thinking)
    return chosen, Dialog(of, contract(of, chosen.sampling, chosen.min_pixels, chosen.max_pixels))


def noise(height: int, width: int, count: int = 16, seconds: float = 8.0) -> Frames:
    rgb = np.random.default_rng(height).integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    return Frames(rgb, np.linspace(0.0, seconds, count))


def read_by_pyav(path: str, **_: object) -> tuple[torch.Tensor, None, dict[str, float]]:
    """In place of torchvision's reader, which current torchvision no longer has."""
    with av.open(path) as source:
        stream = source.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in source.decode(stream)]
        return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2), None, {"video_fps": float(stream.average_rate)}


@pytest.mark.parametrize(("name", "architecture"), PAIRS)
@pytest.mark.parametrize("frames", [50, 131])
def test_a_clip_is_sampled_resized_and_laid_out_as_qwen_vl_utils_does(
    name: str, architecture: str, frames: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen, dialog = prepared(name, architecture)
    path = make_clip(tmp_path / "clip.mp4", frames, width=320, height=192, fps=25)
    reader = VideoReader()
    _, ours = reader.open(str(path), chosen.sampling, None, threading.Event())
    reader.close()

    monkeypatch.setattr(vision_process.io, "read_video", read_by_pyav, raising=False)
    monkeypatch.setattr(vision_process, "get_video_reader_backend", lambda: "torchvision")
    element = {"video": str(path), "nframes": chosen.frames}
    element |= {"min_pixels": chosen.min_pixels, "max_pixels": chosen.max_pixels}
    patch = dialog.processor.video_processor.patch_size
    video, metadata = vision_process.fetch_video(element, image_patch_size=patch, return_video_metadata=True)

    wanted = np.linspace(0, frames - 1, chosen.frames)
    indices = np.rint(ours.pts_s * 25).astype(int)
    # Theirs is the nearest picture, ours the one on display at that moment: never a whole picture apart.
    assert metadata["frames_indices"].tolist() == torch.linspace(0, frames - 1, chosen.frames).round().long().tolist()
    assert indices.tolist() == np.floor(wanted + 1e-9).astype(int).tolist()
    assert np.abs(indices - wanted).max() < 1.0

    decoded = read_by_pyav(str(path))[0].permute(0, 2, 3, 1).numpy()
    assert torch.equal(resize(decoded[metadata["frames_indices"]], dialog.rule).float(), video)
    same = [k for k in range(chosen.frames) if indices[k] == metadata["frames_indices"][k]]
    assert len(same) >= 2
    apart = (resize(ours.rgb, dialog.rule)[same].float() - video[same]).abs().max()
    assert apart <= 2, "two ways from YUV to RGB round differently, no more"
    grid = dialog.prompt(messages("Q"), [ours])["video_grid_thw"].tolist()
    assert grid == [[chosen.frames // 2, video.shape[2] // patch, video.shape[3] // patch]]


@pytest.mark.parametrize(("name", "architecture"), PAIRS)
@pytest.mark.parametrize("size", SIZES)
def test_sizes_are_those_of_qwen_vl_utils_and_stock_resizing_would_change_nothing(
    name: str, architecture: str, size: tuple[int, int]
) -> None:
    chosen, dialog = prepared(name, architecture)
    video = dialog.processor.video_processor
    reference = vision_process.smart_resize(
        *size, factor=video.patch_size * video.merge_size, min_pixels=chosen.min_pixels, max_pixels=chosen.max_pixels
    )
    height, width = resized_size(*size, dialog.rule)
    assert (height, width) == reference
    stock = video.get_num_of_video_patches(16, height, width, {"cap_pixels_per_frame": True})
    assert stock == 8 * (height // video.patch_size) * (width // video.patch_size)


@pytest.mark.parametrize(("name", "architecture"), PAIRS)
def test_patches_are_those_of_the_stock_processor_left_to_resize(name: str, architecture: str) -> None:
    """The checkpoint's own settings, resizing on: a clip within the budget passes through unchanged."""
    _, dialog = prepared(name, architecture)
    clip = noise(256, 448, count=6)
    ours = dialog.prompt(messages("Q"), [clip])
    stock = dialog.processor.video_processor(
        [resize(clip.rgb, dialog.rule)], do_sample_frames=False, cap_pixels_per_frame=True, return_tensors="pt"
    )
    assert torch.equal(ours["video_grid_thw"], stock["video_grid_thw"])
    assert torch.equal(ours["pixel_values_videos"], stock["pixel_values_videos"])


@pytest.mark.parametrize(("name", "architecture"), PAIRS)
def test_tokens_and_times_are_those_of_the_stock_processor(name: str, architecture: str) -> None:
    """Stock: real frame numbers at the real rate, the text as ``rendered`` hands it over."""
    _, dialog = prepared(name, architecture)
    indices = [0, 7, 15, 22, 30, 37, 45, 49]
    clip = Frames(noise(256, 448, count=len(indices)).rgb, np.array(indices) / 25)
    turns = messages(mounting_question())
    ours = dialog.prompt(turns, [clip])
    metadata = VideoMetadata(total_num_frames=50, fps=25.0, frames_indices=indices, duration=2.0)
    stock: dict[str, Any] = dialog.processor(
        text=[rendered(dialog.processor, turns)],
        videos=[resize(clip.rgb, dialog.rule)],
        video_metadata=[metadata],
        do_sample_frames=False,
        do_resize=False,
        cap_pixels_per_frame=True,
        return_tensors="pt",
    )
    assert torch.equal(ours["input_ids"], stock["input_ids"])
    assert torch.equal(ours["mm_token_type_ids"], stock["mm_token_type_ids"])
    (grid,) = ours["video_grid_thw"].tolist()
    pads = int((ours["input_ids"] == dialog.tokenizer.convert_tokens_to_ids("<|video_pad|>")).sum())
    assert pads == grid[0] * grid[1] * grid[2] // dialog.processor.video_processor.merge_size**2
    text = dialog.tokenizer.decode(ours["input_ids"][0])
    assert text.count(" seconds>") == (4 if architecture.startswith("qwen3") else 0)  # Qwen2-VL is told no times
    for first, second in zip(indices[::2], indices[1::2], strict=True):
        assert (f"<{(first + second) / 50:.1f} seconds>" in text) == architecture.startswith("qwen3")


def test_the_published_templates_pair_around_a_qwen3_video_is_taken_away() -> None:
    """As the processor of the checkpoints' release and vLLM do; stock transformers 5 leaves it."""
    _, dialog = prepared("cpu", "qwen3-vl-2b")
    clip, turns = noise(128, 160, count=4), messages("Q")
    stock_text = dialog.processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    metadata = VideoMetadata(total_num_frames=9, fps=1.0, frames_indices=[0, 3, 5, 8], duration=8.0)
    media = {"videos": [resize(clip.rgb, dialog.rule)], "video_metadata": [metadata], "do_sample_frames": False}
    stock = dialog.processor(text=[stock_text], **media, do_resize=False, cap_pixels_per_frame=True)
    ours = dialog.prompt(turns, [Frames(clip.rgb, np.array([0.0, 3.0, 5.0, 8.0]))])
    marks = [dialog.tokenizer.convert_tokens_to_ids(f"<|vision_{side}|>") for side in ("start", "end")]
    extra = Counter(stock["input_ids"][0]) - Counter(ours["input_ids"][0].tolist())
    assert extra == Counter({marks[0]: 1, marks[1]: 1})
    text = dialog.tokenizer.decode(ours["input_ids"][0])
    assert text.startswith("<|im_start|>user\n<1.5 seconds><|vision_start|><|video_pad|>")
    assert "<|vision_end|>Q<|im_end|>" in text and text.count("<|vision_start|>") == 2


def test_images_and_qwen2_keep_the_templates_pair() -> None:
    _, newer = prepared("cpu", "qwen3-vl-2b")
    assert rendered(newer.processor, messages("Q", videos=0, images=1)).count("<|vision_start|>") == 1
    _, older = prepared("gpu-6gb", "qwen2-vl-2b")
    text = rendered(older.processor, messages("Q"))
    assert "<|vision_start|><|video_pad|><|vision_end|>Q" in text
    assert text.startswith("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n")


def test_a_thinking_release_opens_the_thoughts_and_an_instruct_one_does_not() -> None:
    assert prepared("gpu", "qwen3-vl-4b", thinking=True)[1].opens_thoughts
    assert not prepared("cpu", "qwen3-vl-2b")[1].opens_thoughts


@pytest.mark.parametrize("name", ["gpu", "server"])
def test_the_longest_question_fits_the_servers_context(name: str) -> None:
    chosen, dialog = prepared(name, "qwen3-vl-4b", thinking=True)
    hits = [
        Hit(id=label, label=label, similarity=0.9, description="x" * DESCRIPTION_LIMIT, origin="user")
        for label in ("mounting", "normal")
    ]
    height, width = resized_size(1080, 1920, dialog.rule)
    video = chosen.frames // 2 * (height * width // dialog.rule.factor**2 + 14)  # 14: two marks and <123.4 seconds>
    words = len(mounting_question("contrastive", hits)) // 3 + 40  # three letters a token is poor for English
    assert video + words + chosen.max_tokens <= MAX_MODEL_LEN
