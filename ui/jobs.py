"""Analyses that outlive the page: one thread each, owned by the process, read by the page through snapshots.

A Streamlit rerun abandons the running script, and a refresh or a closed tab ends it; the job goes on and its report
lands in the history. Nothing in here touches ``st``.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from agent.deps import AnalysisServices
from agent.events import (
    STEPS,
    Event,
    Failed,
    Finished,
    Inspected,
    QueuePlace,
    Retrieved,
    Step,
    StepFinished,
    StepStarted,
    Token,
)
from agent.graph import analyze
from services.errors import HerdLensError, InputError, ResourceError
from services.schema import Clip, Neighbourhood, Report, Request, VariantName

log = logging.getLogger(__name__)

JobState = Literal["running", "finished", "failed", "cancelled"]
StepState = Literal["waiting", "running", "done"]

RUNNING_LIMIT = 12
"""Analyses that may wait or run at once; the next one is refused with a sentence."""
KEEP_S = 3600.0
"""How long a finished job can still be asked for (its report stays in the history for good)."""


@dataclass
class StepProgress:
    """One step; ``seconds`` is set when it is done (the longest branch for classify)."""

    state: StepState = "waiting"
    seconds: float = 0.0


@dataclass
class Speech:
    """What one variant has said so far. ``place``: position in the model's line, 0 running, None not yet asked."""

    place: int | None = None
    reasoning: str = ""
    answer: str = ""
    done: bool = False


@dataclass
class JobView:
    """A snapshot. ``report_id`` is set when finished, ``message`` (one sentence) when failed; ``repeatable``: the clip
    was not at fault, so it is kept for another try as long as the job is."""

    id: str
    clip_name: str
    request: Request
    state: JobState = "running"
    steps: dict[Step, StepProgress] = field(default_factory=lambda: {step: StepProgress() for step in STEPS})
    speech: dict[VariantName, Speech] = field(default_factory=dict)
    clip: Clip | None = None
    neighbourhood: Neighbourhood | None = None
    report_id: str | None = None
    message: str = ""
    repeatable: bool = False
    started: float = field(default_factory=time.monotonic)
    ended: float | None = None
    stopping: bool = False

    @property
    def elapsed_s(self) -> float:
        return (self.ended or time.monotonic()) - self.started


@dataclass
class _Job:
    view: JobView
    cancelled: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)


Keep = Callable[[Report, JobView], str]
"""(report, job) -> id in the history; runs in the job's thread."""
Discard = Callable[[Request], None]
"""Called when no report came out: forget what was stored for the clip alone."""


class JobRunner:
    """Starts, watches and cancels analyses. Thread-safe; one per process and profile."""

    def __init__(self, services: Callable[[], AnalysisServices], keep: Keep, discard: Discard) -> None:
        self._services = services
        self._keep = keep
        self._discard = discard
        self._jobs: dict[str, _Job] = {}
        self._lock = threading.Lock()

    def start(self, request: Request, clip_name: str) -> str:
        """The id of a new job; InputError when too many are waiting already."""
        speech = {name: Speech() for name in request.variants}
        job = _Job(JobView(uuid.uuid4().hex[:12], clip_name, request, speech=speech))
        self._forget_old()
        with self._lock:
            if sum(other.view.state == "running" for other in self._jobs.values()) >= RUNNING_LIMIT:
                raise InputError(f"{RUNNING_LIMIT} analyses are waiting already; let one finish or cancel one.")
            self._jobs[job.view.id] = job
        threading.Thread(target=self._run, args=(job,), name=f"analysis-{job.view.id}", daemon=True).start()
        return job.view.id

    def view(self, job_id: str) -> JobView | None:
        """A copy of the job as it stands now; None when there is no such job."""
        job = self._jobs.get(job_id)
        if job is None:
            return None
        with job.lock:
            view = job.view
            return JobView(
                **{
                    **view.__dict__,
                    "stopping": job.cancelled.is_set(),
                    "steps": {step: StepProgress(**progress.__dict__) for step, progress in view.steps.items()},
                    "speech": {name: Speech(**speech.__dict__) for name, speech in view.speech.items()},
                }
            )

    def cancel(self, job_id: str) -> None:
        """Ask the job to stop; it ends as ``cancelled`` within a token or a step."""
        job = self._jobs.get(job_id)
        if job is not None:
            job.cancelled.set()

    def requests(self) -> list[Request]:
        """What the analyses that wait or run look at."""
        with self._lock:
            return [job.view.request for job in self._jobs.values() if job.view.state == "running"]

    def _forget_old(self) -> None:
        now = time.monotonic()
        with self._lock:
            old = [key for key, job in self._jobs.items() if job.view.ended and now - job.view.ended > KEEP_S]
            forgotten = [self._jobs.pop(key) for key in old]
        for job in forgotten:
            if job.view.repeatable:
                self._forget_clip(job.view.request)

    def _run(self, job: _Job) -> None:
        request, report = job.view.request, None
        try:
            for event in analyze(request, self._services(), job.cancelled):
                if isinstance(event, Finished):
                    report = event.report
                with job.lock:
                    _record(job.view, event)
            if report is not None:
                report_id = self._keep(report, job.view)
                with job.lock:
                    job.view.report_id, job.view.state = report_id, "finished"
        except HerdLensError as error:
            with job.lock:
                _record(job.view, Failed(str(error), error.exit_status))
        except Exception as error:
            log.exception("job %s failed", job.view.id)
            with job.lock:
                job.view.state = "failed"
                job.view.message = f"Something went wrong inside HerdLens ({type(error).__name__}); see the log."
        finally:
            if job.view.report_id is None and not job.view.repeatable:
                self._forget_clip(request)
            with job.lock:
                job.view.ended = time.monotonic()

    def _forget_clip(self, request: Request) -> None:
        try:
            self._discard(request)
        except Exception:
            log.exception("the clip of a failed analysis could not be removed")


def _record(view: JobView, event: Event) -> None:
    """Fold one event into the snapshot."""
    match event:
        case StepStarted(step):
            view.steps[step].state = "running"
        case StepFinished(step, seconds, variant):
            progress = view.steps[step]
            progress.seconds = max(progress.seconds, seconds)
            if variant is not None and variant in view.speech:
                view.speech[variant].done = True
            if variant is None or all(speech.done for speech in view.speech.values()):
                progress.state = "done"
        case Inspected(clip):
            view.clip = clip
        case Retrieved(neighbourhood):
            view.neighbourhood = neighbourhood
        case QueuePlace(variant, place):
            view.speech[variant].place = place
        case Token(variant, channel, text):
            speech = view.speech[variant]
            if channel == "reasoning":
                speech.reasoning += text
            else:
                speech.answer += text
        case Failed(message, exit_status):
            view.state = "cancelled" if exit_status == 130 else "failed"
            view.message = message
            view.repeatable = exit_status == ResourceError.exit_status
        case Finished():
            pass
