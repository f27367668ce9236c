"""Comparisons that outlive the page: one thread each, owned by the process; the page reads their files and snapshots.

Each clip is analysed as on the Analyze screen (base and tuned together, the report filed in the history), then once
more by the tuned model without reference clips. The model's own line keeps the turns between all sessions.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from agent.events import Failed, Finished, Retrieved, Step, StepStarted
from agent.graph import analyze
from agent.verdict import counting
from services.comparisons import COLUMNS, Column, Compared, Comparison, Judged, new_id, now
from services.errors import AdapterError, Cancelled, HerdLensError, InputError
from services.schema import Neighbourhood, Report, Request, RetrievalMode, Window
from ui.history_entry import keep

if TYPE_CHECKING:
    from services.model_service import ModelService

log = logging.getLogger(__name__)

CLIPS_LIMIT = 200
"""Clips of one comparison."""
RUNNING_LIMIT = 3
"""Comparisons that may run at once: each keeps one clip in the model's line."""
PICTURE_WIDTH = 120
"""Pixels; a table of many pictures is sent again as it grows."""
COMPARED_WITH: RetrievalMode = "contrastive"
"""How base and tuned are shown reference clips where the profile itself shows none."""


@dataclass(frozen=True)
class Progress:
    """What a running comparison is at: its clip's number (from 0), the step of its analysis, whether it is asked to
    stop. ``message``: why it ended before its time."""

    index: int = 0
    step: Step | None = None
    stopping: bool = False
    message: str = ""


@dataclass
class _Run:
    comparison: Comparison
    progress: Progress = field(default_factory=Progress)
    cancelled: threading.Event = field(default_factory=threading.Event)
    ended: bool = False


