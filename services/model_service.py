"""The composition root: everything an analysis needs, loaded once per process and shared by all sessions.

Thread-safe. Nothing is loaded before it is needed; ``warm_up`` loads it all. Satisfies ``agent.deps.AnalysisServices``.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import torch
from langchain_core.messages import HumanMessage
from numpy.typing import NDArray

from services import quality, task_media, video
from services.adapters import AdapterRecord, AdapterRegistry, check_base
from services.annotations import read as read_annotations
from services.calibration import CalibrationFile, read_calibration
from services.chat.backend import Backend
from services.chat.chat_model import AdapterRef, ClipChatModel
from services.chat.engine import Engine, load_engine
from services.chat.generation import Generation
from services.chat.in_process import InProcess
from services.chat.model_server import ModelServer
from services.clip_sources import SampleClip, annotation_files, media_files
from services.comparisons import Comparisons
from services.dialog import STATUS, Preprocessing, resize, resize_image
from services.embedder import Embedder
from services.errors import AdapterError, AnnotationError, Cancelled, HerdLensError, ModelError
from services.history import History
from services.library import Library, Reference
from services.model_files import model_folder
from services.model_identity import ModelIdentity, identify
from services.novelty import NoveltyModel
from services.practice import PracticeClips
from services.schema import (
    Answer,
    Calibration,
    Clip,
    Frames,
    Label,
    Neighbourhood,
    Novelty,
    Quality,
    RetrievalMode,
    Task,
    VariantName,
    Window,
)
from services.settings import ROOT, Profile, Settings, load_settings, located, profile
from services.training_runs import TrainingRuns
from services.training_set import TrainingClip, annotated_clips, once, own_clips
from services.video_link import Cancellation
from services.video_still import PICTURE, is_still

log = logging.getLogger(__name__)

SAMPLES = ROOT / "assets" / "demo" / "samples" / "annotations.json"
_LOADING = threading.Lock()
"""Held while weights are loaded: transformers switches PyTorch's defaults for the whole process meanwhile, so that two
models loaded at once come out without data."""
CLIPS_KEPT = 4
"""Decoded clips that stay in memory (16 frames of full HD are 100 MB)."""


@dataclass(slots=True)
class _Open:
    """A clip being worked on."""

    clip: Clip
    frames: Frames
    resized: NDArray[np.uint8]
    embedding: NDArray[np.float32] | None = None


class ModelService:
    """See the module. Construct through ``build`` outside of tests."""

    def __init__(self, settings: Settings, chosen: Profile) -> None:
        self.settings = settings
        self.profile = chosen
        self.history = History(settings.data / "history", derived=[settings.data / "proxies"])
        self.adapters = AdapterRegistry(
            [folder for name in chosen.adapters if (folder := located(name))], settings.data / "adapters"
        )
        self.runs = TrainingRuns(settings.data / "runs")
        self.practice = PracticeClips(settings.data / "practice")
        self.comparisons = Comparisons(settings.data / "comparisons")
        self.reader = video.VideoReader()
        self.backend = self._backend()
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._lock = threading.RLock()

    # ---- parts, loaded on first use ------------------------------------------------------------------------------

    @cached_property
    def base_folder(self) -> Path:
        """Folder of the base model's files: in the project, on disk, or in the local hub cache."""
        return model_folder(self.profile.base_model)

    @property
    def identity(self) -> ModelIdentity:
        return self.backend.identity

    @property
    def engine(self) -> Engine:
        """The engine in this process; ModelError where the profile's is on a server."""
        if isinstance(self.backend, InProcess):
            return self.backend.engine
        raise ModelError(f"The profile {self.profile.name!r} has no model in this process; choose 'demo' or 'cpu'.")

    @property
    def rule(self) -> Preprocessing:
        """The preprocessing contract of the profile's base model."""
        return self.backend.dialog.rule

    @cached_property
    def embedder(self) -> Embedder:
        with self._lock, _LOADING:
            return Embedder(model_folder(self.profile.embedder), device=self.device)

    @cached_property
    def library(self) -> Library:
        with self._lock:
            shipped = located(self.profile.library) if self.profile.library else None
            return Library(shipped, self.settings.data / "library" / self.profile.name, self.embedder.provenance)

    @cached_property
    def novelty(self) -> NoveltyModel | None:
        folder = located(self.profile.embedder)
        return NoveltyModel.load(folder) if folder and NoveltyModel.present(folder) else None

    @cached_property
    def calibration_file(self) -> CalibrationFile:
        path = located(self.profile.calibration) if self.profile.calibration else None
        if path is None:
            return CalibrationFile()
        found = read_calibration(path)
        found.require(
            path,
            preprocessing=self.preprocessing_digest(),
            base=self.identity.weights,
            embedder=self.embedder.provenance.weights,
        )
        return found

    @property
    def device(self) -> str:
        if self.profile.device == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        if self.profile.device == "cuda" and not torch.cuda.is_available():
            raise ModelError(
                f"The profile {self.profile.name!r} needs a CUDA GPU and none was found; choose 'demo' or 'cpu'."
            )
        return self.profile.device

    @property
    def loaded(self) -> bool:
        """Whether the language model is in memory, so that an analysis starts at once."""
        return self.backend.loaded

    def warm_up(self) -> None:
        """Load every model now; raises what loading raises."""
        self.backend.warm_up()
        self.embedder  # noqa: B018
        if self.profile.library:
            self.library.count()
        self.calibration_file  # noqa: B018

    def release(self) -> bool:
        """Give the models' memory back; they load again with the next request. False while requests wait or run."""
        if not self.backend.release():
            return False
        with self._lock:
            self._open.clear()
            self.__dict__.pop("embedder", None)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return True

    def close(self) -> None:
        self.reader.close()
        self.backend.close()

    def _backend(self) -> Backend:
        chosen = self.profile
        generation = Generation(
            chosen.max_tokens, chosen.temperature, chosen.top_k, chosen.repetition_penalty, chosen.scoring
        )
        if chosen.engine == "server":
            return ModelServer(self.settings, chosen, lambda: self.base_folder, generation)
        return InProcess(
            self._load_engine, lambda: identify(self.base_folder, chosen.base_model), chosen.base_model, generation
        )

    def _load_engine(self) -> Engine:
        started = time.perf_counter()
        if self.profile.cpu_threads is not None:
            torch.set_num_threads(self.profile.cpu_threads)
        with _LOADING:
            engine = load_engine(
                self.base_folder,
                self.profile.sampling,
                min_pixels=self.profile.min_pixels,
                max_pixels=self.profile.max_pixels,
                dtype=self.profile.dtype,
                device=self.device,
                quantisation=self.profile.quantisation,
            )
        log.info("loaded %s in %.1f s", self.profile.base_model, time.perf_counter() - started)
        return engine

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
        if task == "quality" and is_still(path):
            clip, frames = self.reader.open_still(path, self.profile.sampling, cancelled)
        else:
            clip, frames = self.reader.open(path, self.profile.sampling, window, cancelled)
        self._hold(clip, frames)
        return clip

    def measure_quality(self, clip: Clip) -> Quality:
        return quality.measure(self._opened(clip).frames, clip)

    def measure_novelty(self, clip: Clip) -> Novelty:
        if self.novelty is None:
            return Novelty(0.0, None)
        held = self._opened(clip)
        return self.novelty.score(held.frames, held.resized, self._embedding(held))

    def frame_times(self, clip: Clip) -> tuple[float, ...]:
        return tuple(round(float(t), 3) for t in self._opened(clip).frames.pts_s)

    def preprocessing_digest(self, task: str = "mounting") -> str:
        return task_media.contract_of(self.rule, task).digest

    def find_references(self, clip: Clip, mode: RetrievalMode) -> Neighbourhood:
        if mode == "off":
            return Neighbourhood("off")
        vector = self._embedding(self._opened(clip))
        return self.library.neighbourhood(vector, mode, self.profile.neighbours, exclude_sha256=clip.sha256)

    def adapter_for(
        self, variant: VariantName, adapter: str | None, *, task: Task = "mounting"
    ) -> tuple[str | None, tuple[str, ...]]:
        if variant == "base":
            return None, self.backend.warnings
        record, warnings = self._adapter_record(adapter, task)
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
        reference = None
        if adapter is not None:
            record = self.adapters.get(adapter)
            reference = self.reference(record)
        started = time.perf_counter()
        shown = task_media.media(task, clip, self._opened(clip).frames, self.rule)
        content = [*shown, {"type": "text", "text": question}]
        texts: dict[str, list[str]] = {"reasoning": [], "answer": []}
        result: dict[str, object] = {}
        for chunk in self.chat.stream(
            [HumanMessage(content=content)],
            adapter=reference,
            together=together,
            prefill=STATUS,
            options=task_media.options(task),
            cancelled=cancelled.is_set,
        ):
            channel = chunk.additional_kwargs.get("channel")
            if channel == "place":
                on_place(int(chunk.additional_kwargs["place"]))
            elif channel in texts:
                texts[channel].append(str(chunk.content))
                on_token(channel, str(chunk.content))
            result |= chunk.response_metadata
        if cancelled.is_set():
            raise Cancelled("The analysis was cancelled.")
        return Answer(
            name=variant,
            adapter=adapter,
            reasoning="".join(texts["reasoning"]).strip(),
            answer="".join(texts["answer"]).strip(),
            finish_reason=str(result["finish_reason"]),
            scores=result["scores"],  # type: ignore[arg-type]
            seconds=time.perf_counter() - started,
            tokens=int(result["tokens"]),  # type: ignore[call-overload]
        )

    def calibration(self, mode: RetrievalMode, variant: VariantName, adapter: str | None) -> Calibration | None:
        fitted = self.calibration_file
        if adapter is not None and fitted.adapters.get(adapter) != self.adapters.get(adapter).digest:
            return None
        return fitted.rule(mode, variant)

    @property
    def chat(self) -> ClipChatModel:
        """The chat model; its weights load with the first request."""
        return self.backend.chat

    # ---- what the browser and the command line ask for besides ---------------------------------------------------

    def samples(self) -> list[SampleClip]:
        """The shipped sample clips, in the order of their annotation file."""
        return [
            SampleClip(entry.media[0], entry.media[0].stem.replace("_", " "), entry.label, entry.reason or "")
            for entry in read_annotations(SAMPLES)
        ]

    def frame_jpegs(self, clip: Clip) -> list[bytes]:
        """The sampled frames as the model saw them (after the common resize), JPEG."""
        return [_jpeg(picture) for picture in self._opened(clip).resized]

    def view_jpegs(self, clip: Clip) -> list[bytes]:
        """The pictures that the quality task showed the model (after the common resize), JPEG."""
        rule = self.rule
        seen = (resize_image(view, rule) for view in task_media.shown(self._opened(clip).frames, rule))
        return [_jpeg(picture.permute(1, 2, 0).contiguous().numpy()) for picture in seen]

    def playable(self, clip_path: str, window: Window | None = None) -> tuple[Path, float]:
        """A file that a browser plays, and the second of the clip at which it begins: the clip itself, or its H.264
        proxy, made once and kept by content digest. Of a recording too long to be re-coded whole the proxy is
        ``window`` (default: the window with most motion)."""
        source = Path(clip_path)
        digest = video.file_digest(str(source))
        proxies = self.settings.data / "proxies"
        if (proxies / f"{digest}.mp4").exists():
            return proxies / f"{digest}.mp4", 0.0
        clip, _ = self.reader.open(str(source), self.profile.sampling, window, threading.Event())
        if video.plays_in_browser(clip):
            return source, 0.0
        span = video.shown_span(clip)
        whole = span.start_s == 0.0 and span.end_s >= clip.duration_s
        proxy = proxies / (f"{digest}.mp4" if whole else f"{digest}_{span.start_s:.3f}_{span.end_s:.3f}.mp4")
        if not proxy.exists():
            proxies.mkdir(parents=True, exist_ok=True)
            video.display_proxy(str(source), clip, str(proxy), span=span)
        return proxy, span.start_s

    def add_reference(self, clip_path: str, label: Label, description: str, window: Window | None = None) -> Reference:
        """Embed a clip, or ``window`` of it, and file it in the user's library under ``label``."""
        clip = self.open_clip(clip_path, window, threading.Event())
        held = self._opened(clip)
        reference = Reference(
            id=f"user-{clip.sha256[:12]}",
            label=label,
            description=description,
            origin="user",
            clip_sha256=clip.sha256,
            clip_path=str(Path(clip_path).resolve()),
            thumbnail=video.thumbnail(held.frames),
            vector=self._embedding(held),
            metadata={"added": time.strftime("%Y-%m-%d"), "window": [clip.window.start_s, clip.window.end_s]},
        )
        return self.library.add([reference], keep_clips=True)[0]

    def media_files(self) -> list[Path]:
        """Videos in the media folder of the settings, long ones too; no path outside of it."""
        return media_files(self.settings.media)

    def annotation_files(self) -> list[Path]:
        """JSON files in the media folder, which may be annotations of its videos."""
        return annotation_files(self.settings.media)

    def annotated(self, file: Path) -> list[tuple[Path, Label | None]]:
        """The clips of an annotation file with their labels; AnnotationError where it cannot be used."""
        return [(entry.video, entry.label) for entry in read_annotations(file) if entry.video is not None]

    def thumbnail(self, clip: Clip, width: int = video.THUMBNAIL_WIDTH) -> bytes:
        """A small picture of what was looked at, JPEG."""
        return video.thumbnail(self._opened(clip).frames, width)

    def adapter_names(self, task: str | None = None) -> list[str]:
        """Adapters of ``task`` that may run on this profile's base (not asked before the base is in memory); all
        registered ones without a task."""
        return [
            record.name
            for record in self.adapters.list()
            if task is None or (record.task == task and not (self.loaded and self.adapter_problem(record)))
        ]

    def adapter_problem(self, record: AdapterRecord) -> str | None:
        """Why this adapter cannot run on this profile's base, in one sentence; None where it can."""
        try:
            self._fits(record)
        except HerdLensError as error:
            return str(error)
        return None

    def add_adapter(self, folder: Path, name: str | None = None) -> AdapterRecord:
        """Register the adapter in ``folder``; the next request can use it. Refused with AdapterError, and not kept,
        where it is malformed, was trained for another base, or is a no-op on this one."""
        before = {record.name for record in self.adapters.list()}
        record = self.adapters.add(folder, name)
        try:
            self._fits(record)
            self.backend.try_adapter(self.reference(record))
        except HerdLensError:
            if record.name not in before:
                self.adapters.remove(record.name)
            raise
        return record

    @staticmethod
    def reference(record: AdapterRecord) -> AdapterRef:
        """``record`` as the engines know it."""
        return AdapterRef(record.name, record.folder, record.digest)

    def is_calibrated(self, adapter: str) -> bool:
        """Whether the profile's verdict rule was fitted for exactly this adapter."""
        return self.calibration_file.adapters.get(adapter) == self.adapters.get(adapter).digest

    def known_labels(self) -> dict[str, Label]:
        """Clip digest to what the clip is known to show: the user's references say it, else the history, else the
        shipped samples' annotations."""
        own = {reference.clip_sha256: reference.label for reference in self.library.list(origin="user")}
        samples = {clip.sha256: clip.label for clip in self.sample_clips}
        return samples | self.history.labels() | own

    @cached_property
    def sample_clips(self) -> list[TrainingClip]:
        """The shipped samples as labelled clips; none where the profile's project has none."""
        try:
            return annotated_clips(SAMPLES, "sample")
        except AnnotationError:
            return []

    def own_clips(self) -> list[TrainingClip]:
        """What the farmer labelled in library and history, each clip once."""
        return once(own_clips(self.library, self.history))

    def cut(self, clip: TrainingClip, target: Path) -> bool:
        """Write the span that ``clip``'s label speaks of to ``target``, where its file is longer than training, which
        takes a file's default window, would look at; say whether that was needed."""
        if clip.window is None:
            return False
        opened, _ = self.reader.open(str(clip.path), self.profile.sampling, clip.window, threading.Event())
        if opened.duration_s <= self.profile.window_s:
            return False
        video.display_proxy(str(clip.path), opened, str(target), span=opened.window)
        return True

    # ---- small parts ---------------------------------------------------------------------------------------------

    def _opened(self, clip: Clip) -> _Open:
        with self._lock:
            held = self._open.get(clip.key)
        if held is not None:
            return held
        if clip.container == PICTURE:
            return self._hold(clip, self.reader.open_still(clip.path, self.profile.sampling, threading.Event())[1])
        return self._hold(clip, self.reader.open(clip.path, self.profile.sampling, clip.window, threading.Event())[1])

    def _hold(self, clip: Clip, frames: Frames) -> _Open:
        """Keep a decoded clip with its common resize, and let the oldest go."""
        resized = resize(frames.rgb, self.rule).permute(0, 2, 3, 1).contiguous().numpy()
        held = _Open(clip, frames, resized)
        with self._lock:
            self._open[clip.key] = held
            self._open.move_to_end(clip.key)
            while len(self._open) > CLIPS_KEPT:
                self._open.popitem(last=False)
        return held

    def _embedding(self, held: _Open) -> NDArray[np.float32]:
        if held.embedding is None:
            held.embedding = self.embedder.embed(held.frames)
        return held.embedding

    def _adapter_record(self, name: str | None, task: Task) -> tuple[AdapterRecord, list[str]]:
        """The adapter called ``name`` (None: the profile's for ``task``), checked against this base, and what to warn
        of."""
        wanted = name or self.profile.tuned_for(task)
        if wanted is None:
            raise AdapterError(
                f"The profile {self.profile.name!r} has no tuned adapter for the task {task!r}; train one or add one "
                "with 'python -m agent adapters add'."
            )
        record = self.adapters.get(wanted)
        if record.task != task:
            raise AdapterError(
                f"The adapter {record.name!r} was trained for the task {record.task!r}, not for {task!r}; choose "
                "another adapter or task."
            )
        return record, self._fits(record)

    def _fits(self, record: AdapterRecord) -> list[str]:
        """What to warn of when ``record`` runs on this base; AdapterError where it must not."""
        return check_base(
            record,
            base_model=self.identity.model,
            architecture=self.identity.architecture,
            weights=self.identity.weights,
            preprocessing=self.preprocessing_digest(record.task),
            compatible_bases=self.profile.compatible_bases,
        )


def build(settings: Settings | None = None, profile_name: str | None = None) -> ModelService:
    """The service for ``profile_name`` (default: the settings' profile)."""
    settings = settings or load_settings()
    return ModelService(settings, profile(profile_name or settings.profile))


def _jpeg(picture: NDArray[np.uint8]) -> bytes:
    done, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
    if not done:
        raise RuntimeError("JPEG encoding failed")
    return data.tobytes()
