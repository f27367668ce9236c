"""What every chat model here has in common: clips and pictures in the messages, channels in the stream.

A human message carries media and one question as content blocks: ``{"type": "video", "key": str, "frames": Frames}``,
``{"type": "image", "key": str, "picture": (H, W, 3) uint8}`` and ``{"type": "text", "text": str}``. ``stream`` yields
chunks whose ``additional_kwargs["channel"]`` is ``reasoning``, ``answer`` or ``place`` (then
``additional_kwargs["place"]``); the last, empty chunk carries ``response_metadata``: ``finish_reason``, ``scores``
(summed log-probability of each option, None where they cannot be had) and ``tokens``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import ConfigDict

from services.chat.generation import Generation
from services.chat.streaming import ANSWER, REASONING
from services.dialog import Message, Picture
from services.schema import Frames


@dataclass(frozen=True, slots=True)
class AdapterRef:
    """An adapter by name, folder and the digest of its content."""

    name: str
    folder: Path
    digest: str

    @property
    def served_name(self) -> str:
        """A name that changes with the content: servers cache adapters by name."""
        return f"{self.name}-{self.digest[:12]}"


@dataclass(frozen=True, slots=True)
class Prompt:
    """What LangChain messages say: the chat template's turns, and the media that fill them, in order. ``keys`` name
    the media's content."""

    turns: list[Message] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    clips: list[Frames] = field(default_factory=list)
    images: list[Picture] = field(default_factory=list)


class ClipChatModel(BaseChatModel):
    """Base of the engines' chat models; ``_stream`` is theirs. See the module."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    model: str
    generation: Generation

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model}

    @abstractmethod
    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]: ...

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        texts: dict[str, list[str]] = {REASONING: [], ANSWER: []}
        metadata: dict[str, Any] = {}
        for piece in self._stream(messages, stop, run_manager, **kwargs):
            texts.get(piece.message.additional_kwargs.get("channel", ""), []).append(str(piece.message.content))
            metadata |= piece.message.response_metadata
        message = AIMessage(
            content="".join(texts[ANSWER]),
            additional_kwargs={"reasoning_content": "".join(texts[REASONING])},
            response_metadata=metadata,
        )
        return ChatResult(generations=[ChatGeneration(message=message)])


def chunk(text: str, extra: dict[str, Any], metadata: dict[str, Any] | None = None) -> ChatGenerationChunk:
    """One piece of a stream."""
    return ChatGenerationChunk(
        message=AIMessageChunk(content=text, additional_kwargs=extra, response_metadata=metadata or {})
    )


_ROLES = {"human": "user", "ai": "assistant", "system": "system"}


def read(messages: Sequence[BaseMessage]) -> Prompt:
    """LangChain messages as a prompt; ValueError for a content block of another kind."""
    prompt = Prompt()
    for message in messages:
        content: list[dict[str, str]] = []
        blocks = [message.content] if isinstance(message.content, str) else message.content
        for block in blocks:
            if isinstance(block, str):
                content.append({"type": "text", "text": block})
            elif block.get("type") == "video":
                content.append({"type": "video"})
                prompt.keys.append(block["key"])
                prompt.clips.append(block["frames"])
            elif block.get("type") == "image":
                content.append({"type": "image"})
                prompt.keys.append(block["key"])
                prompt.images.append(block["picture"])
            elif block.get("type") == "text":
                content.append({"type": "text", "text": block["text"]})
            else:
                raise ValueError(f"content block of type {block.get('type')!r} is not supported")
        prompt.turns.append({"role": _ROLES[message.type], "content": content})
    return prompt
