"""Run a set of labelled clips through the agent's own graph and keep everything it says.

Killed and started again, a run goes on where it stopped. The same data, settings and models give the same answers.
"""

from __future__ import annotations

import importlib.metadata
import platform
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from agent.events import Failed, Finished
from agent.graph import analyze
from agent.verdict import combine, softmax_mounting
from evaluation.altered import AlteredServices, FrameAlteringReader
from evaluation.data import Item, donors, read_data
from evaluation.records import CaseRecord, ClipRecord, Journal, ResultFile, RunSettings, VariantRecord, file_sha256
from evaluation.views import side
from services.errors import Cancelled, HerdLensError, InputError, ResourceError
from services.schema import Answer, Hit, Report, Request, VariantResult, digest_of
from services.settings import Settings, located, profile

if TYPE_CHECKING:
    from services.model_service import ModelService

PACKAGES = ("torch", "transformers", "peft", "qwen-vl-utils", "av", "numpy", "scikit-learn")


def open_service(chosen: Settings, settings: RunSettings) -> ModelService:
    """The service of the run, models loaded: the profile's own, but for ``--scored-only`` and ``--frames``."""
    from services.model_service import ModelService

    found = profile(settings.profile)
    if settings.scored_only:
        found = found.model_copy(update={"max_tokens": 1})
    service = ModelService(chosen, found)
    if settings.frames in ("shuffled", "one"):
        service.reader = FrameAlteringReader(service.reader, settings.frames, settings.seed)  # type: ignore[assignment]
    service.warm_up()
    return service


def digests(service: ModelService, settings: RunSettings) -> dict[str, str]:
    """What decides an answer besides the settings; also raises what a wrong adapter or calibration raises."""
    found = {"preprocessing": service.preprocessing_digest()}
    if settings.mode != "knn":
        found["base"] = service.identity.weights
        if "tuned" in settings.variants:
            name = service.adapter_for("tuned", settings.adapter)
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


def run(
    service: ModelService, settings: RunSettings, items: Sequence[Item], out: Path, *, jobs: int = 1, label: str = "run"
) -> ResultFile:
    """All ``items``, those of an earlier run of the same settings left as they are; writes ``out``. A clip that cannot
    be analysed becomes a record with its error. Raises ResourceError or Cancelled; what is done stays on disk."""
    found = digests(service, settings)
    journal = Journal(out, settings, found)
    cancelled = threading.Event()
    try:
        everyone = read_data(Path(settings.data))[0]
        given = donors(everyone, settings.seed) if settings.frames == "other" else {}
        open_items = [item for item in items if item.video not in journal.done]
        with tqdm(total=len(items), initial=len(items) - len(open_items), desc=label, unit="clip", disable=None) as bar:
            for record in _records(service, settings, open_items, given, cancelled, jobs):
                journal.add(record)
                bar.update()
        result = ResultFile(
            settings=settings,
            digests=found,
            versions=versions(),
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            clips=tuple(journal.done[item.video] for item in items),
        )
        journal.finish(result)
        return result
    finally:
        cancelled.set()
        journal.close()


def _records(
    service: ModelService,
    settings: RunSettings,
    items: Sequence[Item],
    given: dict[str, Item],
    cancelled: threading.Event,
    jobs: int,
) -> Iterator[ClipRecord]:
    """Records in the order of ``items``; with several jobs a clip is decoded while the model is busy with another."""
    if jobs == 1:
        for item in items:
            yield record_of(service, settings, item, given.get(item.video), cancelled)
        return
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(record_of, service, settings, item, given.get(item.video), cancelled) for item in items]
        try:
            for future in futures:
                yield future.result()
        finally:
            cancelled.set()
            for future in futures:
                future.cancel()


