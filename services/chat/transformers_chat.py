"""The in-process Qwen-VL as a LangChain ``BaseChatModel``.

A human message carries media and one question as content blocks: ``{"type": "video", "key": str, "frames": Frames}``,
``{"type": "image", "key": str, "picture": (H, W, 3) uint8}`` and ``{"type": "text", "text": str}``. ``stream`` yields
chunks whose ``additional_kwargs["channel"]`` is ``reasoning``, ``answer`` or ``place`` (then
``additional_kwargs["place"]``); the last, empty chunk carries ``response_metadata``: ``finish_reason``, ``scores``
(summed log-probability of each option) and ``tokens``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import ConfigDict

from services.chat.engine import Generation, RowResult
from services.chat.scheduler import AdapterRef, Place, Scheduler, Ticket
from services.chat.streaming import ANSWER, REASONING, Detokenizer, ThoughtSplitter
from services.dialog import Message, Picture
from services.schema import Frames, digest_of


class TransformersChat(BaseChatModel):
    """Thread-safe: every call is one ticket in the scheduler's line."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    scheduler: Scheduler
    model: str
    generation: Generation

    @property
    def _llm_type(self) -> str:
        return "herdlens-transformers"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model}

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        texts: dict[str, list[str]] = {REASONING: [], ANSWER: []}
        metadata: dict[str, Any] = {}
        for chunk in self._stream(messages, stop, run_manager, **kwargs):
            texts.get(chunk.message.additional_kwargs.get("channel", ""), []).append(str(chunk.message.content))
            metadata |= chunk.message.response_metadata
        message = AIMessage(
            content="".join(texts[ANSWER]),
            additional_kwargs={"reasoning_content": "".join(texts[REASONING])},
            response_metadata=metadata,
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        *,
        adapter: AdapterRef | None = None,
        together: int = 1,
        prefill: str = "",
        options: Sequence[str] = (),
        cancelled: Callable[[], bool] = lambda: False,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        turns, keys, clips, images = _read(messages)
        ticket = Ticket(
            group=digest_of([turns, keys, prefill, list(options), repr(self.generation)]),
            together=together,
            clip_key="|".join(keys),
            clips=clips,
            turns=turns,
            generation=self.generation,
            prefill=prefill,
            options=options,
            adapter_ref=adapter,
            cancelled=cancelled,
            images=images,
        )
        self.scheduler.submit(ticket)
        pieces: list[tuple[str, str]] = []
        splitter: ThoughtSplitter | None = None
        detokenizer: Detokenizer | None = None
        while True:
            event = ticket.events.get()
            if isinstance(event, Exception):
                raise event
            if isinstance(event, Place):
                yield _chunk("", {"channel": "place", "place": event.place})
                continue
            if isinstance(event, RowResult):
                if splitter is not None:
                    splitter.close()
                yield from (_chunk(text, {"channel": channel}) for channel, text in pieces)
                yield _chunk(
                    "",
                    {},
                    {"finish_reason": event.finish_reason, "scores": event.scores, "tokens": len(event.ids)},
                )
                return
            if detokenizer is None or splitter is None:
                dialog = self.scheduler.engine().dialog  # loaded by now: it has produced a token
                detokenizer = Detokenizer(dialog.tokenizer)
                splitter = ThoughtSplitter(
                    lambda channel, text: pieces.append((channel, text)), inside=dialog.opens_thoughts
                )
            splitter.push(detokenizer.push(event))
            for channel, text in pieces:
                chunk = _chunk(text, {"channel": channel})
                if run_manager and channel == ANSWER:
                    run_manager.on_llm_new_token(text, chunk=chunk)
                yield chunk
            pieces.clear()


def _chunk(text: str, extra: dict[str, Any], metadata: dict[str, Any] | None = None) -> ChatGenerationChunk:
    return ChatGenerationChunk(
        message=AIMessageChunk(content=text, additional_kwargs=extra, response_metadata=metadata or {})
    )


_ROLES = {"human": "user", "ai": "assistant", "system": "system"}


def _read(messages: Sequence[BaseMessage]) -> tuple[list[Message], list[str], list[Frames], list[Picture]]:
    """LangChain messages to the processor's turns, the media's keys, frames and pictures."""
    turns: list[Message] = []
    keys: list[str] = []
    clips: list[Frames] = []
    images: list[Picture] = []
    for message in messages:
        content: list[dict[str, str]] = []
        blocks = [message.content] if isinstance(message.content, str) else message.content
        for block in blocks:
            if isinstance(block, str):
                content.append({"type": "text", "text": block})
            elif block.get("type") == "video":
                content.append({"type": "video"})
                keys.append(block["key"])
                clips.append(block["frames"])
            elif block.get("type") == "image":
                content.append({"type": "image"})
                keys.append(block["key"])
                images.append(block["picture"])
            elif block.get("type") == "text":
                content.append({"type": "text", "text": block["text"]})
            else:
                raise ValueError(f"content block of type {block.get('type')!r} is not supported")
        turns.append({"role": _ROLES[message.type], "content": content})
    return turns, keys, clips, images
