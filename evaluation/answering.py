"""One clip through the agent's own graph, and everything it says as a record."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from agent.events import Failed, Finished
from agent.graph import analyze
from agent.verdict import combine, softmax_mounting
from evaluation.altered import AlteredServices
from evaluation.data import Item
from evaluation.records import CaseRecord, ClipRecord, RunSettings, VariantRecord
from evaluation.views import side
from services.errors import Cancelled, HerdLensError, InputError, ResourceError
from services.schema import Answer, Calibration, Hit, Report, Request, VariantResult


def record_of(services: AlteredServices, cancelled: threading.Event) -> ClipRecord:
    """One clip. A fault of the clip is recorded; anything else is raised, for it would befall every clip."""
    settings, item, donor = services.settings, services.item, services.donor
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
        verdict=side(hood.vote, "unclear"), p_mounting=hood.vote, rule="neighbour vote",
        shown=_cases(hood.shown), voters=_cases(hood.voters, short=True), vote=hood.vote, seconds=seconds,
    )  # fmt: skip


def _record(
    services: AlteredServices, settings: RunSettings, item: Item, donor: Item | None, report: Report
) -> ClipRecord:
    hood, novelty = services.neighbourhood, services.novelty
    variants = tuple(_variant(services, result, services.answers.get(result.name)) for result in report.variants)
    speaker = next(v for v in variants if v.name == report.decided_by.variant)
    said = "unclear" if speaker.text_verdict == "unparsed" else speaker.text_verdict
    final = settings.mode == "ensemble"
    return ClipRecord(
        video=item.video, path=str(item.path), truth=item.truth, metadata=item.metadata, sha256=report.clip.sha256,
        verdict=report.verdict if final else side(speaker.p_model, said),
        p_mounting=report.p_mounting if final else speaker.p_model,
        rule=report.decided_by.rule if final else "model score", speaker=report.decided_by.variant,
        variants=variants, shown=_cases(hood.shown), voters=_cases(hood.voters, short=True), vote=hood.vote,
        shown_video=donor.video if donor else None, quality=report.quality.score,
        novelty=(novelty.score, novelty.limit), seconds=dict(report.timings), warnings=report.warnings,
    )  # fmt: skip


def _variant(services: AlteredServices, result: VariantResult, answer: Answer | None) -> VariantRecord:
    scores = answer.scores if answer else None
    vote = services.neighbourhood.vote
    rule = services.calibration(services.neighbourhood.mode, result.name, result.adapter) or Calibration()
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
