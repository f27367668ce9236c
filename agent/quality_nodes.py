"""The steps of the quality task that differ from mounting's: nothing is retrieved, the question is another, and the
report names a degradation. (state, runtime) -> partial state."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from langgraph.runtime import Runtime
from langgraph.types import Send

from agent import verdict_quality
from agent.deps import RunContext
from agent.events import StepFinished, StepStarted
from agent.nodes import ask, require_one, speaker_of
from agent.prompts import quality_question
from agent.state import AnalysisState, ClassifyTask
from agent.verdict_quality import Found
from services.schema import DEGRADATION_WORDS, Answer, Decision, Grade, Quality, Report, VariantResult


def route(state: AnalysisState) -> str | Sequence[Send]:
    """After inspect: mounting goes on to retrieve; quality asks each variant at once."""
    request = state["request"]
    if request.task == "mounting":
        return "retrieve"
    together = len(request.variants)
    return [
        Send("grade", ClassifyTask(clip=state["clip"], variant=name, adapter=request.adapter, together=together))
        for name in request.variants
    ]


def grade(state: ClassifyTask, runtime: Runtime[RunContext]) -> dict[str, Any]:
    """Ask about native-resolution pictures of the clip; all answers of ``schema.GRADES`` are scored."""
    return ask(state, runtime, quality_question(), "quality")


def report(state: AnalysisState, runtime: Runtime[RunContext]) -> dict[str, Any]:
    """Read every variant's finding, choose the one that speaks, and put it beside what was measured."""
    services, emit = runtime.context.services, runtime.stream_writer
    emit(StepStarted("report"))
    request, quality = state["request"], state["quality"]
    answers = {answer.name: answer for answer in state["answers"]}
    require_one(answers)
    found = {name: verdict_quality.judge(a.scores, verdict_quality.text_found(a.answer)) for name, a in answers.items()}
    measured = {finding.text for finding in quality.findings}  # shown by themselves
    warnings = [text for text in state.get("warnings", []) if text not in measured]
    speaker, stands_in = speaker_of(answers)
    warnings += stands_in
    decided = found[speaker]
    for name in request.variants:
        warnings += _variant_warnings(answers[name], found[name])
    warnings += _measured_otherwise(decided, quality)
    if services.notice:
        warnings.append(services.notice)
    finished = Report(
        clip=state["clip"],
        profile=services.profile_name,
        model=services.model_name,
        retrieval="off",
        verdict=decided.kind or "unclear",
        p_mounting=None,
        decided_by=Decision(decided.rule, speaker),
        reason=verdict_quality.reason_of(answers[speaker].answer, decided, quality),
        variants=tuple(_result(answers[name], found[name]) for name in request.variants),
        neighbours=(),
        quality=quality,
        timings=state["timings"] | {"total_s": sum(state["timings"].values())},
        warnings=tuple(dict.fromkeys(warnings)),
        frame_times_s=state["frame_times_s"],
        preprocessing=services.preprocessing_digest("quality"),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        task="quality",
        severity=decided.severity,
        class_scores=decided.scores,
    )
    emit(StepFinished("report", 0.0))
    return {"report": finished}


def _result(answer: Answer, found: Found) -> VariantResult:
    return VariantResult(
        name=answer.name,
        adapter=answer.adapter,
        p_mounting=None,
        verdict="unclear" if answer.error or found.kind is None else found.kind,
        text_verdict=verdict_quality.text_found(answer.answer).kind or "unparsed",
        reasoning=answer.reasoning,
        answer=answer.answer,
        finish_reason=answer.finish_reason,
        seconds=answer.seconds,
        error=answer.error,
        severity=None if answer.error else found.severity,
        class_scores=None if answer.error else found.scores,
    )


def _variant_warnings(answer: Answer, found: Found) -> list[str]:
    if answer.error:
        return [f"The {answer.name} model gave no answer: {answer.error}"]
    told = []
    if answer.finish_reason == "length":
        told.append(f"The {answer.name} model's answer was cut off at its length limit.")
    said = verdict_quality.text_found(answer.answer).kind
    if answer.scores and said is not None and found.kind is not None and said != found.kind:
        told.append(
            f"The {answer.name} model's text says {_word(said)}, but its score says {_word(found.kind)}; "
            "the score decides."
        )
    return told


def _measured_otherwise(found: Found, quality: Quality) -> list[str]:
    """Where the model and the measures name different things, both are told."""
    if found.kind is None or found.kind == quality.grade.kind:
        return []
    return [f"The measures say {_words(quality.grade)}, the model says {_word(found.kind)}; look at the pictures."]


def _word(kind: str) -> str:
    return {str(key): word.lower() for key, word in DEGRADATION_WORDS.items()}[kind]


def _words(grade: Grade) -> str:
    return grade.words.lower()
