"""The engine in this process, as the composition root sees it."""

from __future__ import annotations

from collections.abc import Callable

from services.chat.chat_model import AdapterRef
from services.chat.engine import Engine
from services.chat.generation import Generation
from services.chat.scheduler import Scheduler
from services.chat.transformers_chat import TransformersChat
from services.dialog import Dialog
from services.model_identity import ModelIdentity


class InProcess:
    """``load`` and ``identify`` are called when the weights or their digest are first needed. A ``Backend``."""

    warnings: tuple[str, ...] = ()

    def __init__(
        self, load: Callable[[], Engine], identify: Callable[[], ModelIdentity], model: str, generation: Generation
    ) -> None:
        self._scheduler = Scheduler(load)
        self._identify = identify
        self._identity: ModelIdentity | None = None
        self.chat = TransformersChat(scheduler=self._scheduler, model=model, generation=generation)

    @property
    def engine(self) -> Engine:
        return self._scheduler.engine()

    @property
    def dialog(self) -> Dialog:
        return self.engine.dialog

    @property
    def identity(self) -> ModelIdentity:
        if self._identity is None:
            self._identity = self._identify()
        return self._identity

    @property
    def loaded(self) -> bool:
        return self._scheduler.loaded

    def warm_up(self) -> None:
        self._scheduler.engine()

    def release(self) -> bool:
        return self._scheduler.unload()

    def close(self) -> None:
        """There are no connections."""

    def try_adapter(self, ref: AdapterRef) -> None:
        self._scheduler.try_adapter(ref)
