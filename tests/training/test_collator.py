"""What the model reads in training is what it reads in serving, and the loss stands on the answers alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText

from agent.prompts import mounting_question
from services.annotations import Turn
from services.dialog import Dialog, contract, messages, mounting_target
from services.schema import Frames, Hit, Sampling
from tests import stand_ins
from tests.training.tiny_bases import ARCHITECTURES
from tests.training.toy_clips import REASONS, picture, toy
from training.base import load_dialog
from training.collator import Batch, Collator
from training.data import Medium, Sample
from training.features import ClipFeatures, Tower, expansion_for
from training.questions import Questions
from training.settings import TrainConfig

SHOWN = (
    Hit("a", "normal", 0.4, "Two cows lie near the fence.", "shipped"),
    Hit("b", "mounting", 0.3, "A cow rises on another.", "shipped"),
)
MEDIA = ("pixel_values_videos", "video_grid_thw", "second_per_grid_ts")
WRITTEN = (
    Turn("human", "<video>\nHow many cows are there?"),
    Turn("gpt", "There are two."),
    Turn("human", "Is it day or night?"),
    Turn("gpt", "It is day."),
)


class Parts:
    """Processor, float32 model and what is built on them."""

    def __init__(self, base: Path) -> None:
        config = TrainConfig(model=str(base), output=base, frames=4, min_pixels=16384, max_pixels=16384)
        self.dialog: Dialog = load_dialog(config)
        self.model = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32).eval()
        self.tower = Tower(self.model, self.dialog, lambda path, kind: picture(0, "normal"), torch.float32)
        ids = self.model.config
        self.pad = self.dialog.tokenizer.pad_token_id
        self.collator = Collator(self.model, self.pad, ids.video_token_id, ids.image_token_id)
        self.questions = Questions(self.dialog, bare_share=0.5)

    def features(self, *samples: Sample) -> list[list[ClipFeatures]]:
        return [
            self.tower.encode([(medium.kind, self.tower.frames(medium)) for medium in sample.media])
            for sample in samples
        ]

    def batch(self, *samples: Sample) -> Batch:
        features = self.features(*samples)
        pairs = zip(samples, features, strict=True)
        return self.collator(
            [self.questions.branches(s, [m.expansion for m in f], [(), SHOWN]) for s, f in pairs], features
        )


@pytest.fixture(scope="module")
def each(tiny_bases: dict[str, Path]) -> dict[str, Parts]:
    return {architecture: Parts(folder) for architecture, folder in tiny_bases.items()}


@pytest.fixture
def parts(each: dict[str, Parts]) -> Parts:
    return each["qwen3_vl"]


def answers(parts: Parts, batch: Batch) -> list[str]:
    """The text on which the loss stands, branch by branch."""
    return [
        parts.dialog.tokenizer.decode(batch.target[batch.branch == number], skip_special_tokens=False)
        for number in range(len(batch.branches))
    ]


def test_the_loss_stands_on_exactly_the_answers_with_their_terminator(parts: Parts) -> None:
    batch = parts.batch(
        toy(1, "mounting"), Sample(digest="w", frames=lambda: picture(2, "normal"), conversations=WRITTEN)
    )
    reason = f"{REASONS['mounting']}\nStatus: Mounting<|im_end|>"
    bare = "Status: Mounting<|im_end|>"
    assert answers(parts, batch) == [bare, reason, bare, reason, "There are two.<|im_end|>", "It is day.<|im_end|>"]


def test_the_answers_of_a_thinking_base_close_its_thoughts() -> None:
    of = stand_ins.processor("qwen3-vl-4b", thinking=True)
    dialog = Dialog(of, contract(of, Sampling(), 131072, 786432))
    assert dialog.opens_thoughts
    sample = Sample(digest="w", frames=lambda: picture(2, "normal"), conversations=WRITTEN)
    clip = "<|vision_start|><|video_pad|><|vision_end|>"
    branches = [b for s in (toy(1, "mounting"), sample) for b in Questions(dialog, 0.5).branches(s, [clip], [()])]
    assert len(branches) == 4
    for branch in branches:
        prompt, answer = map(dialog.tokenizer.decode, (branch.ids[: branch.start], branch.ids[branch.start :]))
        assert prompt.endswith("<think>\n")
        assert answer.startswith("</think>\n\n") and answer.count("</think>") == 1


def test_further_turns_about_a_labelled_clip_are_learnt_as_written(parts: Parts) -> None:
    asked = Turn("human", "<video>\nWas there any mounting behavior?")
    turns = (asked, Turn("gpt", "Answer: YES\nReason: It rises."), *WRITTEN[2:])
    sample = Sample(
        digest="m", frames=lambda: picture(1, "mounting"), label="mounting", reason="It rises.", conversations=turns
    )
    batch = parts.batch(sample)
    found = answers(parts, batch)
    assert found[0] == "It is day.<|im_end|>" and found.count("It is day.<|im_end|>") == 1
    assert not any("Answer" in text for text in found) and len(found) == 5
    assert sum(branch.weight for _, branch in batch.branches) == pytest.approx(1.0)
    assert float(batch.weight[batch.branch == 0].sum()) == pytest.approx(0.5)


MIXED = (
    Turn("system", "You look at barns."),
    Turn("human", "<image>\n<image>What spoils these?"),
    Turn("gpt", "Blur, severity 2."),
    Turn("human", "And this clip <video> or this <image>?"),
    Turn("gpt", "Nothing."),
    Turn("human", "Sure?"),
    Turn("gpt", "Yes."),
)


def mixed(seed: int = 0) -> Sample:
    """Three images of different sizes and a clip in one conversation."""

    def still(number: int, height: int, width: int) -> Medium:
        rgb = np.random.default_rng(seed + number).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
        return Medium(digest=f"{seed}-{number}", kind="image", frames=lambda: Frames(rgb, np.zeros(1)))

    clip = Medium(digest=f"{seed}-clip", frames=lambda: picture(seed, "mounting"))
    media = (still(1, 128, 128), still(2, 96, 192), clip, still(3, 300, 200))
    return Sample(digest=f"mixed {seed}", media=media, conversations=MIXED)


def test_labels_of_a_mixed_batch_decode_to_exactly_the_answers(parts: Parts) -> None:
    batch = parts.batch(mixed(), toy(1, "mounting"), mixed(9))
    reason = f"{REASONS['mounting']}\nStatus: Mounting<|im_end|>"
    bare = "Status: Mounting<|im_end|>"
    turns = ["Blur, severity 2.<|im_end|>", "Nothing.<|im_end|>", "Yes.<|im_end|>"]
    assert answers(parts, batch) == [*turns, bare, reason, bare, reason, *turns]
    assert [item.kind for item in batch.features[:4]] == ["image", "image", "video", "image"]
    kinds = parts.model.config.image_token_id, parts.model.config.video_token_id
    for kind, token in zip(("image", "video"), kinds, strict=True):
        places = sum(len(item.pooled) for item in batch.features if item.kind == kind)
        assert int((batch.input_ids == token).sum()) == places


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_losses_of_a_mixed_conversation_are_those_of_the_stock_model_given_pixels(
    each: dict[str, Parts], architecture: str
) -> None:
    parts = each[architecture]
    sample = mixed()
    batch = parts.batch(toy(1, "normal"), sample)
    seen = [parts.tower.frames(medium) for medium in sample.media]
    turns = [
        {"role": "system", "content": [{"type": "text", "text": "You look at barns."}]},
        *messages("What spoils these?", videos=0, images=2),
        {"role": "assistant", "content": [{"type": "text", "text": "Blur, severity 2."}]},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "And this clip "},
                {"type": "video"},
                {"type": "text", "text": "or this "},
                {"type": "image"},
                {"type": "text", "text": "?"},
            ],
        },
    ]
    served = parts.dialog.prompt(turns, [seen[2]], [seen[n].rgb[0] for n in (0, 1, 3)])
    answer = parts.dialog.answer_ids("Nothing.")
    types = torch.cat([served["mm_token_type_ids"].long(), torch.zeros_like(answer)], dim=1)
    served |= {"input_ids": torch.cat([served["input_ids"], answer], dim=1), "mm_token_type_ids": types}
    served.pop("attention_mask")
    with torch.no_grad():
        logits = parts.model(**served).logits[0, -answer.shape[1] - 1 : -1]
        alone = torch.nn.functional.cross_entropy(logits, answer[0], reduction="none")
        packed = packed_losses(parts, batch)
    mine = next(n for n in range(len(batch.branches)) if answers(parts, batch)[n] == "Nothing.<|im_end|>")
    torch.testing.assert_close(packed[batch.branch == mine], alone, rtol=1e-4, atol=1e-4)


def test_each_loss_term_reads_the_place_before_its_token(parts: Parts) -> None:
    batch = parts.batch(toy(1, "mounting"))
    flat = batch.input_ids.flatten()
    for number, (_, branch) in enumerate(batch.branches):
        mine = batch.branch == number
        assert flat[batch.source[mine]].tolist() == branch.ids[branch.start - 1 : -1].tolist()


def test_weights_share_the_batch_equally_between_clips(parts: Parts) -> None:
    batch = parts.batch(
        toy(1, "mounting"), Sample(digest="w", frames=lambda: picture(2, "normal"), conversations=WRITTEN)
    )
    rows = torch.tensor([batch.branches[int(b)][0] for b in batch.branch])
    assert [float(batch.weight[rows == row].sum()) for row in (0, 1)] == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("shown", [(), SHOWN])
def test_tokens_types_and_positions_are_those_of_serving(parts: Parts, shown: tuple[Hit, ...]) -> None:
    sample = toy(3, "normal")
    question = mounting_question("contrastive" if shown else "off", shown)
    served = parts.dialog.prompt(messages(question), [picture(3, "normal")])
    answer = parts.dialog.answer_ids(mounting_target("normal", REASONS["normal"]))
    whole = torch.cat([served["input_ids"], answer], dim=1)
    types = torch.cat([served["mm_token_type_ids"].long(), torch.zeros_like(answer)], dim=1)
    positions = parts.model.model.get_rope_index(
        whole, mm_token_type_ids=types, video_grid_thw=served["video_grid_thw"]
    )[0]

    features = parts.features(sample)
    branches = parts.questions.branches(sample, [features[0][0].expansion], [shown])
    batch = parts.collator([branches], features)
    longest = max(range(len(branches)), key=lambda n: len(branches[n].ids))
    last = batch.source[batch.branch == longest][-1]
    path = torch.cat([batch.mask[0, 0, last].nonzero()[:, 0]])
    assert torch.equal(batch.input_ids[0, path], whole[0, :-1])
    assert torch.equal(batch.mm_token_type_ids[0, path], types[0, :-1])
    assert torch.equal(batch.position_ids[:, 0, path], positions[:, 0, :-1])


def test_padding_stands_on_the_right_and_sees_itself_alone(parts: Parts) -> None:
    short = Sample(digest="s", frames=lambda: picture(2, "normal"), conversations=WRITTEN[:2])
    batch = parts.batch(toy(1, "mounting"), short)
    size = int((batch.input_ids[1] != parts.pad).sum())
    assert (batch.input_ids[1, size:] == parts.pad).all()
    assert torch.equal(batch.mask[1, 0, size:], torch.eye(batch.mask.shape[-1], dtype=torch.bool)[size:])
    assert int(batch.source.max()) < batch.input_ids.shape[1] + size


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_losses_are_those_of_the_stock_model_asked_one_question_at_a_time(
    each: dict[str, Parts], architecture: str
) -> None:
    parts = each[architecture]
    sample = toy(4, "mounting")
    batch = parts.batch(sample)
    clip = picture(4, "mounting")
    for number, (_, branch) in enumerate(batch.branches):
        served = parts.dialog.prompt(messages(""), [clip])
        ids = torch.from_numpy(branch.ids)[None]
        with torch.no_grad():
            logits = parts.model(
                **{key: value for key, value in served.items() if key in MEDIA},
                input_ids=ids,
                mm_token_type_ids=torch.where(ids == parts.model.config.video_token_id, 2, 0),
            ).logits[0, branch.start - 1 : -1]
            alone = torch.nn.functional.cross_entropy(logits, ids[0, branch.start :], reduction="none")
            packed = packed_losses(parts, batch)[batch.branch == number]
        torch.testing.assert_close(packed, alone, rtol=1e-4, atol=1e-4)


def packed_losses(parts: Parts, batch: Batch) -> torch.Tensor:
    """The training step's own loss on a model that is neither quantised nor adapted."""
    from types import SimpleNamespace

    from training.steps import losses

    bias = SimpleNamespace(model=parts.model, device=torch.device("cpu"), dtype=torch.float32)
    return losses(bias, batch)  # type: ignore[arg-type]


def test_the_expansion_of_features_from_elsewhere_is_the_processors(parts: Parts) -> None:
    made = parts.features(toy(5, "normal"))[0][0]
    assert expansion_for(parts.dialog, picture(5, "normal").pts_s, made.grid) == made.expansion
