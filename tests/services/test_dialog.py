"""What the model reads: qwen-vl-utils and transformers' own processor are the references."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from qwen_vl_utils import vision_process
from transformers import AutoProcessor

from services.dialog import Dialog, contract, messages, mounting_target, resize, resized_size
from services.errors import MismatchError
from services.schema import Frames, Sampling
from services.settings import ROOT, profile

DEMO = profile("demo")


@pytest.fixture(scope="module")
def dialog() -> Dialog:
    processor = AutoProcessor.from_pretrained(ROOT / "assets/demo/base", local_files_only=True)
    return Dialog(processor, contract(processor, DEMO.sampling, DEMO.min_pixels, DEMO.max_pixels))


def frames(height: int, width: int, count: int = 16, seconds: float = 8.0) -> Frames:
    rgb = np.random.default_rng(height * width).integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    return Frames(rgb, np.linspace(0.0, seconds, count))


@pytest.mark.parametrize("size", [(256, 448), (540, 960), (360, 640), (480, 640), (640, 360), (96, 128)])
def test_pictures_are_resized_exactly_as_qwen_vl_utils_does(
    dialog: Dialog, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = frames(*size, count=4)
    decoded = torch.from_numpy(clip.rgb).permute(0, 3, 1, 2)
    backend = vision_process.get_video_reader_backend()
    monkeypatch.setitem(vision_process.VIDEO_READER_BACKENDS, backend, lambda element: (decoded, {}, 2.0))
    reference = vision_process.fetch_video(
        {"video": "decoded.mp4", "min_pixels": DEMO.min_pixels, "max_pixels": DEMO.max_pixels}, image_patch_size=16
    )
    assert torch.equal(resize(clip.rgb, dialog.rule).float(), reference)


@given(st.integers(32, 1200), st.integers(32, 1200))
@settings(max_examples=60, deadline=None)
def test_sizes_keep_to_the_factor_and_the_budget(height: int, width: int) -> None:
    processor = AutoProcessor.from_pretrained(ROOT / "assets/demo/base", local_files_only=True)
    rule = contract(processor, DEMO.sampling, DEMO.min_pixels, DEMO.max_pixels)
    h, w = resized_size(height, width, rule)
    assert h % rule.factor == 0 and w % rule.factor == 0
    if max(height, width) <= 3 * min(height, width):  # narrower pictures are kept readable by the reference's rule
        assert rule.min_pixels <= h * w <= rule.max_pixels


def test_every_group_of_frames_carries_its_presentation_time(dialog: Dialog) -> None:
    times = np.array([0.0, 0.04, 1.0, 1.96, 2.0, 7.3])
    clip = Frames(frames(256, 448, 6).rgb, times)
    text = dialog.tokenizer.decode(dialog.prompt(messages("Q"), [clip])["input_ids"][0])
    for group in ("<0.0 seconds>", "<1.5 seconds>", "<4.7 seconds>"):
        assert text.count(group) == 1
    assert text.count("<|vision_start|>") == text.count("<|vision_end|>") == 3


def test_frames_reach_the_model_unsampled_and_unresized(dialog: Dialog) -> None:
    clip = frames(256, 448)
    inputs = dialog.prompt(messages("Q"), [clip])
    assert inputs["video_grid_thw"].tolist() == [[8, 8, 14]]
    assert int((inputs["mm_token_type_ids"] == 2).sum()) == 8 * 8 * 14 // 4
    video = dialog.processor.video_processor
    reference = video(
        resize(clip.rgb, dialog.rule), do_resize=False, do_sample_frames=False, cap_pixels_per_frame=True,
        return_tensors="pt",
    )  # fmt: skip
    assert torch.equal(inputs["pixel_values_videos"], reference["pixel_values_videos"])


def test_an_image_within_the_budget_reaches_the_model_in_native_resolution(dialog: Dialog) -> None:
    image = frames(128, 160, 1).rgb[0]
    inputs = dialog.prompt(messages("Q", videos=1, images=1), [frames(256, 448)], [image])
    assert inputs["image_grid_thw"].tolist() == [[1, 8, 10]]
    assert int((inputs["mm_token_type_ids"] == 1).sum()) == 8 * 10 // 4
    assert int((inputs["mm_token_type_ids"] == 2).sum()) == 8 * 8 * 14 // 4
    reference = dialog.processor.image_processor(image, do_resize=False, return_tensors="pt")
    assert torch.equal(inputs["pixel_values"], reference["pixel_values"])


def test_an_image_beyond_the_budget_is_brought_down_to_it(dialog: Dialog) -> None:
    inputs = dialog.prompt(messages("Q", videos=0, images=1), images=[frames(480, 640, 1).rgb[0]])
    _, h, w = inputs["image_grid_thw"][0].tolist()
    assert DEMO.min_pixels <= h * w * 16 * 16 <= DEMO.max_pixels


def test_a_prompt_and_its_answer_join_to_what_the_template_writes(dialog: Dialog) -> None:
    answer = mounting_target("mounting", "One animal rises.")
    ids = torch.cat([dialog.prompt(messages("Q", videos=0), [])["input_ids"], dialog.answer_ids(answer)], dim=1)
    turns = [*messages("Q", videos=0), {"role": "assistant", "content": [{"type": "text", "text": answer}]}]
    whole = dialog.processor.apply_chat_template(turns, tokenize=False)
    assert dialog.tokenizer.decode(ids[0]) == whole.rstrip("\n")


def test_the_digest_changes_with_every_part_of_the_contract(dialog: Dialog) -> None:
    other = contract(dialog.processor, Sampling(frames=8), DEMO.min_pixels, DEMO.max_pixels)
    wider = contract(dialog.processor, DEMO.sampling, DEMO.min_pixels, DEMO.max_pixels * 2)
    assert len({dialog.rule.digest, other.digest, wider.digest}) == 3
    with pytest.raises(MismatchError, match=r"the adapter.*rebuild"):
        dialog.rule.require(other.digest, "the adapter x")
