"""What the nodes need from the outside, as Protocols, and the context handed to each run.

``services.model_service.ModelService`` satisfies ``AnalysisServices``; the agent never imports it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from services.schema import (
    Answer,
    Calibration,
    Clip,
    Neighbourhood,
    Novelty,
    Quality,
    RetrievalMode,
    Task,
    VariantName,
    Window,
)


class Cancellation(Protocol):
    """Asked between steps and between tokens; ``threading.Event`` satisfies it."""

    def is_set(self) -> bool: ...


TokenSink = Callable[[str, str], None]
"""Receives (channel, text) as it is generated; channel is ``reasoning`` (inside think tags) or ``answer``."""


class AnalysisServices(Protocol):
    """What HerdLens can do to a clip. All methods are thread-safe and raise only ``services.errors``."""

    @property
    def profile_name(self) -> str: ...

    @property
    def model_name(self) -> str: ...

    @property
    def notice(self) -> str | None:
        """A sentence every report of this profile carries (what the demo model is), or None."""

    def open_clip(self, path: str, window: Window | None, cancelled: Cancellation, *, task: Task = "mounting") -> Clip:
        """Probe, validate and decode once; the frames stay with the service under ``clip.key``. The task ``quality``
        takes single pictures too."""

    def measure_quality(self, clip: Clip) -> Quality: ...

    def measure_novelty(self, clip: Clip) -> Novelty: ...

    def frame_times(self, clip: Clip) -> tuple[float, ...]:
        """Presentation times of the sampled frames, seconds from the first frame of the file."""

    def preprocessing_digest(self, task: Task = "mounting") -> str: ...

    def find_references(self, clip: Clip, mode: RetrievalMode) -> Neighbourhood: ...

    def adapter_for(
        self, variant: VariantName, adapter: str | None, *, task: Task = "mounting"
    ) -> tuple[str | None, tuple[str, ...]]:
        """The adapter that ``variant`` runs with (None for base) and sentences the report must carry about it.
        Raises AdapterError if it cannot be used on this base or was trained for another task."""

    def ask(
        self,
        clip: Clip,
        variant: VariantName,
        adapter: str | None,
        question: str,
        *,
        together: int,
        on_token: TokenSink,
        on_place: Callable[[int], None],
        cancelled: Cancellation,
        task: Task = "mounting",
    ) -> Answer:
        """Generate and score the answers of ``task``; ``quality`` is asked about pictures in native resolution, not
        about the video. ``together``: how many variants of this question come at once (they share one
        batch); ``on_place`` hears the place in line (0: running)."""

    def calibration(self, mode: RetrievalMode, variant: VariantName, adapter: str | None) -> Calibration | None:
        """The verdict rule's numbers; None when nothing was fitted for this profile, mode or adapter. Raises
        MismatchError when the profile's file was fitted for other weights."""


@dataclass(frozen=True)
class RunContext:
    """LangGraph's runtime context of one analysis."""

    services: AnalysisServices
    cancelled: Cancellation = field(default_factory=threading.Event)
