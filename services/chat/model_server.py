"""A model server, as the composition root sees it: the words and pictures are prepared here, the weights are there."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

from services.chat.chat_model import AdapterRef
from services.chat.generation import Generation
from services.chat.server_chat import ServerChat
from services.chat.server_client import ServerClient
from services.chat.server_session import Features, ServerSession
from services.dialog import Dialog, load_dialog
from services.errors import MismatchError, ModelError
from services.model_identity import ModelIdentity, identify, weightless
from services.settings import LOCAL, Profile, Settings


class ModelServer:
    """The server of ``settings`` with the base model of ``profile``, whose processor and configuration files lie in
    ``folder()`` (with or without weights). A ``Backend``."""

    def __init__(
        self, settings: Settings, profile: Profile, folder: Callable[[], Path], generation: Generation
    ) -> None:
        self._profile = profile
        self._generation = generation
        self._folder = folder
        self._wanted = settings.server_model or profile.base_model
        self._lock = threading.RLock()
        self.client = ServerClient(settings.server_url, settings.server_key, settings.server_timeout_s)

    @cached_property
    def dialog(self) -> Dialog:
        chosen = self._profile
        with self._lock:
            return load_dialog(self._folder(), chosen.sampling, chosen.min_pixels, chosen.max_pixels)

    @cached_property
    def session(self) -> ServerSession:
        with self._lock:
            return ServerSession(self.client, self.dialog, self._wanted)

    @cached_property
    def chat(self) -> ServerChat:
        return ServerChat(session=self.session, model=self._profile.base_model, generation=self._generation)

    @cached_property
    def _local(self) -> ModelIdentity:
        """From the files here; ``weights`` is empty where only the small files are here."""
        if any(self._folder().glob("*.safetensors")):
            return identify(self._folder(), self._profile.base_model)
        return weightless(self._folder(), self._profile.base_model)

    @property
    def identity(self) -> ModelIdentity:
        """What runs on the server. MismatchError where its weights are others than those here."""
        here, there = self._local, self.features().weights
        if here.weights and there and here.weights != there:
            raise MismatchError(
                f"The model server at {self.client.url} runs {self._wanted} with the weights {there[:12]}, but those "
                f"here are {here.weights[:12]}; start 'make serve' again, or copy the model to both machines."
            )
        weights = there or here.weights
        if not weights:
            raise ModelError(
                f"The model server at {self.client.url} does not say which weights of {self._wanted} it runs, so no "
                "adapter can be matched to them; use --variant base, or a server started with 'make serve'."
            )
        return ModelIdentity(here.model, here.architecture, weights)

    @property
    def local(self) -> bool:
        """Whether the server's address is this machine's own, so that the weights have to be here."""
        return urlsplit(self.client.url).hostname in LOCAL

    @property
    def loaded(self) -> bool:
        return "session" in self.__dict__ and self.session.known is not None

    @property
    def warnings(self) -> tuple[str, ...]:
        return self.features().warnings

    def features(self) -> Features:
        """What the server is and can; asked once, and again after a failure."""
        return self.client.wait(self.session.features())

    def version(self) -> str:
        """Of vLLM; ModelError from another server."""
        return self.client.wait(self.client.version())

    def warm_up(self) -> None:
        self.features()

    def release(self) -> bool:
        if self.loaded:
            self.session.forget()
        return True

    def close(self) -> None:
        self.client.close()

    def try_adapter(self, ref: AdapterRef) -> None:
        self.client.wait(self.session.name_of(ref))
