"""What a comparison adds up to. Pure; figures are counts, because a share of a handful of clips says nothing."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.comparisons import COLUMNS, Column, Compared, Comparison
from services.schema import Label, Verdict

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A cell that begins so would be run by a spreadsheet."""


@dataclass(frozen=True)
class Row:
    """A clip with what it is known to show: what its annotation says, else what library, history or samples say."""

    item: Compared
    truth: Label | None

    def verdict(self, column: Column) -> Verdict | None:
        judged = self.item.columns.get(column)
        return judged.verdict if judged else None

    def right(self, column: Column) -> bool | None:
        """None where the truth is not known, there is no verdict, or the verdict is unclear."""
        verdict = self.verdict(column)
        return None if self.truth is None or verdict in (None, "unclear") else verdict == self.truth


@dataclass(frozen=True)
class Tally:
    """One column over the clips whose truth is known and that it gave a verdict on. ``own_right`` of ``own``: the
    model's own score taken at one half, before calibration, comparison and doubt."""

    right: int
    wrong: int
    unclear: int
    own_right: int
    own: int

    @property
    def known(self) -> int:
        return self.right + self.wrong + self.unclear


@dataclass(frozen=True)
class Change:
    """Base against tuned: ``agree`` of ``both`` verdicts are the same, ``flips`` counts the others by (base, tuned);
    ``mended`` of them are right now and were not before, ``spoilt`` the other way round."""

    agree: int
    both: int
    flips: Mapping[tuple[Verdict, Verdict], int]
    mended: int
    spoilt: int

    @property
    def flips_total(self) -> int:
        return sum(self.flips.values())


def rows(comparison: Comparison, known: Mapping[str, Label]) -> list[Row]:
    """``known``: clip digest to label."""
    return [Row(item, item.label or known.get(item.sha256 or "")) for item in comparison.items]


def tally(found: Sequence[Row], column: Column) -> Tally:
    judged = [row for row in found if row.truth is not None and row.verdict(column) is not None]
    right = sum(row.right(column) is True for row in judged)
    wrong = sum(row.right(column) is False for row in judged)
    own = [(row.truth, p) for row in judged if (p := row.item.columns[column].p_alone) is not None]
    own_right = sum((p >= 0.5) == (truth == "mounting") for truth, p in own)
    return Tally(right, wrong, len(judged) - right - wrong, own_right, len(own))


def change(found: Sequence[Row]) -> Change:
    flips: Counter[tuple[Verdict, Verdict]] = Counter()
    both = mended = spoilt = 0
    for row in found:
        base, tuned = row.verdict("base"), row.verdict("tuned")
        if base is None or tuned is None:
            continue
        both += 1
        if base != tuned:
            flips[base, tuned] += 1
            mended += row.truth is not None and tuned == row.truth
            spoilt += row.truth is not None and base == row.truth
    return Change(both - flips.total(), both, dict(flips), mended, spoilt)


def to_csv(comparison: Comparison, found: Sequence[Row]) -> bytes:
    """One line a clip, for a spreadsheet (UTF-8 with its mark). Probabilities are of mounting: ``p`` the verdict's,
    ``score`` the model's own."""
    text = io.StringIO()
    writer = csv.writer(text)
    values = [f"{column}_{name}" for column in COLUMNS for name in ("verdict", "p", "score", "error")]
    writer.writerow(["clip", "sha256", "truth", *values, "changed", "report", "adapter", "profile", "error"])
    for row in found:
        item = row.item
        cells: list[object] = [item.name, item.sha256, row.truth]
        for column in COLUMNS:
            judged = item.columns.get(column)
            cells += [judged.verdict, judged.p, judged.p_alone, judged.error] if judged else [None] * 4
        base, tuned = row.verdict("base"), row.verdict("tuned")
        changed = None if base is None or tuned is None else base != tuned
        cells += [changed, item.report_id, comparison.adapter, comparison.profile, item.error]
        writer.writerow([_cell(value) for value in cells])
    return text.getvalue().encode("utf-8-sig", "replace")


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
