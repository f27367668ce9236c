"""Base or adapter is a choice of each request: sessions that choose differently at one moment get their own answers.

The scores are compared to the last bit with those of the same request asked alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agent.prompts import mounting_question
from services.errors import AdapterError
from services.schema import Answer, VariantName
from tests.services.adapter_cases import shipped

Choice = tuple[VariantName, str | None]


@pytest.fixture(scope="module")
def half(service: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Another adapter than the shipped one, resident beside it."""
    yield service.add_adapter(shipped(tmp_path_factory.mktemp("half") / "half", 0.5), "half").name
    service.adapters.remove("half")


@pytest.fixture(scope="module")
def clips(service: Any) -> list[Any]:
    return [service.open_clip(str(sample.path), None, threading.Event()) for sample in service.samples()[:2]]


def asked(service: Any, clip: Any, choice: Choice, together: int = 1) -> Answer:
    """One session's request."""
    variant, adapter = choice
    return service.ask(
        clip,
        variant,
        adapter,
        mounting_question("off", []),
        together=together,
        on_token=lambda channel, text: None,
        on_place=lambda place: None,
        cancelled=threading.Event(),
    )


def test_base_and_two_adapters_at_once_answer_as_each_does_alone(service: Any, half: str, clips: list[Any]) -> None:
    choices: list[Choice] = [("base", None), ("tuned", "mounting"), ("tuned", half)]
    requests = [(clip, choice) for clip in clips for choice in choices]
    alone = [asked(service, *request) for request in requests]
    assert len({answer.scores for answer in alone}) == len(requests), "every choice says something else of every clip"
    start = threading.Barrier(len(requests))

    def session(request: tuple[Any, Choice]) -> Answer:
        start.wait()
        return asked(service, *request)

    with ThreadPoolExecutor(len(requests)) as pool:
        for _ in range(2):
            for found, expected in zip(pool.map(session, requests), alone, strict=True):
                assert found.scores == expected.scores
                assert (found.answer, found.reasoning) == (expected.answer, expected.reasoning)


def test_two_pairs_with_one_base_and_different_adapters_do_not_mix(service: Any, half: str, clips: list[Any]) -> None:
    """Two sessions compare base and tuned on one clip with one question, each with an adapter of its own: the requests
    could share a batch, and the rows of a batch must not answer for each other."""
    tuned: list[Choice] = [("tuned", "mounting"), ("tuned", half)]
    expected = {choice: asked(service, clips[0], choice).scores for choice in [("base", None), *tuned]}
    both = [choice for one in tuned for choice in (("base", None), one)]
    start = threading.Barrier(len(both))

    def session(choice: Choice) -> tuple[float, ...] | None:
        start.wait()
        return asked(service, clips[0], choice, together=2).scores

    with ThreadPoolExecutor(len(both)) as pool:
        for choice, scores in zip(both, pool.map(session, both), strict=True):
            assert scores == pytest.approx(expected[choice], abs=2e-3)
            others = [value for other, value in expected.items() if other != choice]
            assert all(scores != pytest.approx(other, abs=2e-2) for other in others)


def test_an_adapter_that_changes_nothing_is_refused_and_not_kept(service: Any, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="no-op"):
        service.add_adapter(shipped(tmp_path / "idle", 0.0), "idle")
    assert "idle" not in service.adapter_names()
