"""Run a set of labelled clips through the agent's own graph and keep everything it says.

Killed and started again, a run goes on where it stopped. The same data, settings and models give the same answers.
"""

from __future__ import annotations

import importlib.metadata
import platform
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from evaluation.altered import AlteredServices, FrameAlteringReader
from evaluation.answering import record_of
from evaluation.data import Item, donors, read_data
from evaluation.records import ClipRecord, Journal, ResultFile, RunSettings, file_sha256
from services.schema import Clip, digest_of
from services.settings import Settings, located, profile

if TYPE_CHECKING:
    from services.model_service import ModelService

_Records = list[tuple[int, ClipRecord]]
PACKAGES = ("torch", "transformers", "peft", "qwen-vl-utils", "av", "numpy", "scikit-learn")


def open_service(chosen: Settings, settings: RunSettings) -> ModelService:
    """The service of the run, models loaded: the profile's own, but for ``--scored-only`` and ``--frames``."""
    from services.model_service import ModelService

    found = profile(settings.profile)
    if settings.scored_only:
        found = found.model_copy(update={"max_tokens": 1})
    altered = settings.frames in ("shuffled", "one")
    reader = FrameAlteringReader(str(settings.frames), settings.seed) if altered else None
    service = ModelService(chosen, found, reader)
    service.warm_up()
    return service


def digests(service: ModelService, settings: RunSettings) -> dict[str, str]:
    """What decides an answer besides the settings; also raises what a wrong adapter or calibration raises."""
    found = {"preprocessing": service.preprocessing_digest()}
    if settings.mode != "knn":
        found["base"] = service.identity.weights
        if "tuned" in settings.variants:
            name, _ = service.adapter_for("tuned", settings.adapter)
            found["adapter"] = service.adapters.get(str(name)).digest
    if settings.retrieval != "off":
        references = [r for r in service.library.list() if not r.hidden]
        found["embedder"] = digest_of(service.embedder.provenance)
        found["library"] = digest_of([[r.id, r.label, r.clip_sha256, r.description] for r in references])
    if settings.mode == "ensemble" and service.profile.calibration:
        path = located(service.profile.calibration)
        if path is not None:
            found["calibration"] = file_sha256(path)
    return found


@dataclass(frozen=True, slots=True)
class Job:
    """One run of several that look at the same clips together: its settings, its clips and its result file."""

    settings: RunSettings
    items: Sequence[Item]
    out: Path


def run(
    service: ModelService, jobs: Sequence[Job], *, parallel: int = 1, label: str = "run", replace: bool = False
) -> list[ResultFile]:
    """All clips of all ``jobs``, clip by clip, so that each is decoded and looked at once. What an earlier run of the
    same settings has done stays as it is; with ``replace``, results of other settings or models give way instead of
    being an error. The jobs must suit the one ``service`` (same profile, ``scored_only`` and altered frames). A clip
    that cannot be analysed becomes a record with its error. Raises ResourceError or Cancelled; what is done stays on
    disk."""
    found = [digests(service, job.settings) for job in jobs]
    journals: list[Journal] = []
    cancelled = threading.Event()
    try:
        journals += [
            Journal(job.out, job.settings, marks, replace=replace) for job, marks in zip(jobs, found, strict=True)
        ]
        work = _work(jobs, journals)
        total = sum(len(job.items) for job in jobs)
        left = sum(len(tasks) for _, tasks in work)
        with tqdm(total=total, initial=total - left, desc=label, unit="answer", disable=None) as bar:
            for records in _in_parallel(
                lambda task: _answers(service, jobs, *task, cancelled), work, parallel, cancelled
            ):
                for index, record in records:
                    journals[index].add(record)
                    bar.update()
        return [_finish(job, journal, marks) for job, journal, marks in zip(jobs, journals, found, strict=True)]
    finally:
        cancelled.set()
        for journal in journals:
            journal.close()


_Task = tuple[Item, list[tuple[int, Item | None]]]
"""A clip, and which jobs (by place) still want it, with the clip whose pictures they show instead."""


def _work(jobs: Sequence[Job], journals: Sequence[Journal]) -> list[_Task]:
    tasks: dict[str, _Task] = {}
    for place, (job, journal) in enumerate(zip(jobs, journals, strict=True)):
        s = job.settings
        given = donors(read_data(Path(s.data))[0], s.seed) if s.frames == "other" else {}
        for item in job.items:
            if item.video not in journal.done:
                tasks.setdefault(item.video, (item, []))[1].append((place, given.get(item.video)))
    return list(tasks.values())


def _answers(
    service: ModelService,
    jobs: Sequence[Job],
    item: Item,
    wanted: Sequence[tuple[int, Item | None]],
    cancelled: threading.Event,
) -> list[tuple[int, ClipRecord]]:
    opened: dict[str, Clip] = {}
    return [
        (place, record_of(AlteredServices(service, jobs[place].settings, item, donor, opened), cancelled))
        for place, donor in wanted
    ]


def _in_parallel(
    do: Callable[[_Task], _Records], work: Sequence[_Task], parallel: int, cancelled: threading.Event
) -> Iterator[_Records]:
    """Results in the order of ``work``; with several threads a clip is decoded while the model works on another."""
    if parallel == 1:
        yield from map(do, work)
        return
    with ThreadPoolExecutor(parallel) as pool:
        futures = [pool.submit(do, task) for task in work]
        try:
            for future in futures:
                yield future.result()
        finally:
            cancelled.set()
            for future in futures:
                future.cancel()


def _finish(job: Job, journal: Journal, marks: dict[str, str]) -> ResultFile:
    result = ResultFile(
        settings=job.settings,
        digests=marks,
        versions=versions(),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        clips=tuple(journal.done[item.video] for item in job.items),
    )
    journal.finish(result)
    return result


def versions() -> dict[str, str]:
    """Python and the libraries that can change an answer."""
    return {"python": platform.python_version(), "machine": platform.machine()} | {
        name: importlib.metadata.version(name) for name in PACKAGES
    }
