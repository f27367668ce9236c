"""A model server's chat model; messages and stream as in ``chat_model``.

Scored directly, an answer begins with one request for its first token, which must not be the bare verdict's: it fills
the server's caches, and the rest of the text and all scores then go on from there at the same time. Scored after the
reasoning, the text comes first. Variants are requests of their own; the server batches them and shares the pictures.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk
from openai.types.chat import ChatCompletionChunk

from services.chat.chat_model import AdapterRef, ClipChatModel, Prompt, chunk, read
from services.chat.generation import THOUGHTS_END, scoring_prefix
from services.chat.server_client import together
from services.chat.server_payload import Encoded
from services.chat.server_session import Features, ServerSession
from services.chat.streaming import ANSWER, REASONING, ThoughtSplitter
from services.errors import ModelError

BANNED = -100.0
"""A token with this bias is never chosen (OpenAI's API reference, ``logit_bias``)."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one request."""

    finish_reason: str
    tokens: int
    scores: tuple[float, ...] | None


@dataclass(slots=True)
class _Text:
    """A text as it arrives, thoughts and answer apart. ``whole`` is what the in-process engine would have decoded."""

    emit: Callable[[tuple[str, str]], None]
    splitter: ThoughtSplitter
    whole: str = ""
    thinking: bool = False
    finish_reason: str = ""
    tokens: int = 0

    def take(self, piece: ChatCompletionChunk) -> None:
        if piece.usage is not None:
            self.tokens += piece.usage.completion_tokens
        for choice in piece.choices:
            # A server with a reasoning parser sends thoughts apart; other servers leave the tags in the text.
            if thought := getattr(choice.delta, "reasoning", None) or getattr(choice.delta, "reasoning_content", None):
                self.thinking = True
                self.whole += thought
                self.emit((REASONING, thought))
            if said := choice.delta.content:
                if self.thinking:
                    self.whole += f"{THOUGHTS_END}{said}"
                    self.thinking = False
                    self.splitter = ThoughtSplitter(lambda channel, text: self.emit((channel, text)))
                else:
                    self.whole += said
                self.splitter.push(said)
            if choice.finish_reason:
                self.finish_reason = choice.finish_reason


class ServerChat(ClipChatModel):
    """Thread-safe: every call is a request of its own on the client's loop."""

    session: ServerSession

    @property
    def _llm_type(self) -> str:
        return "herdlens-server"

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
        yield chunk("", {"channel": "place", "place": 0})  # the line, where there is one, is the server's own
        try:
            for event in self.session.client.follow(
                lambda emit: self._answer(prompt, adapter, prefill, options, emit), cancelled
            ):
                if isinstance(event, Outcome):
                    told = {"finish_reason": event.finish_reason, "scores": event.scores, "tokens": event.tokens}
                    yield chunk("", {}, told)
                    return
                channel, text = event
                piece = chunk(text, {"channel": channel})
                if run_manager and channel == ANSWER:
                    run_manager.on_llm_new_token(text, chunk=piece)
                yield piece
        except ModelError:
            self.session.forget()  # a server that failed may come back as another
            raise

    async def _answer(
        self,
        prompt: Prompt,
        adapter: AdapterRef | None,
        prefill: str,
        options: Sequence[str],
        emit: Callable[[tuple[str, str]], None],
    ) -> Outcome:
        features = await self.session.features()
        model = await self.session.name_of(adapter)
        media = await asyncio.to_thread(self.session.payloads.media, prompt, exact=features.exact)
        inside = self.session.dialog.opens_thoughts
        text = _Text(emit, ThoughtSplitter(lambda channel, said: emit((channel, said)), inside=inside))
        wanted = tuple(options) if features.scores else ()
        if self.generation.scoring == "direct":
            first = await self._first(model, prompt, media, prefill, features, text) if prefill else ""
            writing = self._write(model, prompt, media, features, text, first)
            if not wanted:
                await writing
                return _outcome(text, None)
            scores, _ = await together(self.session.scores(model, prompt, media, prefill, wanted), writing)
            return _outcome(text, scores)
        await self._write(model, prompt, media, features, text, "")
        if not wanted:
            return _outcome(text, None)
        prefix = scoring_prefix(text.whole, prefill, inside=inside)
        return _outcome(text, await self.session.scores(model, prompt, media, prefix, wanted))

    async def _first(
        self, model: str, prompt: Prompt, media: Sequence[Encoded], prefill: str, features: Features, text: _Text
    ) -> str:
        """The beginning of the answer: one token, which is not the prefill's first. Empty where the server is not
        known to continue a turn or the token cannot be continued as text."""
        if not features.scores or self.session.dialog.opens_thoughts:
            return ""
        unwanted = int(self.session.dialog.text_ids(prefill)[0, 0])
        settings = self._settings(features)
        settings["max_tokens"] = 1
        answer = await self.session.complete(model, prompt, media, logit_bias={str(unwanted): BANNED}, **settings)
        said = answer.choices[0].message.content or ""
        if answer.choices[0].finish_reason == "stop" or said != said.rstrip() or not said or said.startswith("<"):
            return ""
        text.tokens += 1
        text.whole += said
        text.splitter.push(said)
        return said

    async def _write(
        self, model: str, prompt: Prompt, media: Sequence[Encoded], features: Features, text: _Text, first: str
    ) -> None:
        """Stream the text (what follows ``first``) into ``text``."""
        settings = self._settings(features)
        settings["max_tokens"] -= 1 if first else 0
        await self.session.stream(text.take, model, prompt, media, begun=first or None, **settings)
        text.splitter.close()

    def _settings(self, features: Features) -> dict[str, Any]:
        """The generation settings; those that only vLLM knows only where the server has shown to be one."""
        chosen = self.generation
        own: dict[str, Any] = {}
        if features.scores:
            own = {"repetition_penalty": chosen.repetition_penalty, "skip_special_tokens": False}
            if chosen.temperature and chosen.top_k:
                own["top_k"] = chosen.top_k
        return {
            "max_tokens": chosen.max_tokens,
            "temperature": chosen.temperature,
            "top_p": 1.0,
            "extra_body": own,
        }


def _outcome(text: _Text, scores: tuple[float, ...] | None) -> Outcome:
    ended = text.finish_reason == "stop"
    return Outcome(text.finish_reason or "stop", max(text.tokens - ended, 0), scores)
