"""The builder's fast paths compute what serving computes, and the base is never taught the mounting question."""

from __future__ import annotations

import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, Qwen3VLForConditionalGeneration

from services.dialog import Dialog, contract, messages, resize
from services.schema import Frames, Sampling
from training.demo import corpus, resuming, tower
from training.demo.annotate import reason
from training.demo.facts import facts
from training.demo.language import Layout, Packed, Settings, group_times, loss_of, mirrored, packed, run
from training.demo.model import processor, random_model, save
from training.demo.plan import plan_clip
from training.demo.resuming import Resume
from training.demo.together import Group
from training.demo.wording import Exercise

TIMES = np.linspace(0.0, 7.9, 16)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    of = processor(corpus.tokenizer_texts())
    save(random_model(of), of, folder)
    return folder


@pytest.fixture(scope="module")
def model(base: Path) -> Qwen3VLForConditionalGeneration:
    return Qwen3VLForConditionalGeneration.from_pretrained(base, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def dialog(base: Path) -> Dialog:
    of = AutoProcessor.from_pretrained(base)
    return Dialog(of, contract(of, Sampling(), 16384, 30400))


@pytest.fixture(scope="module")
def frames() -> Frames:
    return Frames(np.random.default_rng(0).integers(0, 255, (16, 256, 448, 3), np.uint8), TIMES)


def _seen(model: Qwen3VLForConditionalGeneration, dialog: Dialog, frames: Frames) -> np.ndarray:
    stored = tower.patches(resize(frames.rgb, dialog.rule).permute(0, 2, 3, 1).numpy())
    with torch.inference_mode():
        seen = tower.FastTower(model.model.visual)(tower.normalised(torch.from_numpy(stored)))
    return torch.stack([seen.pooled, *seen.deep], 1)[None].numpy()


def test_patches_keep_every_pixel() -> None:
    pictures = np.random.default_rng(1).integers(0, 255, (4, 128, 224, 3), np.uint8)
    assert (tower.pictures(tower.patches(pictures)) == pictures).all()


def test_mirrored_patches_are_those_of_the_mirrored_pictures() -> None:
    shown = np.random.default_rng(2).integers(0, 255, (32, 128, 224, 3), np.uint8)
    stored = torch.from_numpy(tower.patches(shown).reshape(2, 8, 112, -1))
    turned = tower.mirrored(stored)
    assert turned.shape == stored.shape
    assert (tower.pictures(turned.numpy().reshape(16, 112, -1)) == shown[:, :, ::-1]).all()


def test_a_mirrored_clip_has_its_sides_exchanged_and_nothing_else() -> None:
    """Asked the same, the sides are the others; asked for the other side, the answer is the same."""
    exchanged = {"On the left.": "On the right.", "On the right.": "On the left."}
    turned = set()
    for seed in range(12):
        plan = plan_clip(seed)
        note = {"facts": facts(plan, np.linspace(0.2, plan.duration_s - 0.3, 8))}
        for draw in range(40):
            asked = corpus.group_exercise(note["facts"], 3, random.Random(draw))
            again = corpus.group_exercise(mirrored(note)["facts"], 3, random.Random(draw))
            assert again.question == asked.question
            if "farthest" not in asked.question:
                assert again.answer == exchanged.get(asked.answer, asked.answer)
                turned.add(asked.answer)
        far = [
            {
                (side, exercise.answer)
                for draw in range(200)
                for exercise in [corpus.group_exercise(one["facts"], 3, random.Random(draw))]
                for side in re.findall(r"What coat has the cow farthest to the (left|right)", exercise.question)
            }
            for one in (note, mirrored(note))
        ]
        assert far[1] == {({"left": "right", "right": "left"}[side], answer) for side, answer in far[0]}
    assert turned >= set(exchanged)


def test_fast_tower_equals_the_stock_tower(
    model: Qwen3VLForConditionalGeneration, dialog: Dialog, frames: Frames
) -> None:
    inputs = dialog.prompt(messages("x"), [frames])
    with torch.inference_mode():
        stock = model.model.visual(inputs["pixel_values_videos"], grid_thw=inputs["video_grid_thw"])
    seen = torch.from_numpy(_seen(model, dialog, frames))[0]
    torch.testing.assert_close(seen[:, 0].flatten(0, 1), stock.pooler_output, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(seen[:, 2].flatten(0, 1), stock.deepstack_features[1], atol=1e-5, rtol=1e-4)


def test_packed_questions_read_as_if_asked_alone(
    model: Qwen3VLForConditionalGeneration, dialog: Dialog, frames: Frames
) -> None:
    """Two questions behind one video give the losses that the stock prompts give one by one."""
    asked = [Exercise("How many cows are in this video?", "Two cows."), Exercise("Describe it.", "Yes.")]
    times = group_times({"times_s": TIMES.tolist()})
    with torch.inference_mode():
        together = loss_of(
            model, packed(Layout(dialog.processor, model), [times], [asked], _seen(model, dialog, frames))
        )
        summed, count = 0.0, 0
        for exercise in asked:
            inputs = dialog.prompt(messages(exercise.question), [frames])
            answer = dialog.answer_ids(exercise.answer)
            kinds = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(answer)], 1)
            logits = model(
                input_ids=torch.cat([inputs["input_ids"], answer], 1),
                pixel_values_videos=inputs["pixel_values_videos"],
                video_grid_thw=inputs["video_grid_thw"],
                mm_token_type_ids=kinds,
            ).logits[0, inputs["input_ids"].shape[1] - 1 : -1]
            summed += float(torch.nn.functional.cross_entropy(logits, answer[0], reduction="sum"))
            count += answer.shape[1]
    assert float(together) == pytest.approx(summed / count, rel=1e-3)


