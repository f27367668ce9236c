"""The server's answers are the in-process engine's: same text, same scores, for clips that nothing was trained on."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from agent.prompts import mounting_question, quality_question
from agent.verdict import softmax_mounting
from services.schema import Answer
from services.settings import ROOT
from training.demo.render import main as render

SAMPLES = sorted((ROOT / "assets/demo/samples").glob("*.mp4"))
SAME_TEXT = 0.95
DELTA_P = 0.02


def answer(service: Any, path: Path, variant: str, question: str, task: str = "mounting") -> Answer:
    clip = service.open_clip(str(path), None, threading.Event(), task=task)
    name, _ = service.adapter_for(variant, None, task=task)
    return service.ask(
        clip,
        variant,
        name,
        question,
        together=1,
        on_token=lambda channel, text: None,
        on_place=lambda place: None,
        cancelled=threading.Event(),
        task=task,
    )


@pytest.mark.parametrize("count", [20, pytest.param(100, marks=pytest.mark.slow)])
def test_greedy_text_and_scores_equal_the_in_process_engine(
    count: int, service: Any, served: Any, tmp_path: Path
) -> None:
    assert render(["--clips", str(count), "--seed", "7000000", "--out", str(tmp_path)]) == 0
    same, moved = [], []
    for path in sorted(tmp_path.glob("*.mp4")):
        clip = service.open_clip(str(path), None, threading.Event())
        question = mounting_question("contrastive", service.find_references(clip, "contrastive").shown)
        for variant in ("base", "tuned"):
            here = answer(service, path, variant, question)
            there = answer(served, path, variant, question)
            same.append((here.reasoning, here.answer) == (there.reasoning, there.answer))
            moved.append(abs(softmax_mounting(here.scores) - softmax_mounting(there.scores)))
    assert len(same) == 2 * count
    assert sum(same) >= SAME_TEXT * len(same), f"{sum(same)} of {len(same)} texts are the same"
    assert max(moved) <= DELTA_P


def test_pictures_in_native_resolution_are_scored_as_in_process(service: Any, served: Any) -> None:
    here = answer(service, SAMPLES[0], "base", quality_question(), "quality")
    there = answer(served, SAMPLES[0], "base", quality_question(), "quality")
    assert there.answer == here.answer
    assert there.scores == pytest.approx(here.scores, abs=0.01)


def test_finish_reason_and_length_are_told_as_in_process(service: Any, served: Any) -> None:
    here = answer(service, SAMPLES[1], "tuned", mounting_question())
    there = answer(served, SAMPLES[1], "tuned", mounting_question())
    assert (there.finish_reason, there.tokens) == (here.finish_reason, here.tokens)
