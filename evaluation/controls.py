"""What a report says about shortcuts: the label leak, and controls that must fall to chance."""

from __future__ import annotations

import math
from collections.abc import Sequence

from evaluation.baseline import baseline
from evaluation.document import Run, Section, Table
from evaluation.metrics import Estimate, auc, confusion, proportion, scores
from evaluation.neighbours import Following, following, pull
from evaluation.permuted import shuffled
from evaluation.records import RunSettings
from evaluation.summary import baseline_lines, leak_lines, shown
from evaluation.views import OPPOSITE, View, common
from services.errors import InputError

TEXT = {None: "text, references as found", "random": "text, random cases", "none": "text, no cases"}
"""Names of the runs without any video, by what was shown instead of the references."""


def default_runs(found: Sequence[Run]) -> list[Run]:
    """Runs of the verdict that users get, with references, nothing exchanged."""
    return [
        run
        for run in found
        if run.result.settings.mode == "ensemble" and not run.is_control and run.result.settings.retrieval != "off"
    ]


def leaks(found: Sequence[Run]) -> list[Following]:
    """``following`` of the runs that are there: retrieval off, default, and default with swapped labels."""
    ensembles = [run.result for run in found if run.result.settings.mode == "ensemble" and _plain(run.result.settings)]
    off = [r for r in ensembles if r.settings.retrieval == "off"]
    turned = [r for r in ensembles if r.settings.swap_labels]
    usual = [r for r in ensembles if r.settings.retrieval != "off" and not r.settings.swap_labels]
    if not off or not turned:
        return []
    same = [r for r in usual if r.settings.retrieval == turned[0].settings.retrieval]
    try:
        return following(off[0], turned[0], same[0] if same else None)
    except InputError:
        return []


def _plain(settings: RunSettings) -> bool:
    return settings.context is None and settings.frames is None


def label_leak(found: Sequence[Run]) -> Section:
    """Following by swapped labels, by exchanged context, and the pull of the first case; the published row last."""
    section = Section(
        "Label leak: does the verdict follow the references instead of the video?",
        [
            "'Follows': of the clips whose final verdict is right without retrieval, the share that turns into the "
            "opposite when the labels of all references, shown and voting, are swapped."
        ],
    )
    section.text += leak_lines(leaks(found))
    exchanged = _context_rows(found)
    if exchanged:
        head = ("context", "result", "clips right without context", "turn into the opposite", "answers with its label")
        section.tables.append(Table(head, tuple(exchanged)))
    rows: list[tuple[str, ...]] = []
    for run in found:
        for view in run.views if _sees_the_clip(run.result.settings) else ():
            if view.reading != "neighbours" and (p := pull(view)):
                rows.append(
                    (view.title, str(p.n), shown(p.alone), f"{p.resisted.hits} of {p.wrong}",
                     shown(p.resisted), f"{p.errors_with} of {p.errors}")
                )  # fmt: skip
    if rows:
        pulls = ("result", "clips", "first case alone", "wrong first cases resisted", "share", "errors with its label")
        section.tables.append(Table(pulls, tuple(rows)))
    return section


def _context_rows(found: Sequence[Run]) -> list[tuple[str, ...]]:
    """Each run with exchanged cases against a run of the same model without any, by the model's own answers."""
    none = {
        view.variant: view
        for run in found
        if _reads_no_case(run.result.settings)
        for view in run.views
        if view.reading == "model"
    }
    rows: list[tuple[str, ...]] = []
    for run in found:
        s = run.result.settings
        if s.retrieval == "off" or s.frames or s.mode == "text" or s.context == "none":
            continue
        for view in run.views:
            if view.reading != "model" or view.variant not in none:
                continue
            right = [(a, b) for a, b in common(none[view.variant], view) if a.right]
            turned = sum(b.answer == OPPOSITE.get(a.answer) for a, b in right)
            cases = [row for row in view.rows if row.record.shown]
            one_label = [row for row in cases if len({case.label for case in row.record.shown}) == 1]
            with_label = sum(row.answer == row.record.shown[0].label for row in one_label)
            kind = s.context or ("labels swapped" if s.swap_labels else s.retrieval)
            rows.append(
                (kind, view.title, str(len(right)), shown(proportion(turned, len(right))),
                 shown(proportion(with_label, len(one_label))))
            )  # fmt: skip
    return rows


