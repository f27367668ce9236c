"""A stream of chunks becomes one answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from agent.prompts import mounting_question
from services import task_media
from services.asking import answer_of
from services.errors import Cancelled
from services.schema import Answer


def asked(
    service: Any, on_token: Callable[[str, str], None], on_place: Callable[[int], None], cancelled: threading.Event
) -> Answer:
    """The base about the first sample."""
    clip = service.open_clip(str(service.samples()[0].path), None, threading.Event())
    shown = task_media.media("mounting", clip, service.clips.of(clip).frames, service.rule)
    return answer_of(
        service.chat,
        [*shown, {"type": "text", "text": mounting_question("off", [])}],
        task_media.options("mounting"),
        "base",
        None,
        together=1,
        on_token=on_token,
        on_place=on_place,
        cancelled=cancelled,
    )


def test_the_answer_is_what_was_streamed_and_the_scores_are_a_share_each(service: Any) -> None:
    heard: list[tuple[str, str]] = []
    places: list[int] = []
    answer = asked(service, lambda channel, text: heard.append((channel, text)), places.append, threading.Event())
    assert answer.answer == "".join(text for channel, text in heard if channel == "answer").strip() != ""
    assert answer.adapter is None and len(answer.scores or ()) == 2
    assert places[-1] == 0


def test_a_cancel_between_tokens_ends_the_answer(service: Any) -> None:
    cancelled = threading.Event()
    with pytest.raises(Cancelled):
        asked(service, lambda channel, text: cancelled.set(), lambda place: None, cancelled)
