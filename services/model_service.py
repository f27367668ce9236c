"""The composition root: everything an analysis needs, loaded once per process and shared by all sessions.

Thread-safe. Nothing is loaded before it is needed; ``warm_up`` loads it all. Satisfies ``agent.deps.AnalysisServices``.
Each of its rooms is a file of its own: what is loaded (``model_parts``, which it extends), opened clips
(``open_clips``), asking (``asking``), adapters (``adapter_choice``), playable files (``playback``), clips whose content
is known (``known_clips``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from services import adapter_choice, known_clips, quality, task_media, video
from services.adapters import AdapterRecord, AdapterRegistry
from services.asking import answer_of
from services.chat.chat_model import AdapterRef, ClipChatModel
from services.chat.engine import Engine
from services.clip_sources import SampleClip
from services.comparisons import Comparisons
from services.errors import ResourceError
from services.history import History
from services.library import Reference
from services.model_parts import ModelParts
from services.open_clips import OpenClips
from services.playback import Playback
from services.practice import PracticeClips
from services.schema import (
    Answer,
    Calibration,
    Clip,
    Label,
    Neighbourhood,
    Novelty,
    Quality,
    RetrievalMode,
    Task,
    VariantName,
    Window,
)
from services.settings import Profile, Settings, load_settings, profile
from services.training_runs import TrainingRuns
from services.training_set import TrainingClip
from services.video_link import Cancellation


class ModelService(ModelParts):
    """See the module. Construct through ``build`` outside of tests and evaluation. ``reader``: what opens clips, where
    it is another than usual; the service closes it."""

    def __init__(self, settings: Settings, chosen: Profile, reader: video.VideoReader | None = None) -> None:
        super().__init__(settings, chosen)
        proxies = settings.data / "proxies"
        self.history = History(settings.data / "history", derived=[proxies])
        self.adapters = AdapterRegistry.of(settings, chosen)
        self.runs = TrainingRuns(settings.data / "runs")
        self.practice = PracticeClips(settings.data / "practice")
        self.comparisons = Comparisons(settings.data / "comparisons")
        self.reader = reader or video.VideoReader()
        self.clips = OpenClips(self.reader, self)
        self._choice = adapter_choice.AdapterChoice(self.adapters, self)
        self._playback = Playback(self.reader, chosen, proxies)
        self._known = known_clips.KnownClips(self, self.history, self.clips)

    def release(self) -> bool:
        """Give the memory of models and decoded clips back; they load again with the next request. False while requests
        wait or run."""
        if not super().release():
            return False
        self.clips.clear()
        return True

    def free_for_training(self) -> bool:
        """Give a training on the same GPU its room; False while requests wait or run."""
        return self.device != "cuda" or self.release()

    def _load_engine(self) -> Engine:
        """Beside a training on the same GPU there is no room: both would fail half-way."""
        running = self.runs.active() if self.device == "cuda" else None
        if running is not None:
            raise ResourceError(
                f"The training “{running.name}” is using the GPU's memory; try again when it has ended, or stop it on "
                "the page Train (it can be resumed)."
            )
        return super()._load_engine()

    def close(self) -> None:
        self.reader.close()
        self.backend.close()

    # ---- what the agent asks for (agent.deps.AnalysisServices) ---------------------------------------------------

    @property
    def profile_name(self) -> str:
        return self.profile.name

    @property
    def model_name(self) -> str:
        return self.profile.base_model

    @property
    def notice(self) -> str | None:
        return self.profile.notice

    def open_clip(self, path: str, window: Window | None, cancelled: Cancellation, *, task: Task = "mounting") -> Clip:
        return self.clips.open(path, window, cancelled, task).clip

    def measure_quality(self, clip: Clip) -> Quality:
        return quality.measure(self.clips.of(clip).frames, clip)

    def measure_novelty(self, clip: Clip) -> Novelty:
        if self.novelty is None:
            return Novelty(0.0, None)
        held = self.clips.of(clip)
        return self.novelty.score(held.frames, held.resized, self.clips.embedding(clip))

    def frame_times(self, clip: Clip) -> tuple[float, ...]:
        return tuple(round(float(t), 3) for t in self.clips.of(clip).frames.pts_s)

    def find_references(self, clip: Clip, mode: RetrievalMode) -> Neighbourhood:
        if mode == "off":
            return Neighbourhood("off")
        vector = self.clips.embedding(clip)
        return self.library.neighbourhood(vector, mode, self.profile.neighbours, exclude_sha256=clip.sha256)

    def adapter_for(
        self, variant: VariantName, adapter: str | None, *, task: Task = "mounting"
    ) -> tuple[str | None, tuple[str, ...]]:
        if variant == "base":
            return None, self.backend.warnings
        record, warnings = self._choice.named(adapter, task)
        return record.name, (*warnings, *self.backend.warnings)

    def ask(
        self,
        clip: Clip,
        variant: VariantName,
        adapter: str | None,
        question: str,
        *,
        together: int,
        on_token: Callable[[str, str], None],
        on_place: Callable[[int], None],
        cancelled: Cancellation,
        task: Task = "mounting",
    ) -> Answer:
        shown = task_media.media(task, clip, self.clips.of(clip).frames, self.rule)
        return answer_of(
            self.chat,
            [*shown, {"type": "text", "text": question}],
            task_media.options(task),
            variant,
            None if adapter is None else self.reference(self.adapters.get(adapter)),
            together=together,
            on_token=on_token,
            on_place=on_place,
            cancelled=cancelled,
        )

    def calibration(self, mode: RetrievalMode, variant: VariantName, adapter: str | None) -> Calibration | None:
        if adapter is not None and not self.is_calibrated(adapter):
            return None
        return self.calibration_file.rule(mode, variant)

    @property
    def chat(self) -> ClipChatModel:
        """The chat model; its weights load with the first request."""
        return self.backend.chat

    # ---- what the browser and the command line ask for besides; each is documented in its room -------------------

    def frame_jpegs(self, clip: Clip) -> list[bytes]:
        return self.clips.frame_jpegs(clip)

    def view_jpegs(self, clip: Clip) -> list[bytes]:
        return self.clips.view_jpegs(clip)

    def thumbnail(self, clip: Clip, width: int = video.THUMBNAIL_WIDTH) -> bytes:
        """A small picture of what was looked at, JPEG."""
        return video.thumbnail(self.clips.of(clip).frames, width)

    def playable(self, clip_path: str, window: Window | None = None) -> tuple[Path, float]:
        return self._playback.playable(clip_path, window)

    def cut(self, clip: TrainingClip, target: Path) -> bool:
        return self._playback.cut(clip, target)

    def samples(self) -> list[SampleClip]:
        return self._known.samples()

    @property
    def sample_clips(self) -> list[TrainingClip]:
        return self._known.sample_clips

    def own_clips(self) -> list[TrainingClip]:
        return self._known.own_clips()

    def known_labels(self) -> dict[str, Label]:
        return self._known.labels()

    def media_files(self) -> list[Path]:
        return self._known.media_files()

    def annotation_files(self) -> list[Path]:
        return self._known.annotation_files()

    def annotated(self, file: Path) -> list[tuple[Path, Label | None]]:
        return known_clips.annotated(file)

    def add_reference(self, clip_path: str, label: Label, description: str, window: Window | None = None) -> Reference:
        """Embed a clip, or ``window`` of it, and file it in the user's library under ``label``."""
        return self._known.add_reference(self.open_clip(clip_path, window, threading.Event()), label, description)

    def adapter_names(self, task: str | None = None) -> list[str]:
        return self._choice.names(task)

    def adapter_problem(self, record: AdapterRecord) -> str | None:
        return self._choice.problem(record)

    def add_adapter(self, folder: Path, name: str | None = None) -> AdapterRecord:
        return self._choice.add(folder, name)

    def is_calibrated(self, adapter: str) -> bool:
        return self._choice.is_calibrated(adapter)

    @staticmethod
    def reference(record: AdapterRecord) -> AdapterRef:
        return adapter_choice.reference(record)


def build(settings: Settings | None = None, profile_name: str | None = None) -> ModelService:
    """The service for ``profile_name`` (default: the settings' profile)."""
    settings = settings or load_settings()
    return ModelService(settings, profile(profile_name or settings.profile))
