"""The services of an analysis with one thing changed: what the model reads, sees, or is told about the references.

One object per clip. It satisfies ``agent.deps.AnalysisServices``, so an evaluated clip runs through the agent's own
graph, and it keeps what the report does not carry (scores, tokens, neighbourhood, novelty).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import cv2
import numpy as np
from langchain_core.messages import HumanMessage

from agent.deps import Cancellation, TokenSink
from evaluation.data import Item
from evaluation.records import RunSettings
from evaluation.views import OPPOSITE
from services.chat.chat_model import AdapterRef
from services.dialog import STATUS, STATUS_WORDS
from services.errors import Cancelled
from services.schema import (
    LABELS,
    Answer,
    Calibration,
    Clip,
    Frames,
    Hit,
    Neighbourhood,
    Novelty,
    Quality,
    RetrievalMode,
    Sampling,
    Task,
    VariantName,
    Window,
)
from services.video import VideoReader

if TYPE_CHECKING:
    from services.model_service import ModelService


class AlteredServices:
    """``service`` as the settings of the run change it for ``item``; ``donor``: whose pictures the model sees;
    ``opened``: clips by path that need no second decoding, shared by the runs that look at this clip together."""

    def __init__(
        self,
        service: ModelService,
        settings: RunSettings,
        item: Item,
        donor: Item | None = None,
        opened: dict[str, Clip] | None = None,
    ) -> None:
        self._service = service
        self._opened = {} if opened is None else opened
        self.settings = settings
        self.item = item
        self.donor = donor
        self.answers: dict[str, Answer] = {}
        self.neighbourhood = Neighbourhood("off")
        self.novelty = Novelty(0.0, None)

    # ---- changed -------------------------------------------------------------------------------------------------

    def find_references(self, clip: Clip, mode: RetrievalMode) -> Neighbourhood:
        """The neighbourhood under ``--context`` (changes only what is shown) and ``--swap-labels`` (shown and voting
        labels turn into their opposite; order, likeness and descriptions stay)."""
        found = self._service.find_references(clip, mode)
        if self.settings.context is not None:
            found = dataclasses.replace(found, shown=self._context(clip, found))
        if self.settings.swap_labels:
            found = swapped(found)
        self.neighbourhood = found
        return found

    def _context(self, clip: Clip, found: Neighbourhood) -> tuple[Hit, ...]:
        choice = self.settings.context
        if choice == "none":
            return ()
        if choice == "random":
            return self._random_cases(clip, len(found.shown))
        label = self.item.truth if choice == "right" else OPPOSITE[self.item.truth]
        pair = self._service.find_references(clip, "contrastive").shown
        return tuple(hit for hit in pair if hit.label == label)

    def _random_cases(self, clip: Clip, count: int) -> tuple[Hit, ...]:
        """``count`` references whatever they look like, of each label in turn; the same ones on every run."""
        rng = np.random.default_rng([self.settings.seed, int(clip.sha256[:12], 16)])
        cases: list[Hit] = []
        for label in rng.permutation(LABELS)[:count]:
            pool = [r for r in self._service.library.list(label) if not r.hidden and r.clip_sha256 != clip.sha256]
            if pool:
                chosen = pool[int(rng.integers(len(pool)))]
                cases.append(Hit(chosen.id, chosen.label, 0.0, chosen.description, chosen.origin))
        return tuple(cases)

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
        """The question about this clip, about the donor's pictures, or (mode ``text``) about no pictures at all."""
        if self.settings.mode == "text":
            answer = self._ask_without_video(variant, adapter, question, together, cancelled)
        else:
            seen = clip if self.donor is None else self.open_clip(str(self.donor.path), None, cancelled)
            answer = self._service.ask(
                seen, variant, adapter, question,
                together=together, on_token=on_token, on_place=on_place, cancelled=cancelled, task=task,
            )  # fmt: skip
        self.answers[variant] = answer
        return answer

    def _ask_without_video(
        self, variant: VariantName, adapter: str | None, question: str, together: int, cancelled: Cancellation
    ) -> Answer:
        reference = None
        if adapter is not None:
            record = self._service.adapters.get(adapter)
            reference = AdapterRef(record.name, record.folder, record.digest)
        started = time.perf_counter()
        said = self._service.chat.invoke(
            [HumanMessage(content=[{"type": "text", "text": question}])],
            adapter=reference,
            together=together,
            prefill=STATUS,
            options=tuple(f" {word}" for word in STATUS_WORDS.values()),
            cancelled=cancelled.is_set,
        )
        if cancelled.is_set():
            raise Cancelled("The run was cancelled.")
        about = said.response_metadata
        return Answer(
            name=variant,
            adapter=adapter,
            reasoning=str(said.additional_kwargs["reasoning_content"]).strip(),
            answer=str(said.content).strip(),
            finish_reason=str(about["finish_reason"]),
            scores=about["scores"],
            seconds=time.perf_counter() - started,
            tokens=int(about["tokens"]),
        )

    def measure_novelty(self, clip: Clip) -> Novelty:
        self.novelty = self._service.measure_novelty(clip)
        return self.novelty

    # ---- as they are ---------------------------------------------------------------------------------------------

    @property
    def profile_name(self) -> str:
        return self._service.profile_name

    @property
    def model_name(self) -> str:
        return self._service.model_name

    @property
    def notice(self) -> str | None:
        return self._service.notice

    def open_clip(self, path: str, window: Window | None, cancelled: Cancellation, *, task: Task = "mounting") -> Clip:
        if path not in self._opened:
            self._opened[path] = self._service.open_clip(path, window, cancelled, task=task)
        return self._opened[path]

    def measure_quality(self, clip: Clip) -> Quality:
        return self._service.measure_quality(clip)

    def frame_times(self, clip: Clip) -> tuple[float, ...]:
        return self._service.frame_times(clip)

    def preprocessing_digest(self, task: Task = "mounting") -> str:
        return self._service.preprocessing_digest(task)

    def adapter_for(
        self, variant: VariantName, adapter: str | None, *, task: Task = "mounting"
    ) -> tuple[str | None, tuple[str, ...]]:
        return self._service.adapter_for(variant, adapter, task=task)

    def calibration(self, mode: RetrievalMode, variant: VariantName, adapter: str | None) -> Calibration | None:
        return self._service.calibration(mode, variant, adapter)