class ComparisonRunner:
    """Starts, resumes, watches and cancels comparisons. Thread-safe; one per process and profile."""

    def __init__(self, service: Callable[[], ModelService], discard: Callable[[Request], None]) -> None:
        self._service = service
        self._discard = discard
        self._runs: dict[str, _Run] = {}
        self._lock = threading.Lock()

    def start(self, clips: Sequence[Compared], adapter: str | None) -> str:
        """The id of a new comparison of ``clips``; ``adapter`` None is the profile's. InputError when there are no
        clips or too many, or too many comparisons run."""
        if not clips:
            raise InputError("There is nothing to compare yet; choose some clips.")
        if len(clips) > CLIPS_LIMIT:
            raise InputError(f"{len(clips)} clips are too many for one comparison; choose at most {CLIPS_LIMIT}.")
        service = self._service()
        used = adapter or service.profile.tuned_for("mounting")
        mode = service.profile.retrieval
        self._launch(
            comparison := Comparison(
                id=new_id(),
                created_at=now(),
                profile=service.profile.name,
                adapter=used,
                digest=_digest(service, used),
                retrieval=COMPARED_WITH if mode == "off" else mode,
                items=tuple(clips),
            )
        )
        return comparison.id

    def resume(self, id: str) -> None:
        """Look at the clips that a cancelled or broken comparison has not looked at. InputError when it runs, or when
        its adapter is another one by now: a table of two adapters under one name would mislead."""
        service = self._service()
        comparison = service.comparisons.get(id)
        if self.state(comparison) == "running":
            raise InputError("This comparison is running already.")
        if comparison.profile != service.profile.name or comparison.digest != _digest(service, comparison.adapter):
            raise InputError("The adapter or the profile has changed since this comparison began; start a new one.")
        self._launch(comparison)

    def cancel(self, id: str) -> None:
        """Ask it to stop; what was looked at stays."""
        run = self._runs.get(id)
        if run is not None:
            run.cancelled.set()

    def progress(self, id: str) -> Progress | None:
        """What it is at; None where this process does not run it, nor did."""
        run = self._runs.get(id)
        return None if run is None else replace(run.progress, stopping=run.cancelled.is_set() and not run.ended)

    def state(self, comparison: Comparison) -> str:
        """``running``, ``finished``, ``cancelled``, or ``broken`` where the process that ran it ended."""
        if comparison.state != "running":
            return comparison.state
        run = self._runs.get(comparison.id)
        if run is not None:
            return "broken" if run.ended else "running"
        store, profile = self._service().comparisons, self._service().profile.name
        lost = store.is_own(comparison) and comparison.profile == profile
        return "broken" if lost or not store.has_owner(comparison) else "running"

    def paths(self) -> set[str]:
        """The clips that comparisons are going to look at."""
        with self._lock:
            running = [run.comparison for run in self._runs.values() if not run.ended]
        return {item.path for comparison in running for item in comparison.items if not item.done}

    def _launch(self, comparison: Comparison) -> None:
        with self._lock:
            known = self._runs.get(comparison.id)
            if known is not None and not known.ended:
                raise InputError("This comparison is running already.")
            if sum(not run.ended for run in self._runs.values()) >= RUNNING_LIMIT:
                raise InputError(f"{RUNNING_LIMIT} comparisons are running already; let one finish or cancel one.")
            run = self._runs[comparison.id] = _Run(self._service().comparisons.own(comparison))
        threading.Thread(target=self._run, args=(run,), name=f"comparison-{comparison.id}", daemon=True).start()

    def _run(self, run: _Run) -> None:
        service = self._service()
        try:
            for index, item in enumerate(run.comparison.items):
                if item.done:
                    continue
                run.progress = Progress(index)
                run.comparison = run.comparison.with_item(index, self._compared(run, service, index, item))
                service.comparisons.save(run.comparison)
                if run.comparison.items[index].error:
                    self._discard(Request(item.path))
            self._close(run, service, replace(run.comparison, state="finished"))
        except Cancelled:
            self._close(run, service, replace(run.comparison, state="cancelled"))
        except HerdLensError as error:
            run.progress = replace(run.progress, message=str(error))
        except Exception as error:
            log.exception("comparison %s failed", run.comparison.id)
            text = f"Something went wrong inside HerdLens ({type(error).__name__}); see the log."
            run.progress = replace(run.progress, message=text)
        finally:
            run.ended = True

    def _close(self, run: _Run, service: ModelService, comparison: Comparison) -> None:
        run.comparison = comparison
        try:
            service.comparisons.save(comparison)
        except HerdLensError as error:  # the file still says running: the page will offer to go on
            run.progress = replace(run.progress, message=str(error))

    def _compared(self, run: _Run, service: ModelService, index: int, item: Compared) -> Compared:
        """The clip with what base and tuned say of it; Cancelled when the user has had enough."""
        comparison = run.comparison
        window = Window(*item.window) if item.window else None
        both = Request(item.path, ("base", "tuned"), comparison.retrieval, comparison.adapter, window)
        report, hood, message = self._analysed(run, service, both)
        if report is None:
            return replace(item, error=message)
        service.comparisons.keep_picture(comparison.id, index, service.thumbnail(report.clip, PICTURE_WIDTH))
        report_id = keep(service, report, item.name, hood)
        columns: dict[Column, Judged] = {variant.name: _judged(report, variant) for variant in report.variants}
        alone = Request(item.path, ("tuned",), "off", comparison.adapter, report.clip.window)
        second, _, message = self._analysed(run, service, alone)
        columns["alone"] = Judged(error=message) if second is None else _judged(second, second.variants[0])
        columns = {name: columns[name] for name in COLUMNS}
        return replace(item, columns=columns, sha256=report.clip.sha256, report_id=report_id)

    def _analysed(
        self, run: _Run, service: ModelService, request: Request
    ) -> tuple[Report | None, Neighbourhood | None, str]:
        """(report, references, message): the message says why there is no report."""
        hood, report, message = None, None, ""
        for event in analyze(request, service, run.cancelled):
            match event:
                case StepStarted(step):
                    run.progress = replace(run.progress, step=step)
                case Retrieved(neighbourhood):
                    hood = neighbourhood
                case Finished(found):
                    report = found
                case Failed(text, status):
                    if status == Cancelled.exit_status:
                        raise Cancelled(text)
                    message = text
        return report, hood, message


def _judged(report: Report, variant: Any) -> Judged:
    if variant.error:
        return Judged(error=variant.error)
    return Judged(variant.verdict, counting(variant.p_decided, report.decided_by.rule), variant.p_mounting)


def _digest(service: ModelService, adapter: str | None) -> str | None:
    """Of the adapter's content; None where there is no such adapter, which each clip's own columns then say."""
    try:
        return service.adapters.get(adapter).digest if adapter else None
    except AdapterError:
        return None
