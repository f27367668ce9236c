"""Results as plain lines (Markdown where there is a table) for the terminal; the report says more."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from evaluation.baseline import Baseline
from evaluation.metrics import Estimate, Scores, auc, confusion, scores
from evaluation.neighbours import FOLLOWING_LIMIT, Following, pull
from evaluation.records import ResultFile
from evaluation.views import View, views

HEAD = (
    "n", "accuracy", "answered", "accuracy of answered", "precision", "recall", "specificity", "F1",
    "balanced accuracy", "AUC",
)  # fmt: skip


def run_lines(result: ResultFile, name: str) -> Iterator[str]:
    """One row for each way of reading ``result``, then how the shown case pulled."""
    yield from table(views(result, name))
    for view in views(result, name):
        found = pull(view)
        if found and found.wrong and view.reading != "neighbours":
            yield (
                f"{view.title}: {found.resisted.hits} of {found.wrong} wrong first cases resisted; "
                f"{found.errors_with} of {found.errors} errors have the first case's label."
            )
    failed = sum(clip.error is not None for clip in result.clips)
    if failed:
        yield f"{failed} of {len(result.clips)} clips could not be analysed; they count as not answered."


def table(found: Sequence[View]) -> Iterator[str]:
    """A Markdown table of measures with 95 % intervals."""
    yield f"| result | {' | '.join(HEAD)} |"
    yield "|---" * (len(HEAD) + 1) + "|"
    for view in found:
        yield f"| {view.title} | {' | '.join(cells(view))} |"


def cells(view: View) -> list[str]:
    """The cells of one row under HEAD."""
    counts = confusion(view.truth, view.answers)
    s: Scores = scores(counts)
    area = auc(*view.scored())
    middle = (
        s.accuracy, s.coverage, s.accuracy_answered, s.precision, s.recall, s.specificity, s.f1, s.balanced_accuracy,
    )  # fmt: skip
    return [str(counts.n), *map(shown, middle), shown(area)]


def leak_lines(found: Sequence[Following]) -> Iterator[str]:
    """One sentence for each variant."""
    for entry in found:
        e = entry.followed
        yield (
            f"{entry.variant}: {e.hits} of {e.n} verdicts that are right without retrieval turn into the opposite when "
            f"the labels of all references are swapped: {shown(e)} ({_limit(entry)}); "
            f"{entry.became_unclear} become unclear."
        )
        if entry.untouched is not None:
            u = entry.untouched
            yield f"{entry.variant}: with the labels as they are, {u.hits} of {u.n} turn: {shown(u)}."


def _limit(entry: Following) -> str:
    return f"{'within' if entry.within_limit else 'above'} the limit of {FOLLOWING_LIMIT:.0%}"


def baseline_lines(found: Baseline) -> Iterator[str]:
    """The baseline as Markdown."""
    yield "| arm | n | accuracy | precision | recall | specificity | F1 | balanced accuracy |"
    yield "|---|---|---|---|---|---|---|---|"
    for title, s in found.scores.items():
        cells = (s.accuracy, s.precision, s.recall, s.specificity, s.f1, s.balanced_accuracy)
        yield f"| {title} | {found.confusion[title].n} | " + " | ".join(map(shown, cells)) + " |"
    yield f"| neighbour alone | {found.pull.n} | {shown(found.neighbour_alone)} | | | | | |"
    yield ""
    p = found.pull
    yield f"{p.errors_with} of {p.errors} errors with retrieval have the wrong neighbour's label."
    yield f"{p.resisted.hits} of {p.wrong} wrong neighbours were resisted ({shown(p.resisted)})."
    q = found.paired
    yield (
        f"Exact McNemar on the {q.n} clips that both arms saw: {q.only_second} right only with retrieval, "
        f"{q.only_first} right only without, p = {q.p:.2f}. "
        "The arms saw different frames, so this is no clean comparison."
    )
    parts = [f"{title} {c.mounting_open + c.normal_open}" for title, c in found.confusion.items()]
    yield f"Answers without a Status line (counted as wrong): {', '.join(parts)}."


def shown(e: Estimate) -> str:
    """``.821 [.726, .888]``; a dash where nothing was counted."""
    if math.isnan(e.value):
        return "–"
    return f"{number(e.value)} [{number(e.low)}, {number(e.high)}]"


def number(value: float) -> str:
    """Three decimals without the leading zero; a dash where there is no finite number."""
    if not math.isfinite(value):
        return "–"
    text = f"{value:.3f}"
    return text[1:] if text.startswith("0.") else text