def _sees_the_clip(s: RunSettings) -> bool:
    return s.frames is None and s.mode != "text"


def _reads_no_case(s: RunSettings) -> bool:
    return s.frames is None and s.mode in ("vlm", "rag", "ensemble") and (s.retrieval == "off" or s.context == "none")


def controls(found: Sequence[Run]) -> Section:
    """Runs that must fall to chance, and what the order of the frames is worth."""
    section = Section(
        "Controls against shortcuts",
        [
            "Without the video, with another clip's pictures, or against shuffled labels nothing can be known, so the "
            "balanced accuracy and the AUC must be one half within their intervals. If they are not, the prompt or the "
            "pictures give the answer away. (Of twenty such intervals one misses by chance.) Shuffled labels: mean and "
            "95 % of 999 permutations, among the answered clips."
        ],
    )
    rows = chance_rows(found)
    head = ("control", "result", "clips", "balanced accuracy", "AUC", "at chance")
    section.tables.append(Table(head, tuple(rows)))
    for row in rows:
        if row[5] != "met":
            section.remarks.append(f"{row[1]} does not fall to chance: something besides the video tells the label.")
    if any(row[0] == TEXT[None] and row[5] != "met" for row in rows):
        section.remarks.append(
            "The references were found by the video's own vector, so which they are and which stands first tells "
            "something of the video even where the model sees none. With random cases nothing but wording and library "
            "is left, and with another clip's frames it shows whether the model uses the references where it sees a "
            "video."
        )
    time = _time_rows(found)
    if time:
        section.text.append("With shuffled frames, or one frame only, what is left rests on postures, not on movement.")
        head = ("frames", "result", "clips", "accuracy", "AUC", "the same clips, all frames in order")
        section.tables.append(Table(head, tuple(time)))
    return section


def chance_rows(found: Sequence[Run]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for run in found:
        s = run.result.settings
        name = TEXT.get(s.context, f"text, {s.context} cases") if s.mode == "text" else None
        name = "another clip's frames" if s.frames == "other" else name
        for view in run.views:
            if name and view.reading == "model":
                rows.append(_chance_row(name, view))
    rows += [_shuffled_row(run.views[0]) for run in default_runs(found)[:1]]
    return rows


def _chance_row(name: str, view: View) -> tuple[str, ...]:
    return _against_half(name, view, scores(confusion(view.truth, view.answers)).balanced_accuracy, auc(*view.scored()))


def _shuffled_row(view: View) -> tuple[str, ...]:
    """Over many permutations, because a single one misses one half by luck once in twenty times."""
    return _against_half("labels shuffled", view, *shuffled(view))


def _against_half(name: str, view: View, balanced: Estimate, area: Estimate) -> tuple[str, ...]:
    good = balanced.covers(0.5) and (math.isnan(area.value) or area.covers(0.5))
    return name, view.title, str(len(view.rows)), shown(balanced), shown(area), "met" if good else "not met"


def _time_rows(found: Sequence[Run]) -> list[tuple[str, ...]]:
    """Each run with altered frames beside the plain run with most clips, on the clips that both saw."""
    plain = {
        (view.variant, run.result.settings.retrieval): view
        for run in sorted(found, key=lambda run: len(run.result.clips))
        if not run.is_control
        for view in run.views
        if view.reading == "model"
    }
    rows: list[tuple[str, ...]] = []
    for run in found:
        s = run.result.settings
        if s.frames not in ("shuffled", "one") or s.mode == "text":
            continue
        for view in run.views:
            if view.reading != "model":
                continue
            usual = plain.get((view.variant, s.retrieval))
            same = [b.right for _, b in common(view, usual)] if usual else []
            whole = f"{shown(proportion(sum(same), len(same)))} n={len(same)}" if same else "–"
            right = shown(proportion(sum(row.right for row in view.rows), len(view.rows)))
            rows.append((s.frames, view.title, str(len(view.rows)), right, shown(auc(*view.scored())), whole))
    return rows


def published() -> Section:
    """The source's own results, computed from its answers."""
    section = Section("The published results, for comparison", ["Real barns, 86 clips, another model: not our clips."])
    lines = list(baseline_lines(baseline()))
    cells = [tuple(part.strip() for part in line.strip("|").split("|")) for line in lines if line.startswith("|")]
    section.tables.append(Table(cells[0], tuple(cells[2:])))
    section.remarks += [line for line in lines if line and not line.startswith("|")]
    return section
