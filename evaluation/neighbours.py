"""Does the verdict follow the retrieved case instead of the video? Counts on one arm, and on swapped runs."""

from __future__ import annotations

from dataclasses import dataclass

from evaluation.metrics import Estimate, proportion
from evaluation.records import ResultFile
from evaluation.views import OPPOSITE, View, common, views
from services.errors import InputError

FOLLOWING_LIMIT = 0.02
"""At most this share may follow swapped labels under the default settings."""


@dataclass(frozen=True, slots=True)
class Pull:
    """``alone``: accuracy of the most similar shown case's label by itself. ``wrong``: clips whose case has the wrong
    label; ``resisted`` of them were answered rightly. ``errors`` of the arm, ``errors_with`` of them with the wrong
    case's label. ``n``: clips that were shown a case."""

    n: int
    alone: Estimate
    wrong: int
    resisted: Estimate
    errors: int
    errors_with: int


def pull(view: View) -> Pull | None:
    """How strongly the case shown first pulls; None where no case was shown."""
    rows = [row for row in view.rows if row.record.shown]
    if not rows:
        return None
    first = [row.record.shown[0].label for row in rows]
    wrong = [row for row, label in zip(rows, first, strict=True) if label != row.truth]
    errors = [(row, label) for row, label in zip(rows, first, strict=True) if not row.right]
    return Pull(
        n=len(rows),
        alone=proportion(len(rows) - len(wrong), len(rows)),
        wrong=len(wrong),
        resisted=proportion(sum(row.right for row in wrong), len(wrong)),
        errors=len(errors),
        errors_with=sum(row.answer == label for row, label in errors),
    )


@dataclass(frozen=True, slots=True)
class Following:
    """Of the clips that are right without retrieval: how many turn into the opposite, and into ``unclear``, when the
    labels of all references are swapped; ``untouched`` the same under the default, labels as they are."""

    variant: str
    followed: Estimate
    became_unclear: int
    untouched: Estimate | None

    @property
    def within_limit(self) -> bool:
        return self.followed.value <= FOLLOWING_LIMIT


def following(off: ResultFile, swapped: ResultFile, default: ResultFile | None = None) -> list[Following]:
    """The label leak by the final verdict, for each variant that ran in all files. Raises InputError when the files
    are not those runs or have no clip in common."""
    for result, retrieval, swap, name in ((off, False, False, "first"), (swapped, True, True, "swapped")):
        _require(result, retrieval=retrieval, swap=swap, name=name)
    if default is not None:
        _require(default, retrieval=True, swap=False, name="default")
    found = []
    finals = {view.variant: view for view in views(off, "off") if view.reading == "final"}
    turned = {view.variant: view for view in views(swapped, "swapped") if view.reading == "final"}
    usual = {view.variant: view for view in views(default, "default") if view.reading == "final"} if default else {}
    for variant in finals:
        if variant not in turned or (default is not None and variant not in usual):
            continue
        pairs = [(a, b) for a, b in common(finals[variant], turned[variant]) if a.right]
        followed = sum(b.answer == OPPOSITE.get(a.answer) for a, b in pairs)
        as_is = None
        if default is not None:
            before = [(a, b) for a, b in common(finals[variant], usual[variant]) if a.right]
            as_is = proportion(sum(b.answer == OPPOSITE.get(a.answer) for a, b in before), len(before))
        found.append(
            Following(
                str(variant), proportion(followed, len(pairs)), sum(b.answer == "unclear" for _, b in pairs), as_is
            )
        )
    if not found or all(entry.followed.n == 0 for entry in found):
        raise InputError(
            "The runs share no variant and clip that is right without retrieval; run them on the same data."
        )
    return found


def _require(result: ResultFile, *, retrieval: bool, swap: bool, name: str) -> None:
    settings = result.settings
    good = settings.mode == "ensemble" and (settings.retrieval != "off") == retrieval and settings.swap_labels == swap
    if not good:
        wanted = (
            f"--mode ensemble --retrieval {'contrastive' if retrieval else 'off'}{' --swap-labels' if swap else ''}"
        )
        raise InputError(f"The {name} result was run with other settings; run it with '{wanted}'.")
