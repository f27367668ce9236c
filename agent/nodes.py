"""The four steps: (state, runtime) -> partial state. They decide; ``runtime.context.services`` does."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from langgraph.runtime import Runtime
from langgraph.types import Send

from agent import verdict
from agent.deps import RunContext
from agent.events import Inspected, QueuePlace, Retrieved, StepFinished, StepStarted, Token
from agent.prompts import mounting_question
from agent.state import AnalysisState, ClassifyTask
from services.errors import Cancelled, HerdLensError, ModelError
from services.schema import Answer, Calibration, Decision, Novelty, Quality, Report, Task, VariantName, VariantResult

log = logging.getLogger(__name__)


def inspect(state: AnalysisState, runtime: Runtime[RunContext]) -> dict[str, Any]:
    """Validate and decode the clip once; measure picture quality."""
    services, emit = runtime.context.services, runtime.stream_writer
    request, started = state["request"], time.perf_counter()
    emit(StepStarted("inspect"))
    clip = services.open_clip(request.path, request.window, runtime.context.cancelled, task=request.task)
    quality = services.measure_quality(clip)
    times = services.frame_times(clip)
    seconds = time.perf_counter() - started
    emit(Inspected(clip, quality, times))
    emit(StepFinished("inspect", seconds))
    warnings = [*clip.warnings, *(finding.text for finding in quality.findings)]
    return {
        "clip": clip,
        "quality": quality,
        "frame_times_s": times,
        "warnings": warnings,
        "timings": {"inspect_s": seconds},
    }


def retrieve(state: AnalysisState, runtime: Runtime[RunContext]) -> dict[str, Any]:
    """Look up similar reference clips; measure how far the pictures lie from the training data."""
    services, emit = runtime.context.services, runtime.stream_writer
    mode, started = state["request"].retrieval, time.perf_counter()
    _stop_if_cancelled(runtime)
    emit(StepStarted("retrieve"))
    neighbourhood = services.find_references(state["clip"], mode)
    novelty = services.measure_novelty(state["clip"])
    seconds = time.perf_counter() - started
    emit(Retrieved(neighbourhood))
    emit(StepFinished("retrieve", seconds))
    warnings = []
    if mode != "off" and not neighbourhood.shown:
        warnings.append("The reference library is empty, so nothing was compared; add annotated clips to it.")
    if novelty.outside:
        warnings.append(_novelty_sentence(novelty))
    return {
        "neighbourhood": neighbourhood,
        "novelty": novelty,
        "warnings": warnings,
        "timings": {"retrieve_s": seconds},
    }


def fan_out(state: AnalysisState, runtime: Runtime[RunContext]) -> Sequence[Send]:
    """One branch of classify per variant. A variant whose adapter cannot be used still gets its branch, which
    then reports the reason: one failing variant does not take the other down."""
    variants = state["request"].variants
    return [
        Send(
            "classify",
            ClassifyTask(
                clip=state["clip"],
                neighbourhood=state["neighbourhood"],
                variant=variant,
                adapter=state["request"].adapter,
                together=len(variants),
            ),
        )
        for variant in variants
    ]


def classify(state: ClassifyTask, runtime: Runtime[RunContext]) -> dict[str, Any]:
    """Ask the vision-language model: stream its text, then score both continuations of ``Status:``."""
    hood = state["neighbourhood"]
    return ask(state, runtime, mounting_question(hood.mode, hood.shown), "mounting")


def ask(state: ClassifyTask, runtime: Runtime[RunContext], question: str, task: Task) -> dict[str, Any]:
    """One variant's answer to ``question``; a variant that fails answers with the reason."""
    services, emit = runtime.context.services, runtime.stream_writer
    variant, started = state["variant"], time.perf_counter()
    _stop_if_cancelled(runtime)
    emit(StepStarted("classify", variant))
    adapter: str | None = None
    warnings: tuple[str, ...] = ()
    try:
        adapter, warnings = services.adapter_for(variant, state["adapter"], task=task)
        answer = services.ask(
            state["clip"],
            variant,
            adapter,
            question,
            together=state["together"],
            on_token=lambda channel, text: emit(Token(variant, channel, text)),
            on_place=lambda place: emit(QueuePlace(variant, place)),
            cancelled=runtime.context.cancelled,
            task=task,
        )
    except Cancelled:
        raise
    except HerdLensError as error:
        answer = Answer(variant, adapter, error=str(error), seconds=time.perf_counter() - started)
    except Exception as error:  # the other variant must still answer; details for engineers go to the log
        log.exception("the %s variant failed", variant)
        text = f"The {variant} model failed ({type(error).__name__}); see the log for details."
        answer = Answer(variant, adapter, error=text, seconds=time.perf_counter() - started)
    seconds = time.perf_counter() - started
    emit(StepFinished("classify", seconds, variant))
    return {"answers": [answer], "warnings": list(warnings), "timings": {"classify_s": seconds}}


