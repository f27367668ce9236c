"""One question to the chat model: its stream of chunks joined to one ``Answer``."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from langchain_core.messages import HumanMessage

from services.chat.chat_model import AdapterRef, ClipChatModel
from services.dialog import STATUS
from services.errors import Cancelled
from services.schema import Answer, VariantName
from services.task_media import Block
from services.video_link import Cancellation


def answer_of(
    chat: ClipChatModel,
    content: Sequence[Block],
    options: Sequence[str],
    variant: VariantName,
    adapter: AdapterRef | None,
    *,
    together: int,
    on_token: Callable[[str, str], None],
    on_place: Callable[[int], None],
    cancelled: Cancellation,
) -> Answer:
    """Ask ``chat`` about ``content`` (media blocks, then the question) and score ``options`` after ``Status:``.

    ``on_token`` hears (channel, text) as it is written, ``on_place`` the place in line. Raises Cancelled, and what the
    engine raises (ModelError, AdapterError, ResourceError)."""
    started = time.perf_counter()
    texts: dict[str, list[str]] = {"reasoning": [], "answer": []}
    result: dict[str, object] = {}
    for chunk in chat.stream(
        [HumanMessage(content=list(content))],
        adapter=adapter,
        together=together,
        prefill=STATUS,
        options=tuple(options),
        cancelled=cancelled.is_set,
    ):
        channel = chunk.additional_kwargs.get("channel")
        if channel == "place":
            on_place(int(chunk.additional_kwargs["place"]))
        elif channel in texts:
            texts[channel].append(str(chunk.content))
            on_token(channel, str(chunk.content))
        result |= chunk.response_metadata
    if cancelled.is_set():
        raise Cancelled("The analysis was cancelled.")
    return Answer(
        name=variant,
        adapter=adapter.name if adapter else None,
        reasoning="".join(texts["reasoning"]).strip(),
        answer="".join(texts["answer"]).strip(),
        finish_reason=str(result["finish_reason"]),
        scores=result["scores"],  # type: ignore[arg-type]
        seconds=time.perf_counter() - started,
        tokens=int(result["tokens"]),  # type: ignore[call-overload]
    )