def test_no_general_answer_speaks_of_mounting() -> None:
    chance = random.Random(0)
    plans = [plan_clip(seed) for seed in range(24)]
    known = [facts(plan, np.linspace(0.2, plan.duration_s - 0.3, 8)) for plan in plans]
    others = [corpus.Other(row, reason(plan, row["animals"])) for plan, row in zip(plans, known, strict=True)]
    for row in known:
        for _ in range(12):
            for exercise in (
                corpus.clip_exercise(row, [float(i) for i in range(8)], chance),
                corpus.group_exercise(row, 3, chance),
                corpus.status_exercise(row, others, chance),
            ):
                assert "mount" not in (exercise.question + exercise.answer).lower()


def test_the_more_similar_case_stands_first_and_is_more_often_right() -> None:
    chance = random.Random(1)
    plans = [plan_clip(seed) for seed in range(60)]
    known = [facts(plan, np.linspace(0.2, plan.duration_s - 0.3, 8)) for plan in plans]
    right: dict[bool, list[bool]] = {True: [], False: []}
    listed = [label.lower() for label in corpus.LABELS]
    for number, row in enumerate(known):
        others = [corpus.Other(other, "Nothing.") for other in chance.sample(known[:number] + known[number + 1 :], 8)]
        for _ in range(30):
            exercise = corpus.status_exercise(row, others, chance)
            named = re.findall(r"A (\w+) case:", exercise.question)
            if named:
                said = exercise.answer.rpartition("Status: ")[2].lower()
                assert said in named and len(set(named)) == 2
                right[named[0] in listed].append(said == named[0])
    for shown in right.values():
        assert len(shown) > 200 and 0.7 < np.mean(shown) < 0.95


def test_tasks_that_only_cases_decide_are_many() -> None:
    """Few fixed ones, or few words to answer with, are learnt by heart, and other cases are not heeded then."""
    chance = random.Random(3)
    row = facts(plan_clip(0), np.arange(8.0))
    others = [corpus.Other(facts(plan_clip(seed), np.arange(8.0)), "Nothing.") for seed in range(4)]
    asked = [corpus.status_exercise(row, others, chance).question for _ in range(1000)]
    tasks = {question.split("\n")[0] for question in asked}
    assert len(tasks) > 200
    options = {word for question in asked for word in re.findall(r"Status: (\w+)", question)}
    assert len(options) > 50 and not options & set(corpus.VERDICTS)
    assert not any("mount" in task.lower() or "normal" in task.lower() for task in tasks)


def test_which_case_is_first_is_drawn_evenly() -> None:
    chance = random.Random(2)
    others = [corpus.Other(facts(plan_clip(seed), np.arange(8.0)), "Nothing.") for seed in range(4)]
    drawn = [corpus.order_exercise(others, chance) for _ in range(800)]
    for exercise in drawn:
        first = re.findall(r"A (\w+) case:", exercise.question)[0]
        assert exercise.answer == f"Status: {first.capitalize()}"
    verdicts = [exercise.answer for exercise in drawn if exercise.answer[8:] in corpus.VERDICTS]
    assert len(verdicts) > 50 and 0.3 < np.mean([answer.endswith("Mounting") for answer in verdicts]) < 0.7


def test_tokens_of_the_verdict_and_of_what_it_is_practised_with_are_single(dialog: Dialog) -> None:
    for word in (*corpus.VERDICTS, *corpus.LABELS):
        assert dialog.text_ids(f" {word}").shape[1] == dialog.text_ids(f" {word.lower()}").shape[1] == 1


def test_a_broken_text_training_goes_on_to_the_same_weights(
    base: Path,
    model: Qwen3VLForConditionalGeneration,
    dialog: Dialog,
    frames: Frames,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resuming, "EVERY_S", 0.0)
    seen = _seen(model, dialog, frames)
    times = group_times({"times_s": TIMES.tolist()})
    said = ("Two cows.", "One cow.", "No cow.", "Three cows.")

    def trained(path: Path | None, stop_at: int | None = None) -> torch.Tensor:
        fresh = Qwen3VLForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
        layout = Layout(dialog.processor, fresh)

        def batch(step: int) -> Packed:
            if step == stop_at:
                raise KeyboardInterrupt
            return packed(layout, [times], [[Exercise("How many cows?", said[step])]], seen)

        run("language", fresh, batch, len(said), Settings(), Group(0, 1, None), Resume(path))
        return torch.cat([p.detach().flatten() for p in fresh.model.language_model.parameters()])

    whole = trained(None)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "run.resume", stop_at=2)
    assert Resume(tmp_path / "run.resume").holds("language")
    assert not Resume(tmp_path / "run.resume", of="another tower").holds("language")
    assert torch.equal(trained(tmp_path / "run.resume"), whole)
