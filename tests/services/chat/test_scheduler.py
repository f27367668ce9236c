"""Several sessions on one model: everybody gets their own answer, in order, and can leave the line."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from langchain_core.messages import HumanMessage

from services.chat.chat_model import AdapterRef
from services.chat.engine import Engine
from services.chat.generation import Generation
from services.chat.scheduler import Scheduler
from services.chat.transformers_chat import TransformersChat
from services.errors import AdapterError, Cancelled
from services.schema import Frames
from tests.services.chat.conftest import load

OPTIONS = (" Mounting", " Normal")


@pytest.fixture(scope="module")
def chat(base_folder: Path) -> TransformersChat:
    engine = load(base_folder)
    return TransformersChat(scheduler=Scheduler(lambda: engine), model="random", generation=Generation(24))


def question(frames: Frames, text: str = "What happens here?", key: str = "clip") -> list[HumanMessage]:
    return [HumanMessage(content=[{"type": "video", "key": key, "frames": frames}, {"type": "text", "text": text}])]


def outcome(chat: TransformersChat, frames: Frames, adapter: AdapterRef | None, together: int = 1):
    message = chat.invoke(question(frames), adapter=adapter, together=together, prefill="Status:", options=OPTIONS)
    return message.content, message.response_metadata["scores"]


def test_sessions_with_different_choices_at_once_get_their_own_answers(
    chat: TransformersChat, frames: Frames, adapters: dict[str, AdapterRef]
) -> None:
    choices = [None, adapters["one"], adapters["two"]]
    expected = [outcome(chat, frames, adapter) for adapter in choices]
    assert len({text for text, _ in expected}) == 3
    with ThreadPoolExecutor(6) as pool:
        for _ in range(2):
            found = list(pool.map(lambda adapter: outcome(chat, frames, adapter), choices * 2))
            for (text, scores), (wanted, wanted_scores) in zip(found, expected * 2, strict=True):
                assert text == wanted
                assert scores == pytest.approx(wanted_scores, abs=2e-3)


def test_a_pair_runs_as_one_batch(chat: TransformersChat, frames: Frames, adapters: dict[str, AdapterRef]) -> None:
    engine: Engine = chat.scheduler.engine()
    outcome(chat, frames, adapters["one"])
    engine.counts.prefill = 0
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda adapter: outcome(chat, frames, adapter, together=2), [None, adapters["one"]]))
    assert engine.counts.prefill == 1


def test_an_adapter_that_cannot_load_fails_its_own_variant_only(
    chat: TransformersChat, frames: Frames, tmp_path: Path
) -> None:
    broken = AdapterRef("broken", tmp_path / "nowhere", "0")
    with ThreadPoolExecutor(2) as pool:
        good = pool.submit(outcome, chat, frames, None, 2)
        bad = pool.submit(outcome, chat, frames, broken, 2)
        assert good.result()[1] is not None
        with pytest.raises(AdapterError, match="broken"):
            bad.result()


def test_waiting_requests_hear_their_place_and_can_leave_the_line(chat: TransformersChat, frames: Frames) -> None:
    cancelled = threading.Event()
    places: list[int] = []

    def first() -> None:
        outcome(chat, frames, None)

    def second() -> None:
        for chunk in chat.stream(question(frames, "Another question"), cancelled=cancelled.is_set):
            if chunk.additional_kwargs.get("channel") == "place":
                places.append(chunk.additional_kwargs["place"])

    with ThreadPoolExecutor(4) as pool:
        busy = [pool.submit(first) for _ in range(3)]
        waiting = pool.submit(second)
        cancelled.set()
        with pytest.raises(Cancelled):
            waiting.result(timeout=60)
        for task in busy:
            task.result(timeout=60)
    assert max(places) >= 1
