"""What a profile is made of: language model, embedder, library, calibration. Each is loaded on first use, once."""

from __future__ import annotations

import logging
import threading
import time
from functools import cached_property
from pathlib import Path

import torch

from services import task_media
from services.calibration import CalibrationFile, read_calibration
from services.chat.backend import Backend
from services.chat.engine import Engine, load_engine
from services.chat.generation import Generation
from services.chat.in_process import InProcess
from services.chat.model_server import ModelServer
from services.dialog import Preprocessing
from services.embedder import Embedder
from services.errors import ModelError
from services.library import Library
from services.model_files import model_folder
from services.model_identity import ModelIdentity, identify
from services.novelty import NoveltyModel
from services.schema import digest_of
from services.settings import Profile, Settings, located

log = logging.getLogger(__name__)

_LOADING = threading.Lock()
"""Held while weights are loaded: transformers switches PyTorch's defaults for the whole process meanwhile, so that two
models loaded at once come out without data."""


class ModelParts:
    """The parts of ``chosen``; thread-safe. Raises what loading raises: ModelError, MismatchError."""

    def __init__(self, settings: Settings, chosen: Profile) -> None:
        self.settings = settings
        self.profile = chosen
        self.backend = self._backend()
        self._parts_lock = threading.RLock()

    @cached_property
    def base_folder(self) -> Path:
        """Folder of the base model's files: in the project, on disk, or in the local hub cache."""
        return model_folder(self.profile.base_model, self.profile.name)

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

    def preprocessing_digest(self, task: str = "mounting") -> str:
        return task_media.contract_of(self.rule, task).digest

    @cached_property
    def embedder(self) -> Embedder:
        with self._parts_lock, _LOADING:
            return Embedder(model_folder(self.profile.embedder, self.profile.name), device=self.device)

    @cached_property
    def library(self) -> Library:
        with self._parts_lock:
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
            embedder=digest_of(self.embedder.provenance),
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
        with self._parts_lock:
            self.__dict__.pop("embedder", None)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return True

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