def record_of(
    service: ModelService, settings: RunSettings, item: Item, donor: Item | None, cancelled: threading.Event
) -> ClipRecord:
    """One clip. A fault of the clip is recorded; anything else is raised, for it would befall every clip."""
    services = AlteredServices(service, settings, item, donor)
    if settings.mode == "knn":
        return _neighbours_only(services, settings, item, cancelled)
    request = Request(str(item.path), settings.variants, settings.retrieval, settings.adapter)  # type: ignore[arg-type]
    for event in analyze(request, services, cancelled):
        if isinstance(event, Finished):
            return _record(services, settings, item, donor, event.report)
        if isinstance(event, Failed):
            if event.exit_status == InputError.exit_status:
                return _failed(item, event.message)
            kind = {3: ResourceError, 130: Cancelled}.get(event.exit_status, HerdLensError)
            raise kind(event.message if event.exit_status == 130 else f"{item.video}: {event.message}")
    raise RuntimeError("the analysis ended without an event")


def _neighbours_only(
    services: AlteredServices, settings: RunSettings, item: Item, cancelled: threading.Event
) -> ClipRecord:
    started = time.perf_counter()
    try:
        clip = services.open_clip(str(item.path), None, cancelled)
    except InputError as error:
        return _failed(item, str(error))
    inspected = time.perf_counter()
    hood = services.find_references(clip, settings.retrieval)
    ended = time.perf_counter()
    seconds = {"inspect_s": inspected - started, "retrieve_s": ended - inspected, "total_s": ended - started}
    return ClipRecord(
        video=item.video, path=str(item.path), truth=item.truth, metadata=item.metadata, sha256=clip.sha256,
        verdict=side(hood.vote, "unclear"), p_mounting=hood.vote, rule="neighbour vote",  # type: ignore[arg-type]
        shown=_cases(hood.shown), voters=_cases(hood.voters, short=True), vote=hood.vote, seconds=seconds,
    )  # fmt: skip


def _record(
    services: AlteredServices, settings: RunSettings, item: Item, donor: Item | None, report: Report
) -> ClipRecord:
    hood, novelty = services.neighbourhood, services.novelty
    variants = tuple(_variant(services, result, services.answers.get(result.name)) for result in report.variants)
    speaker = next(v for v in variants if v.name == report.decided_by.variant)
    final = settings.mode == "ensemble"
    return ClipRecord(
        video=item.video, path=str(item.path), truth=item.truth, metadata=item.metadata, sha256=report.clip.sha256,
        verdict=report.verdict if final else side(speaker.p_model, speaker.text_verdict),  # type: ignore[arg-type]
        p_mounting=report.p_mounting if final else speaker.p_model,
        rule=report.decided_by.rule if final else "model score", speaker=report.decided_by.variant,
        variants=variants, shown=_cases(hood.shown), voters=_cases(hood.voters, short=True), vote=hood.vote,
        shown_video=donor.video if donor else None, quality=report.quality.score,
        novelty=(novelty.score, novelty.limit), seconds=dict(report.timings), warnings=report.warnings,
    )  # fmt: skip


def _variant(services: AlteredServices, result: VariantResult, answer: Answer | None) -> VariantRecord:
    scores = answer.scores if answer else None
    vote = services.neighbourhood.vote
    rule = services.calibration(services.neighbourhood.mode, result.name)
    return VariantRecord(
        name=result.name, adapter=result.adapter, scores=scores, p_model=result.p_mounting,
        p_final=combine(softmax_mounting(scores), vote, rule) if scores else None,
        verdict=None if result.error else result.verdict, text_verdict=result.text_verdict,
        reasoning=result.reasoning, answer=result.answer, finish_reason=result.finish_reason,
        tokens=answer.tokens if answer else 0, seconds=result.seconds, error=result.error,
    )  # fmt: skip


def _failed(item: Item, message: str) -> ClipRecord:
    return ClipRecord(video=item.video, path=str(item.path), truth=item.truth, metadata=item.metadata, error=message)


def _cases(hits: Sequence[Hit], *, short: bool = False) -> tuple[CaseRecord, ...]:
    return tuple(
        CaseRecord(id=h.id, label=h.label, similarity=h.similarity, description="" if short else h.description)
        for h in hits
    )


def versions() -> dict[str, str]:
    """Python and the libraries that can change an answer."""
    return {"python": platform.python_version(), "machine": platform.machine()} | {
        name: importlib.metadata.version(name) for name in PACKAGES
    }
