"""The in-process Qwen-VL as a LangChain chat model; messages and stream as in ``chat_model``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk

from services.chat.chat_model import AdapterRef, ClipChatModel, chunk, read
from services.chat.engine import RowResult
from services.chat.scheduler import Place, Scheduler, Ticket
from services.chat.streaming import ANSWER, Detokenizer, ThoughtSplitter
from services.schema import digest_of


class TransformersChat(ClipChatModel):
    """Thread-safe: every call is one ticket in the scheduler's line."""

    scheduler: Scheduler

    @property
    def _llm_type(self) -> str:
        return "herdlens-transformers"

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
        prompt = read(messages)
        ticket = Ticket(
            group=digest_of([prompt.turns, prompt.keys, prefill, list(options), repr(self.generation)]),
            together=together,
            clip_key="|".join(prompt.keys),
            clips=prompt.clips,
            turns=prompt.turns,
            generation=self.generation,
            prefill=prefill,
            options=options,
            adapter_ref=adapter,
            cancelled=cancelled,
            images=prompt.images,
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
                yield chunk("", {"channel": "place", "place": event.place})
                continue
            if isinstance(event, RowResult):
                if splitter is not None:
                    splitter.close()
                yield from (chunk(text, {"channel": channel}) for channel, text in pieces)
                yield chunk(
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
                piece = chunk(text, {"channel": channel})
                if run_manager and channel == ANSWER:
                    run_manager.on_llm_new_token(text, chunk=piece)
                yield piece
            pieces.clear()
