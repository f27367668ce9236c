"""A stream of chunks becomes one answer."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from agent.prompts import mounting_question
from services import task_media
from services.asking import answer_of
from services.errors import Cancelled


def content(service: Any) -> list[Any]:
    clip = service.open_clip(str(service.samples()[0].path), None, threading.Event())
    shown = task_media.media("mounting", clip, service.clips.of(clip).frames, service.rule)
    return [*shown, {"type": "text", "text": mounting_question("off", [])}]


def test_the_answer_is_what_was_streamed_and_the_scores_are_a_share_each(service: Any) -> None:
    heard: list[tuple[str, str]] = []
    places: list[int] = []
    answer = answer_of(
        service.chat,
        content(service),
        task_media.options("mounting"),
        "base",
        None,
        together=1,
        on_token=lambda channel, text: heard.append((channel, text)),
        on_place=places.append,
        cancelled=threading.Event(),
    )
    assert answer.answer == "".join(text for channel, text in heard if channel == "answer").strip() != ""
    assert answer.adapter is None and len(answer.scores or ()) == 2
    assert places[-1] == 0


def test_a_cancel_between_tokens_ends_the_answer(service: Any) -> None:
    cancelled = threading.Event()
    with pytest.raises(Cancelled):
        answer_of(
            service.chat,
            content(service),
            task_media.options("mounting"),
            "base",
            None,
            together=1,
            on_token=lambda channel, text: cancelled.set(),
            on_place=lambda place: None,
            cancelled=cancelled,
        )
