"""What a report says about accuracy, comparison, probabilities, cost and groups; controls are in ``controls.py``."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import combinations

from evaluation import plots
from evaluation.document import Picture, Run, Section, Table, scored_views
from evaluation.metrics import Estimate, confusion, paired, proportion, scores
from evaluation.reliability import RISK, calibrated, held_out_thresholds
from evaluation.summary import HEAD, cells, number, shown
from evaluation.views import Row, View, common

GROUPS = ("kind", "light", "viewpoints", "viewpoint", "difficulty", "style", "timing", "hidden")
MOST_PAIRS = 24


def what_was_run(found: Sequence[Run]) -> Section:
    section = Section("What was run")
    rows: list[tuple[str, ...]] = []
    for run in found:
        s, result = run.result.settings, run.result
        changed = [f"context {s.context}"] if s.context else []
        changed += ["labels swapped"] if s.swap_labels else []
        changed += [f"frames {s.frames}"] if s.frames else []
        failed = sum(clip.error is not None for clip in result.clips)
        rows.append(
            (run.name, s.mode, s.retrieval, ", ".join(s.variants) or "–", "; ".join(changed) or "nothing",
             "scores only" if s.scored_only else "text and scores" if s.mode not in ("knn", "source") else "–",
             str(len(result.clips)), str(failed), s.profile or "–")
        )  # fmt: skip
    head = ("result", "mode", "retrieval", "models", "changed", "answers", "clips", "failed", "profile")
    section.tables.append(Table(head, tuple(rows)))
    versions = {f"{name} {version}" for run in found for name, version in run.result.versions.items()}
    marks = {f"{name} {digest[:12]}" for run in found for name, digest in run.result.digests.items()}
    section.remarks += [f"Versions: {', '.join(sorted(versions))}."] if versions else []
    section.remarks += [f"Digests: {', '.join(sorted(marks))}."] if marks else []
    return section


def accuracy(found: Sequence[Run]) -> Section:
    section = Section(
        "Accuracy",
        [
            "Each row is one way of reading a run: 'final' is the verdict a user gets, 'model' the model's own score, "
            "'neighbours' the reference clips' vote. In brackets the 95 % interval. A clip without a clear answer "
            "counts against accuracy and recall; 'accuracy of answered' leaves it out."
        ],
    )
    views = [view for run in found for view in run.views]
    section.tables.append(Table(("result", *HEAD), tuple((view.title, *cells(view)) for view in views)))
    rows = [(view.title, *_text_agreement(view)) for view in views if _has_text(view)]
    if rows:
        section.tables.append(Table(("result", "text agrees with score", "text without Status"), tuple(rows)))
    drawn = [view for run in found if not run.is_control for view in run.views] or views
    section.pictures.append(
        Picture(
            "confusion.png", plots.confusion_png(drawn[:12]), "How often each truth (rows) got each answer (columns)"
        )
    )
    return section


def _has_text(view: View) -> bool:
    return view.reading == "model" and not view.result.settings.scored_only


def _text_agreement(view: View) -> tuple[str, str]:
    """Share of parsed texts that say what the score says, and how many texts say nothing."""
    said = [row for row in view.rows if row.said is not None and row.said.p_model is not None]
    parsed = [row for row in said if row.said is not None and row.said.text_verdict != "unparsed"]
    agree = sum(row.said is not None and row.said.text_verdict == row.answer for row in parsed)
    return shown(proportion(agree, len(parsed))), str(len(said) - len(parsed))


def comparisons(found: Sequence[Run]) -> Section | None:
    """Exact McNemar between the headline views, and between the views of one run; controls only if there is
    nothing else."""
    plain = [run for run in found if not run.is_control] or found
    pairs = list(combinations([run.views[0] for run in plain if run.views], 2))
    pairs += [pair for run in plain for pair in combinations(run.views, 2)]
    rows: list[tuple[str, ...]] = []
    for first, second in dict.fromkeys(pairs):
        same = common(first, second)
        if same:
            q = paired([a.right for a, _ in same], [b.right for _, b in same])
            rows.append((first.title, second.title, str(q.n), str(q.only_first), str(q.only_second), _p_value(q.p)))
    if not rows:
        return None
    section = Section(
        "Paired comparison",
        ["On clips that both saw: how many are right in one only, and the exact McNemar test of that difference."],
    )
    head = ("first", "second", "clips", "right in the first only", "right in the second only", "p")
    section.tables.append(Table(head, tuple(rows[:MOST_PAIRS])))
    if len(rows) > MOST_PAIRS:
        section.remarks.append(f"{len(rows) - MOST_PAIRS} further pairs are left out; report fewer results at a time.")
    section.remarks.append("The p values are not corrected for the number of comparisons.")
    return section


def _p_value(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"


def ranking(found: Sequence[Run]) -> Section | None:
    views = _shown_views(found)
    if not views:
        return None
    picture = Picture("roc_pr.png", plots.roc_pr_png(views), "ROC (left) and precision over recall (right)")
    return Section("Every threshold: ROC and precision-recall", pictures=[picture])


def calibration(found: Sequence[Run]) -> Section | None:
    """Reliability and ECE of final and model probabilities."""
    plain = [run for run in found if not run.is_control]
    views = [view for view in scored_views(plain) if view.reading != "neighbours"]
    if not views:
        return None
    section = Section(
        "Calibration",
        [
            "Of clips that are called mounting with probability .8, eight in ten should be mounting. ECE is the mean "
            "gap over 10 bins with equally many clips. 'By chance' is the ECE that a perfect model would show on as "
            "many clips (mean; 95 % stay below the second figure): a smaller ECE than that cannot be told from perfect."
        ],
    )
    rows: list[tuple[str, ...]] = []
    for view in views:
        c = calibrated(*view.scored())
        rows.append(
            (view.title, str(c.n), number(c.ece), f"{number(c.noise)} ({number(c.noise_high)})", number(c.brier))
        )
    section.tables.append(Table(("result", "clips", "ECE", "by chance", "Brier score"), tuple(rows)))
    speaking = [view for view in views if view.variant == view.result.settings.variants[-1]]
    section.pictures.append(
        Picture("reliability.png", plots.reliability_png(speaking[: plots.MOST]), "Said and found probability")
    )
    return section


def coverage(found: Sequence[Run]) -> Section | None:
    views = [view for view in _shown_views(found) if view.reading != "neighbours"]
    if not views:
        return None
    section = Section(
        "Unclear: coverage against accuracy",
        [
            f"First the verdict rule as it stands, then thresholds chosen on one half of these clips so that at most "
            f"{RISK:.0%} of the answered are wrong, tried on the other half, both ways together."
        ],
    )
    rows: list[tuple[str, ...]] = []
    for view in views:
        s = scores(confusion(view.truth, view.answers))
        tried = held_out_thresholds(*view.scored())
        chosen = "; ".join(f"≤ {number(t.normal_below)}, ≥ {number(t.mounting_above)}" for t in tried.chosen)
        measures = map(shown, (s.coverage, s.accuracy_answered, tried.coverage, tried.errors))
        rows.append((view.title, *measures, chosen))
    head = (
        "result",
        "coverage",
        "accuracy of answered",
        "coverage, thresholds",
        "errors, thresholds",
        "chosen (halves)",
    )
    section.tables.append(Table(head, tuple(rows)))
    section.pictures.append(
        Picture("coverage.png", plots.coverage_png(views), "Accuracy when only the surest clips are answered")
    )
    return section


def _shown_views(found: Sequence[Run]) -> list[View]:
    """Scored views for the curves: plain runs first, at most as many as there are colours."""
    plain = scored_views([run for run in found if not run.is_control])
    return (plain or scored_views(found))[: plots.MOST]


def cost(found: Sequence[Run]) -> Section | None:
    """Seconds and tokens per clip."""
    rows: list[tuple[str, ...]] = []
    for run in found:
        timed = not run.result.settings.scored_only  # runs without text share their clips' decoding
        clips = [clip for clip in run.result.clips if timed and "total_s" in clip.seconds]
        if not clips:
            continue
        totals = [clip.seconds["total_s"] for clip in clips]
        parts = [f"{statistics.fmean(c.seconds.get(key, 0.0) for c in clips):.2f}" for key in _STEPS]
        for name in run.result.settings.variants or ("–",):
            said = [v for clip in clips if (v := clip.variant(name)) is not None and v.error is None]
            tokens = f"{statistics.fmean(v.tokens for v in said):.0f}" if said else "–"
            rows.append((run.name, name, str(len(clips)), f"{statistics.median(totals):.2f}", *parts, tokens))
    if not rows:
        return None
    section = Section(
        "Cost per clip",
        ["Seconds on the machine that ran it (median in all; means of the steps) and mean tokens of the answer."],
    )
    head = ("result", "model", "clips", "seconds", "inspect", "retrieve", "classify", "tokens")
    section.tables.append(Table(head, tuple(rows)))
    section.remarks.append("With several clips in work at once a clip's seconds include its waiting.")
    return section


_STEPS = ("inspect_s", "retrieve_s", "classify_s")


def by_group(found: Sequence[Run]) -> Section | None:
    """Accuracy of the headline view of each plain run, by what the annotations say about the clips."""
    heads = [run.views[0] for run in found if run.views and not run.is_control]
    section = Section("By group", ["Share of right answers in each group of clips; unclear ones count as not right."])
    for name in GROUPS:
        values = sorted(
            {str(row.record.metadata[name]) for v in heads for row in v.rows if name in row.record.metadata}
        )
        if len(values) < 2 or len(values) > 40:
            continue
        rows: list[tuple[str, ...]] = []
        for value in values:
            picked = [[row for row in v.rows if str(row.record.metadata.get(name)) == value] for v in heads]
            rows.append((value, *(f"{shown(_share(part))} n={len(part)}" for part in picked)))
        section.tables.append(Table((name, *(view.title for view in heads)), tuple(rows)))
    return section if section.tables else None


def _share(rows: Sequence[Row]) -> Estimate:
    return proportion(sum(row.right for row in rows), len(rows))
