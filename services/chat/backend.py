"""What the composition root needs of an engine, whether it is in this process or on a server."""

from __future__ import annotations

from typing import Protocol

from services.chat.chat_model import AdapterRef, ClipChatModel
from services.dialog import Dialog
from services.model_identity import ModelIdentity


class Backend(Protocol):
    """A base model with its adapters. Thread-safe; raises only ``services.errors``."""

    @property
    def chat(self) -> ClipChatModel:
        """The chat model; what it needs is loaded with the first request."""

    @property
    def dialog(self) -> Dialog:
        """The processor with its contract; loads what it needs."""

    @property
    def identity(self) -> ModelIdentity: ...

    @property
    def loaded(self) -> bool:
        """Whether an analysis starts at once."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences that every report must carry about what this engine lacks; asks a server, if it was not yet."""

    def warm_up(self) -> None: ...

    def release(self) -> bool:
        """Give memory back; False while requests wait or run."""

    def close(self) -> None:
        """Let connections go."""

    def try_adapter(self, ref: AdapterRef) -> None:
        """Make the adapter ready; AdapterError where it does not fit or changes nothing."""
