"""A report as a person reads it in a terminal; plain text, no colour codes, so that it can be piped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from agent.verdict import counting, left_open, percent
from services.schema import DEGRADATION_WORDS, Report

WORDS: Mapping[str, str] = {
    "mounting": "Mounting",
    "normal": "Normal",
    "unclear": "Unclear",
    **{str(kind): words for kind, words in DEGRADATION_WORDS.items()},
}


def lines(report: Report) -> Iterator[str]:
    """The lines of one report, most important first."""
    yield from _quality(report) if report.task == "quality" else _mounting(report)
    span = report.clip.window
    if span.length_s:
        yield f"  Looked at {span.start_s:.1f}–{span.end_s:.1f} s of {report.clip.duration_s:.1f} s; {_times(report)}"
    else:
        yield f"  Looked at one picture; {_times(report)}"
    for warning in report.warnings:
        yield f"  Note: {warning}"


def _mounting(report: Report) -> Iterator[str]:
    p = counting(report.p_mounting, report.decided_by.rule)
    chance = "" if p is None else f" (probability of mounting {percent(p)})"
    yield f"{report.clip.path}: Verdict: {WORDS[report.verdict]}{chance}"
    if report.reason:
        yield f"  Reason: {report.reason}"
    yield f"  Decided by: {report.decided_by.rule}, {report.decided_by.variant} model"
    for variant in report.variants:
        name = variant.name if variant.adapter is None else f"{variant.name} ({variant.adapter})"
        if variant.error:
            yield f"  {name}: failed: {variant.error}"
            continue
        score = "no score" if variant.p_mounting is None else f"score {variant.p_mounting:.2f}"
        unsure = left_open(variant.verdict, variant.p_decided, report.decided_by.rule)
        if unsure is not None:
            score += f" (all in all {percent(unsure)}, not sure enough for a verdict from this model)"
        yield f"  {name}: {WORDS[variant.verdict]}, {score}, text {variant.text_verdict}, {variant.seconds:.1f} s"
    for hit in report.neighbours[:3]:
        yield f"  Similar ({hit.similarity:.2f}, {hit.label}): {hit.description}"


def _quality(report: Report) -> Iterator[str]:
    yield f"{report.clip.path}: Picture quality: {_graded(report.verdict, report.severity)}"
    if report.reason:
        yield f"  Advice: {report.reason}"
    yield f"  Decided by: {report.decided_by.rule}, {report.decided_by.variant} model"
    for variant in report.variants:
        name = variant.name if variant.adapter is None else f"{variant.name} ({variant.adapter})"
        if variant.error:
            yield f"  {name}: failed: {variant.error}"
            continue
        score = "no score" if not variant.class_scores else f"score {max(variant.class_scores.values()):.2f}"
        found = _graded(variant.verdict, variant.severity)
        yield f"  {name}: {found}, {score}, text {variant.text_verdict}, {variant.seconds:.1f} s"
    measured = report.quality
    yield f"  Measured: {_graded(measured.grade.kind, measured.grade.severity)}, score {measured.score:.2f}"
    for finding in measured.findings:
        yield f"    {finding.text}"


def _graded(kind: str, severity: int | None) -> str:
    return f"{WORDS[kind]}, severity {severity} of 4" if severity else WORDS[kind]


def _times(report: Report) -> str:
    return ", ".join(f"{key.removesuffix('_s')} {value:.2f} s" for key, value in report.timings.items())
