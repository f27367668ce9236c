"""A server that has been looked at: under which names it serves what, and what it can do.

Found out once, by asking: which models it lists, and whether a made-up clip with odd times comes out of its
preprocessing as exactly the tokens that come out of ours. What it lacks is told, never passed over.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from services.chat.chat_model import AdapterRef, Prompt
from services.chat.generation import scoring_prefix
from services.chat.server_client import ServerClient
from services.chat.server_failures import RequestRefused, ServerFault
from services.chat.server_payload import Encoded, Payloads, turns_with
from services.chat.server_score import logprobs, score
from services.dialog import STATUS, Dialog, messages, resized_size
from services.errors import AdapterError, MismatchError, ModelError
from services.schema import Frames

T = TypeVar("T")

WEIGHTS = "weights-"
"""Begins a further name of the base model that ``make serve`` gives it: the digest of its weights."""
NO_EFFECT = 1e-5
"""Largest change of a log-probability that counts as none."""

FORMS = ((True, True), (False, True), (False, False))
"""What is tried of a server, the best first: frames with exact times, and log-probabilities of chosen tokens."""

NO_SCORES = (
    "The model server gives no log-probabilities of chosen tokens, so the answer's text decides and there is no "
    "probability; 'make serve' starts one that does."
)
NO_TIMES = (
    "The model server takes no frames with exact times, so it saw the clip as single pictures, which is not what "
    "adapters were trained on; 'make serve' starts one that does."
)


@dataclass(frozen=True, slots=True)
class Features:
    """``base``: the base model's name on the server; ``weights``: digest of its weights where the server says it;
    ``context``: tokens of prompt and answer together; ``exact``: takes frames with their times; ``scores``: gives
    log-probabilities of chosen tokens."""

    base: str
    served: tuple[str, ...]
    weights: str | None
    context: int | None
    exact: bool
    scores: bool

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences for the report about what the server lacks."""
        return tuple(text for text, there in ((NO_SCORES, self.scores), (NO_TIMES, self.exact)) if not there)