def report(state: AnalysisState, runtime: Runtime[RunContext]) -> dict[str, Any]:
    """Judge every variant, choose the one that speaks for the clip, and put everything into one object."""
    services, emit = runtime.context.services, runtime.stream_writer
    emit(StepStarted("report"))
    request, answers = state["request"], {answer.name: answer for answer in state["answers"]}
    hood, quality, novelty = state["neighbourhood"], state["quality"], state["novelty"]
    require_one(answers)

    warnings = list(state.get("warnings", []))
    judged: dict[str, tuple[VariantResult, verdict.Judgement]] = {}
    for name in request.variants:
        answer = answers[name]
        text = verdict.text_verdict(answer.answer)
        fitted = services.calibration(hood.mode, name, answer.adapter)
        if fitted is None and not answer.error:
            warnings.append(f"The {name} model's probability is not calibrated, so take it as a rough guide.")
        judgement = verdict.judge(
            None if answer.error else answer.scores,
            "unparsed" if answer.error else text,
            hood.vote,
            fitted or Calibration(),
            quality=quality,
            novelty=novelty,
        )
        judged[name] = (_variant_result(answer, text, judgement), judgement)
        warnings += _variant_warnings(answer, text)

    speaker, stands_in = speaker_of(answers)
    warnings += stands_in
    result, judgement = judged[speaker]
    if services.notice:
        warnings.append(services.notice)
    finished = Report(
        clip=state["clip"],
        profile=services.profile_name,
        model=services.model_name,
        retrieval=hood.mode,
        verdict=judgement.verdict,
        p_mounting=judgement.p_mounting,
        decided_by=Decision(judgement.rule, result.name),
        reason=_reason(result, quality, novelty),
        variants=tuple(judged[name][0] for name in request.variants),
        neighbours=_shown_then_voters(state),
        quality=quality,
        timings=state["timings"] | {"total_s": sum(state["timings"].values())},
        warnings=tuple(dict.fromkeys(warnings)),
        frame_times_s=state["frame_times_s"],
        preprocessing=services.preprocessing_digest(),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    emit(StepFinished("report", 0.0))
    return {"report": finished}


def require_one(answers: Mapping[VariantName, Answer]) -> None:
    """Raise ModelError with every reason where no variant answered."""
    if all(answer.error for answer in answers.values()):
        raise ModelError(" ".join(dict.fromkeys(answer.error or "" for answer in answers.values())))


def speaker_of(answers: Mapping[VariantName, Answer]) -> tuple[VariantName, list[str]]:
    """The variant that speaks for the clip, and a warning where it stands in for another."""
    names: tuple[VariantName, ...] = ("tuned", "base")
    speaker = next(name for name in names if name in answers and not answers[name].error)
    if "tuned" in answers and speaker == "base":
        return speaker, ["The tuned model failed, so the base model's answer decides."]
    return speaker, []


def _reason(result: VariantResult, quality: Quality, novelty: Novelty) -> str:
    """Why the verdict is what it is: the pictures, where they forbid one, else what the deciding model wrote."""
    if quality.blocking:
        return " ".join(finding.text for finding in quality.findings)
    if novelty.outside:
        return _novelty_sentence(novelty)
    return verdict.reason_of(result.answer)


def _variant_result(answer: Answer, text: str, judgement: verdict.Judgement) -> VariantResult:
    return VariantResult(
        name=answer.name,
        adapter=answer.adapter,
        p_mounting=verdict.softmax_mounting(answer.scores) if answer.scores else None,
        verdict=judgement.verdict,
        text_verdict=text,  # type: ignore[arg-type]
        reasoning=answer.reasoning,
        answer=answer.answer,
        finish_reason=answer.finish_reason,
        seconds=answer.seconds,
        error=answer.error,
        p_decided=judgement.p_mounting,
    )


def _variant_warnings(answer: Answer, text: str) -> list[str]:
    if answer.error:
        return [f"The {answer.name} model gave no answer: {answer.error}"]
    found = []
    if answer.finish_reason == "length":
        found.append(f"The {answer.name} model's answer was cut off at its length limit.")
    if answer.scores and text != "unparsed":
        scored = "mounting" if answer.scores[0] >= answer.scores[1] else "normal"
        if scored != text:
            found.append(f"The {answer.name} model's text says {text}, but its score says {scored}; the score decides.")
    return found


def _shown_then_voters(state: AnalysisState) -> tuple[Any, ...]:
    hood = state["neighbourhood"]
    return tuple({hit.id: hit for hit in (*hood.shown, *hood.voters)}.values())


def _novelty_sentence(novelty: Novelty) -> str:
    return (
        "These pictures are unlike anything this profile's models were trained on "
        f"(distance {novelty.score:.1f}, limit {novelty.limit:.1f}), so the verdict is unclear."
    )


def _stop_if_cancelled(runtime: Runtime[RunContext]) -> None:
    if runtime.context.cancelled.is_set():
        raise Cancelled("The analysis was cancelled.")
