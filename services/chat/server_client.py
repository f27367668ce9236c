"""One OpenAI-compatible server: calls from any thread run on an event loop of the client's own, so that a cancel
closes the connection at once, whatever the call waits for. Opening a request is tried again, a few times and with
growing pauses, where trying again can help; an answer that has begun is never begun again.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

from openai import APIConnectionError, APIStatusError, APITimeoutError, AsyncOpenAI, AsyncStream, OpenAIError, Timeout
from openai.types import Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from services.chat.server_failures import broken_off, foreign, told, unreachable
from services.errors import Cancelled

T = TypeVar("T")

ATTEMPTS = 4
CONNECT_S = 5.0
CANCEL_POLL_S = 0.05
OVERLOADED = frozenset({429, 502, 503, 504})


class ServerClient:
    """``url`` ends in ``/v1``; ``timeout_s`` bounds the wait for the next sign of life of an answer. All methods raise
    ModelError with a sentence when the server does not do its part. Thread-safe."""

    def __init__(self, url: str, key: str | None, timeout_s: float) -> None:
        self.url = url.rstrip("/")
        self.timeout_s = timeout_s
        self._key = key or "none"
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._api: AsyncOpenAI | None = None

    # ---- from other threads --------------------------------------------------------------------------------------

    def wait(self, work: Coroutine[Any, Any, T], cancelled: Callable[[], bool] = lambda: False) -> T:
        """The result of ``work``, run on the client's loop. Cancelled closes its connections."""
        nothing: queue.SimpleQueue[Any] = queue.SimpleQueue()
        running = self._start(work)
        for _ in self._events(running, nothing, cancelled):
            pass
        return running.result()

    def follow(
        self, work: Callable[[Callable[[Any], None]], Coroutine[Any, Any, T]], cancelled: Callable[[], bool]
    ) -> Iterator[Any | T]:
        """What ``work`` puts out while it runs, as it comes, and its result as the last item."""
        events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        running = self._start(work(events.put))
        try:
            yield from self._events(running, events, cancelled)
        finally:
            running.cancel()
        yield running.result()

    def close(self) -> None:
        """Close all connections; the next call opens new ones."""
        with self._lock:
            loop, self._loop, api, self._api = self._loop, None, self._api, None
        if loop is None:
            return
        if api is not None:
            asyncio.run_coroutine_threadsafe(api.close(), loop).result(CONNECT_S)
        loop.call_soon_threadsafe(loop.stop)

    def _start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="server-client", daemon=True).start()
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    @staticmethod
    def _events(running: Future[T], events: queue.SimpleQueue[Any], cancelled: Callable[[], bool]) -> Iterator[Any]:
        while True:
            done = running.done()
            try:
                yield events.get(timeout=0.0 if done else CANCEL_POLL_S)
            except queue.Empty:
                if done:
                    return
            if cancelled():
                running.cancel()
                raise Cancelled("The analysis was cancelled.")

    # ---- on the loop ---------------------------------------------------------------------------------------------

    async def models(self) -> list[Model]:
        listed = await self._tried(lambda: self._opened().models.with_raw_response.list())
        return list(self._read(listed).data)

    async def complete(self, **request: Any) -> ChatCompletion:
        """One whole answer."""
        given = await self._tried(lambda: self._opened().chat.completions.with_raw_response.create(**request))
        answer: ChatCompletion = self._read(given)
        if not answer.choices:
            raise foreign(self.url)
        return answer

    async def stream(self, take: Callable[[ChatCompletionChunk], None], **request: Any) -> None:
        """Hand the pieces of one answer to ``take`` as they come."""
        opened: AsyncStream[ChatCompletionChunk] = await self._tried(
            lambda: self._opened().chat.completions.create(
                stream=True, stream_options={"include_usage": True}, **request
            )
        )
        ended = False
        try:
            async with opened:
                async for piece in opened:
                    ended |= any(choice.finish_reason for choice in piece.choices)
                    take(piece)
        except OpenAIError as error:
            raise told(error, self.url, self.timeout_s, begun=True) from error
        if not ended:  # some servers and proxies that go down close the stream as if it were whole
            raise broken_off(self.url)

    async def post(self, path: str, body: dict[str, Any]) -> str:
        """One of the server's own calls beside the standard, such as loading an adapter."""
        return await self._tried(lambda: self._opened().post(path, body=body, cast_to=str))

    async def version(self) -> str:
        """vLLM's version, which it tells beside the standard."""
        root = self.url.removesuffix("/v1")
        told: Any = await self._tried(lambda: self._opened().get(f"{root}/version", cast_to=object))
        return str(told.get("version", "unknown")) if isinstance(told, dict) else "unknown"

    def _read(self, given: Any) -> Any:
        """A raw answer as the client library's object, which it makes of anything, a proxy's web page included."""
        if "json" not in given.headers.get("content-type", ""):
            raise foreign(self.url)
        return given.parse()

    def _opened(self) -> AsyncOpenAI:
        if self._api is None:
            patience = Timeout(self.timeout_s, connect=CONNECT_S)
            self._api = AsyncOpenAI(base_url=self.url, api_key=self._key, max_retries=0, timeout=patience)
        return self._api

    async def _tried(self, call: Callable[[], Awaitable[T]]) -> T:
        attempts = AsyncRetrying(
            retry=retry_if_exception(_may_help),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.5, max=4.0),
            reraise=True,
        )

        async def once() -> T:
            return await call()

        try:
            return await attempts(once)
        except OpenAIError as error:
            raise told(error, self.url, self.timeout_s) from error


async def together(*work: Coroutine[Any, Any, Any]) -> list[Any]:
    """All results, in order; the first failure ends the others."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def _may_help(error: BaseException) -> bool:
    """A server that is just being started or is overloaded may answer in a moment; one that let the whole time limit
    pass will not."""
    if isinstance(error, APIStatusError):
        return error.status_code in OVERLOADED
    return isinstance(error, APIConnectionError) and (not isinstance(error, APITimeoutError) or unreachable(error))