def swapped(found: Neighbourhood) -> Neighbourhood:
    """``found`` as if every reference had the other label: the vote turns round with them."""
    return dataclasses.replace(
        found,
        shown=tuple(_turned(hit) for hit in found.shown),
        voters=tuple(_turned(hit) for hit in found.voters),
        vote=None if found.vote is None else 1.0 - found.vote,
    )


def _turned(hit: Hit) -> Hit:
    return dataclasses.replace(hit, label=OPPOSITE[hit.label])


class FrameAlteringReader(VideoReader):
    """A video reader whose pictures are out of order (``shuffled``) or all the middle one (``one``). The time stamps
    stay, so model and embedder get the usual number of frames at the usual times."""

    def __init__(self, choice: str, seed: int) -> None:
        super().__init__()
        self._choice = choice
        self._seed = seed

    def open(
        self,
        path: str,
        sampling: Sampling,
        window: Window | None,
        cancelled: Cancellation,
        *,
        between_pixels: int = 0,
    ) -> tuple[Clip, Frames]:
        clip, frames = super().open(path, sampling, window, cancelled, between_pixels=between_pixels)
        rng = np.random.default_rng([self._seed, int(clip.sha256[:12], 16)])
        rgb, between = frames.rgb[order(len(frames), self._choice, rng)], frames.between
        if between is not None and self._choice == "one":  # the very same picture, not its neighbour
            size = (between.shape[2], between.shape[1])
            between = np.stack([cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in rgb[1:]])
        elif between is not None:
            between = between[order(len(between), self._choice, rng)]
        return clip, Frames(rgb, frames.pts_s, between)


def order(count: int, choice: str, rng: np.random.Generator) -> np.ndarray:
    """(count,) int64: which picture stands at each time. A shuffle is never the right order."""
    if choice == "one":
        return np.full(count, count // 2)
    while True:
        drawn = rng.permutation(count)
        if count < 2 or (drawn != np.arange(count)).any():
            return drawn