class ServerSession:
    """Requests to one server about one base model. Its coroutines run on the client's loop; ``wanted`` is the name
    under which the base model is expected."""

    def __init__(self, client: ServerClient, dialog: Dialog, wanted: str) -> None:
        self.client = client
        self.dialog = dialog
        self.wanted = wanted
        self.payloads = Payloads(dialog.rule)
        self._features: Features | None = None
        self._lock = asyncio.Lock()
        self._kept: set[str] = set()
        self._travelling: dict[str, asyncio.Event] = {}
        self._effective: set[str] = set()

    @property
    def known(self) -> Features | None:
        """What was found out, if anything was yet."""
        return self._features

    def forget(self) -> None:
        """Ask again before the next request: the server may have been started anew."""
        self._features = None
        self._kept.clear()
        self._effective.clear()

    async def features(self) -> Features:
        async with self._lock:
            if self._features is None:
                self._features = await self._find_out()
            return self._features

    # ---- requests ------------------------------------------------------------------------------------------------

    def request(
        self, model: str, prompt: Prompt, media: Sequence[Encoded], *, begun: str | None = None, resend: bool = False
    ) -> dict[str, Any]:
        """A chat request about ``prompt``; ``begun`` is the beginning of the answer that is to be continued. Media that
        the server has are only named, unless ``resend``."""
        turns = turns_with(prompt, media, known=lambda name: not resend and name in self._kept)
        extra: dict[str, Any] = {}
        for medium in media:
            extra |= medium.settings
        if begun is not None:
            opened = "<think>\n" if self.dialog.opens_thoughts else ""
            turns.append({"role": "assistant", "content": opened + begun})
            extra |= {"continue_final_message": True, "add_generation_prompt": False}
        return {"model": model, "messages": turns, "extra_body": extra}

    async def complete(
        self, model: str, prompt: Prompt, media: Sequence[Encoded], *, begun: str | None = None, **settings: Any
    ) -> ChatCompletion:
        """One whole answer, greedy unless ``settings`` say otherwise."""
        settings = {"temperature": 0.0, **settings}
        return await self._asked(self.client.complete, model, prompt, media, begun, settings)

    async def stream(
        self,
        take: Callable[[ChatCompletionChunk], None],
        model: str,
        prompt: Prompt,
        media: Sequence[Encoded],
        *,
        begun: str | None = None,
        **settings: Any,
    ) -> None:
        """Hand the pieces of one answer to ``take`` as they come."""

        def taken(piece: ChatCompletionChunk) -> None:
            self._arrived(media)
            take(piece)

        await self._asked(partial(self.client.stream, taken), model, prompt, media, begun, settings)

    async def _asked(
        self,
        call: Callable[..., Awaitable[T]],
        model: str,
        prompt: Prompt,
        media: Sequence[Encoded],
        begun: str | None,
        settings: dict[str, Any],
    ) -> T:
        """``call`` with the whole request; once more with all media where the server's cache has let them go."""
        rest = dict(settings)
        extra = rest.pop("extra_body", {})
        async with self._travel(media):
            for resend in (False, True):
                request = self.request(model, prompt, media, begun=begun, resend=resend)
                request["extra_body"] |= extra
                try:
                    answer = await call(**request, **rest)
                    break
                except RequestRefused as error:
                    if resend or "cache miss" not in error.reason.lower():
                        raise
            self._arrived(media)
        return answer

    @asynccontextmanager
    async def _travel(self, media: Sequence[Encoded]) -> AsyncIterator[None]:
        """Let what the server has not seen travel with one request only; others about it wait until it has arrived.
        Sent with two at once, as by two variants, it would be decoded and prepared twice."""
        # All of them anew after each wait: another request may have taken up one that had landed meanwhile.
        while under_way := [self._travelling[medium.id] for medium in media if medium.id in self._travelling]:
            await under_way[0].wait()
        mine = {medium.id: asyncio.Event() for medium in media if medium.nameable and medium.id not in self._kept}
        self._travelling |= mine
        try:
            yield
        finally:
            self._landed(mine)

    def _arrived(self, media: Sequence[Encoded]) -> None:
        """The server has begun to answer, so it has these media."""
        seen = [medium.id for medium in media if medium.nameable]
        self._kept.update(seen)
        self._landed(seen)

    def _landed(self, names: Iterable[str]) -> None:
        for name in names:
            if under_way := self._travelling.pop(name, None):
                under_way.set()

    async def scores(
        self, model: str, prompt: Prompt, media: Sequence[Encoded], prefix: str, options: Sequence[str]
    ) -> tuple[float, ...]:
        """Summed log-probability of each complete option behind ``prefix``, as ``Engine`` scores them."""
        ids = [tuple(self.dialog.answer_ids(option)[0].tolist()) for option in options]

        async def ask(text: str, settings: dict[str, Any]) -> ChatCompletion:
            return await self.complete(model, prompt, media, begun=text, **settings)

        return await score(ask, prefix, ids, lambda tokens: str(self.dialog.tokenizer.decode(list(tokens))))

    # ---- adapters ------------------------------------------------------------------------------------------------

    async def name_of(self, adapter: AdapterRef | None) -> str:
        """Under which name the server serves ``adapter`` (None: the base); loads it where the server lets us, and
        refuses one that changes nothing."""
        features = await self.features()
        if adapter is None:
            return features.base
        name = adapter.served_name
        async with self._lock:
            if name not in self._effective:
                if name not in features.served:
                    await self._load(adapter)
                await self._require_effect(features, adapter)
                self._effective.add(name)
        return name

    async def _load(self, adapter: AdapterRef) -> None:
        body = {"lora_name": adapter.served_name, "lora_path": str(adapter.folder.resolve())}
        try:
            await self.client.post("/load_lora_adapter", body)
        except RequestRefused as error:
            if "already been loaded" in error.reason:
                return
            raise AdapterError(
                f"The model server at {self.client.url} does not serve the adapter {adapter.name!r} as it is here and "
                "cannot load it; register it on the server's machine and start 'make serve' there again."
            ) from error

    async def _require_effect(self, features: Features, adapter: AdapterRef) -> None:
        """Refuse an adapter that changes no log-probability: it would silently answer as the base does."""
        if not features.scores:
            return
        tokens = self.dialog.answer_ids(" ".join((STATUS, "Mounting")))[0].tolist()
        read = []
        for model in (features.base, adapter.served_name):
            settings = {"logprob_token_ids": tokens, "return_tokens_as_token_ids": True}
            answer = await self.client.complete(
                model=model,
                messages=[{"role": "user", "content": f"{STATUS} Mounting"}],
                temperature=0.0,
                max_tokens=1,
                logprobs=True,
                extra_body=settings,
            )
            read.append(logprobs(answer, tokens))
        if max(abs(read[0][token] - read[1][token]) for token in tokens) <= NO_EFFECT:
            raise AdapterError(f"The adapter {adapter.name!r} is a no-op: it changes nothing in the model's answers.")

    # ---- what the server is --------------------------------------------------------------------------------------

    async def _find_out(self) -> Features:
        cards = await self.client.models()
        served = tuple(card.id for card in cards)
        if self.wanted not in served:
            raise ModelError(
                f"The model server at {self.client.url} serves {names_of(served) or 'nothing'}, not {self.wanted}; "
                "start 'make serve' for this profile, or name the model with HERDLENS_SERVER_MODEL."
            )
        weights = next((name.removeprefix(WEIGHTS) for name in served if name.startswith(WEIGHTS)), None)
        context = next((getattr(card, "max_model_len", None) for card in cards if card.id == self.wanted), None)
        for exact, scores in FORMS:
            try:
                if await self._can(exact=exact, scores=scores):
                    return Features(self.wanted, served, weights, context, exact, scores)
            except ServerFault:
                # Some servers fail at what they do not know; one of 'make serve' knows it, so it has a real fault.
                if weights is not None or (exact, scores) == FORMS[-1]:
                    raise
        raise ModelError(
            f"The model server at {self.client.url} takes no pictures with a question, so {self.wanted} cannot look at "
            "clips there; use a server for vision-language models."
        )

    async def _can(self, *, exact: bool, scores: bool) -> bool:
        """Whether the server takes a clip in this form and scores behind it. MismatchError where it takes exact frames
        and makes other tokens of them than we do."""
        prompt = Prompt(messages("?"), ["probe"], [_probe(self.dialog)])
        media = self.payloads.media(prompt, exact=exact)
        try:
            if not scores:
                await self.complete(self.wanted, prompt, media, max_tokens=1)
                return True
            prefix = scoring_prefix("Look.", STATUS, inside=self.dialog.opens_thoughts)
            token = int(self.dialog.answer_ids(" Mounting")[0, 0])
            extra = {
                "logprob_token_ids": [token],
                "return_tokens_as_token_ids": True,
                "return_token_ids": True,
            }
            answer = await self.complete(
                self.wanted, prompt, media, begun=prefix, max_tokens=1, logprobs=True, extra_body=extra
            )
            logprobs(answer, [token])
        except RequestRefused:
            return False
        theirs = getattr(answer, "prompt_token_ids", None)
        ours = [
            *self.dialog.prompt(prompt.turns, prompt.clips)["input_ids"][0].tolist(),
            *self.dialog.text_ids(prefix)[0].tolist(),
        ]
        if exact and theirs != ours:
            raise MismatchError(
                f"The model server at {self.client.url} prepares clips otherwise than this program does "
                f"({len(theirs or [])} tokens against {len(ours)} for the same pictures); start 'make serve' with this "
                "version and profile."
            )
        return True


def names_of(served: Sequence[str]) -> str:
    """What a server serves, for a person: without the further name that holds a digest."""
    return ", ".join(name for name in served if not name.startswith(WEIGHTS))


def _probe(dialog: Dialog) -> Frames:
    """A clip of noise in the smallest size, at times that no fixed rate explains."""
    side = round(dialog.rule.min_pixels**0.5)
    high, wide = resized_size(side, side, dialog.rule)
    count = dialog.rule.sampling.frames
    rgb = np.random.default_rng(0).integers(0, 256, (count, high, wide, 3), dtype=np.uint8)
    return Frames(rgb, 0.3 + np.cumsum(0.1 + 0.37 * (np.arange(count) % 3)))
