"""What the process keeps for all browser sessions: per profile one ModelService, built in the background, and its jobs.

The first page must appear before any model is loaded, so the composition root (which pulls in torch) is imported in
a thread; pages ask ``Desk.service`` and show a note while it is not there yet.
"""

from __future__ import annotations

import gc
import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from services.errors import HerdLensError, ModelError
from services.schema import Report, Request, Window
from services.settings import Profile, Settings, profile
from ui.comparing import ComparisonRunner
from ui.history_entry import keep
from ui.jobs import JobRunner, JobView

if TYPE_CHECKING:
    from services.model_service import ModelService
    from services.training_set import TrainingClip

log = logging.getLogger(__name__)

PLAYER_LIMIT = 200_000_000
"""Bytes: Streamlit holds what a player shows in memory."""
PICTURES_KEPT = 500
"""Small pictures of labelled clips, about 8 kB each."""


class Desk:
    """``warm`` is True once the models are in memory; ``warm_error`` is a sentence when that failed."""

    def __init__(self, settings: Settings, profile_name: str) -> None:
        self.settings = settings
        self.profile: Profile = profile(profile_name)
        self.warm = False
        self.warm_error: str | None = None
        self.jobs = JobRunner(self._require, self._keep, self.forget_clip)
        self.comparisons = ComparisonRunner(self._require, self.forget_clip)
        self._playable: dict[tuple[str, int, int, Window | None], tuple[Path, float]] = {}
        self._pictures: dict[tuple[str, Window | None], bytes] = {}
        self._service: ModelService | None = None
        self._error: HerdLensError | None = None
        self._built = threading.Event()
        threading.Thread(target=self._build, name=f"desk-{profile_name}", daemon=True).start()

    def service(self, wait_s: float = 0.0) -> ModelService | None:
        """The service, or None while it is still being built after ``wait_s``; raises why it cannot be built."""
        if not self._built.wait(wait_s):
            return None
        if self._error is not None:
            raise self._error
        return self._service

    @property
    def ready(self) -> bool:
        """Whether the services could be built; ``service()`` then returns them at once."""
        return self._service is not None

    def _build(self) -> None:
        try:
            from services import model_service

            self._service = model_service.build(self.settings, self.profile.name)
        except HerdLensError as error:
            self._error = error
        except Exception as error:
            log.exception("the services of profile %s could not be built", self.profile.name)
            self._error = ModelError(
                f"Profile {self.profile.name} cannot be started ({type(error).__name__}); see the log."
            )
        self._built.set()
        if self._service is None:
            return
        try:
            self._service.history.sweep()
            self._service.warm_up()
            gc.collect()
            gc.freeze()  # hundreds of thousands of objects that stay: no later collection need look at them
            self.warm = True
        except HerdLensError as error:
            self.warm_error = str(error)
        except Exception as error:
            log.exception("the models of profile %s could not be loaded", self.profile.name)
            self.warm_error = f"The models of profile {self.profile.name} could not be loaded ({type(error).__name__})."

    def playable(self, clip_path: str | Path, window: Window | None = None) -> tuple[Path, float] | None:
        """A file that the browser plays, made once, and the second of the clip at which it begins; None when it is
        larger than what the page can hold. ``window``: the span to show of a recording too long to be shown whole."""
        source = Path(clip_path)
        state = source.stat()
        key = (str(source), state.st_size, state.st_mtime_ns, window)
        found = self._playable.get(key)
        if found is None or not found[0].exists():
            found = self._playable[key] = self._require().playable(str(source), window)
        return found if found[0].stat().st_size <= PLAYER_LIMIT else None

    def picture(self, clip: TrainingClip) -> bytes:
        """A small picture of a labelled clip, JPEG, made once; InputError where the clip cannot be opened."""
        key = (clip.sha256, clip.window)
        if key not in self._pictures:
            if len(self._pictures) >= PICTURES_KEPT:
                self._pictures.clear()
            service = self._require()
            opened = service.open_clip(str(clip.path), clip.window, threading.Event())
            self._pictures[key] = service.thumbnail(opened)
        return self._pictures[key]

    def forget_clip(self, request: Request) -> None:
        """Delete an upload that became no report, unless another analysis is looking at it or going to."""
        wanted = self.comparisons.paths() | {other.path for other in self.jobs.requests()}
        if request.path not in wanted:
            self._require().history.discard_upload(Path(request.path))

    def _require(self) -> ModelService:
        service = self.service(wait_s=600.0)
        if service is None:
            raise ModelError("HerdLens is still starting; try again in a minute.")
        return service

    def _keep(self, report: Report, view: JobView) -> str:
        return keep(self._require(), report, view.clip_name, view.neighbourhood)
