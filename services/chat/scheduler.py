"""One worker thread per engine: a visible line of requests, batches of variants, and cancel.

Requests with the same ``group`` (same clip, same question, same settings) that say they come ``together`` are run as
one batch; the worker waits a moment for the companions, so that base and tuned share one pass of the vision tower and
one prefill. Everything else waits its turn, first come first served.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from services.chat.chat_model import AdapterRef
from services.chat.engine import Engine, RowResult
from services.chat.generation import Generation
from services.dialog import Message, Picture
from services.errors import Cancelled, HerdLensError, ModelError
from services.schema import Frames

log = logging.getLogger(__name__)

COMPANION_WAIT_S = 0.25
"""How long the worker waits for the other variant of a pair; they start within milliseconds of each other."""


@dataclass(eq=False)
class Ticket:
    """One request and what becomes of it. ``events`` carries token ids (int), places in line (``Place``) and, last,
    the ``RowResult`` or an exception."""

    group: str
    together: int
    clip_key: str
    clips: Sequence[Frames]
    turns: Sequence[Message]
    generation: Generation
    prefill: str
    options: Sequence[str]
    adapter_ref: AdapterRef | None
    cancelled: Callable[[], bool]
    images: Sequence[Picture] = ()
    events: queue.SimpleQueue[int | Place | RowResult | Exception] = field(default_factory=queue.SimpleQueue)

    @property
    def adapter(self) -> str | None:
        return self.adapter_ref.name if self.adapter_ref else None

    def on_token(self, token: int) -> None:
        self.events.put(token)

    def is_cancelled(self) -> bool:
        return self.cancelled()


@dataclass(frozen=True, slots=True)
class Place:
    """Place in line; 0: running."""

    place: int


class Scheduler:
    """Owns the engine's thread. ``load`` runs there on the first request, so construction is instant."""

    def __init__(self, load: Callable[[], Engine]) -> None:
        self._load = load
        self._engine: Engine | None = None
        self._line: list[Ticket] = []
        self._trials: list[tuple[AdapterRef, Future[None]]] = []
        self._busy = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def submit(self, ticket: Ticket) -> None:
        with self._changed:
            self._line.append(ticket)
            self._wake()
        self._tell_places()

    def try_adapter(self, ref: AdapterRef) -> None:
        """Make the adapter resident now, loading the engine if need be; raises what that raises (AdapterError where it
        does not fit or changes no logits). Goes before the line: it takes a moment."""
        done: Future[None] = Future()
        with self._changed:
            self._trials.append((ref, done))
            self._wake()
        done.result()

    def unload(self) -> bool:
        """Let the engine go, so that its memory can be used by others; False while requests wait or run."""
        with self._changed:
            if self._line or self._trials or self._busy:
                return False
            self._engine = None
            return True

    def _wake(self) -> None:
        """Called with the lock held."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._work, name="chat-engine", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def engine(self) -> Engine:
        """The loaded engine; loads it in the caller's thread if need be. Only for set-up and inspection."""
        with self._changed:
            if self._engine is None:
                self._engine = self._load()
            return self._engine

    @property
    def loaded(self) -> bool:
        return self._engine is not None

    def _work(self) -> None:
        while True:
            self._run_trials()
            batch = self._next_batch()
            live = [ticket for ticket in batch if not ticket.is_cancelled()]
            for ticket in batch:
                if ticket not in live:
                    ticket.events.put(Cancelled("The analysis was cancelled."))
            if live:
                self._run(live)
            self._busy = False

    def _run_trials(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: bool(self._line or self._trials))
            trials, self._trials = self._trials, []
            self._busy = True
        for ref, done in trials:
            try:
                self.engine().ensure_adapter(ref.name, ref.folder, ref.digest)
                done.set_result(None)
            except Exception as error:
                done.set_exception(error)

    def _next_batch(self) -> list[Ticket]:
        """Empty where only a trial was asked for."""
        with self._changed:
            if not self._line:
                return []
            first = self._line[0]
            until = time.monotonic() + COMPANION_WAIT_S
            while len(self._companions(first)) < first.together and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
            batch = self._companions(first)
            self._line = [ticket for ticket in self._line if ticket not in batch]
        for ticket in batch:
            ticket.events.put(Place(0))
        self._tell_places()
        return batch

    def _companions(self, first: Ticket) -> list[Ticket]:
        """Of one question; never two adapters of one name, one of which would answer for the other."""
        digests: dict[str, str] = {}
        same = []
        for ticket in self._line:
            ref = ticket.adapter_ref
            if ticket.group == first.group and (ref is None or digests.setdefault(ref.name, ref.digest) == ref.digest):
                same.append(ticket)
        return same[: max(first.together, 1)]

    def _run(self, batch: list[Ticket]) -> None:
        first = batch[0]
        try:
            engine = self.engine()
            ready = [ticket for ticket in batch if self._adapter_ready(engine, ticket)]
            if not ready:
                return
            results = engine.run(
                first.clip_key,
                first.clips,
                first.turns,
                ready,
                first.generation,
                first.prefill,
                first.options,
                first.images,
            )
            for ticket, result in zip(ready, results, strict=True):
                done = result.finish_reason != "cancelled"
                ticket.events.put(result if done else Cancelled("The analysis was cancelled."))
        except HerdLensError as error:
            self._fail(batch, error)
        except Exception as error:
            log.exception("the model failed")
            self._fail(batch, ModelError(f"The model failed on this clip ({type(error).__name__}); see the log."))

    @staticmethod
    def _adapter_ready(engine: Engine, ticket: Ticket) -> bool:
        """An adapter that cannot be loaded fails its own variant only."""
        if ticket.adapter_ref is None:
            return True
        ref = ticket.adapter_ref
        try:
            engine.ensure_adapter(ref.name, ref.folder, ref.digest)
        except HerdLensError as error:
            ticket.events.put(error)
            return False
        return True

    @staticmethod
    def _fail(batch: list[Ticket], error: Exception) -> None:
        for ticket in batch:
            ticket.events.put(error)

    def _tell_places(self) -> None:
        with self._changed:
            groups = list(dict.fromkeys(ticket.group for ticket in self._line))
            for ticket in self._line:
                ticket.events.put(Place(groups.index(ticket.group) + 1))
