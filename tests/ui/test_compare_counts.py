"""A comparison's figures, counted by hand, and its table as a spreadsheet reads it."""

from __future__ import annotations

import csv
import io

from services.comparisons import Compared, Comparison, Judged
from services.schema import Verdict
from ui.compare_counts import Row, change, rows, tally, to_csv


def clip(
    name: str, base: Verdict | None, tuned: Verdict | None, *, label: str | None = None, p: float = 0.9
) -> Compared:
    columns = {
        "base": Judged(base, 0.4, 0.3) if base else Judged(error="The base failed."),
        "tuned": Judged(tuned, p, p) if tuned else Judged(error="The adapter is gone."),
        "alone": Judged(tuned, None, None),
    }
    return Compared(f"/{name}", name, label, None, columns, name * 4, "abcdefgh")  # type: ignore[arg-type]


FOUND = [
    Row(clip("a", "normal", "mounting"), "mounting"),  # mended
    Row(clip("b", "normal", "mounting"), "normal"),  # spoilt
    Row(clip("c", "unclear", "normal", p=0.1), "normal"),  # mended
    Row(clip("d", "mounting", "mounting"), None),  # agreed, the truth unknown
    Row(clip("e", "unclear", "unclear"), "mounting"),  # agreed on nothing
    Row(clip("f", None, "normal"), "normal"),  # no verdict of base
    Row(Compared("/g", "g", error="Not a video."), "normal"),
    Row(Compared("/h", "h"), "normal"),  # not looked at yet
]


def test_agreements_and_flips_count_the_clips_with_both_verdicts() -> None:
    found = change(FOUND)
    assert (found.agree, found.both) == (2, 5)
    assert found.flips == {("normal", "mounting"): 2, ("unclear", "normal"): 1} and found.flips_total == 3
    assert (found.mended, found.spoilt) == (2, 1)


def test_right_and_wrong_count_the_clips_whose_truth_is_known() -> None:
    base, tuned = tally(FOUND, "base"), tally(FOUND, "tuned")
    assert (base.right, base.wrong, base.unclear, base.known) == (1, 1, 2, 4)
    assert (tuned.right, tuned.wrong, tuned.unclear, tuned.known) == (3, 1, 1, 5)
    assert (base.own_right, base.own) == (2, 4), "its own score says normal of all four"
    assert tally(FOUND, "alone").own == 0, "an engine that gives no scores"


def test_the_annotation_goes_before_what_else_is_known() -> None:
    items = (clip("a", "normal", "normal", label="mounting"), clip("b", "normal", "normal"), Compared("/c", "c"))
    comparison = Comparison("abcdefgh", "", "demo", "mounting", None, "contrastive", items)
    found = rows(comparison, {"aaaa": "normal", "bbbb": "normal"})
    assert [row.truth for row in found] == ["mounting", "normal", None]


def test_the_csv_has_a_line_a_clip_and_runs_nothing() -> None:
    items = (clip("=cmd()", "normal", "mounting"), clip("축사, \udcff", "normal", None))
    comparison = Comparison("abcdefgh", "", "demo", "mounting", None, "contrastive", items)
    text = to_csv(comparison, rows(comparison, {"축사, \udcff" * 4: "normal"}))
    assert text.startswith(b"\xef\xbb\xbf")
    first, second = csv.DictReader(io.StringIO(text.decode("utf-8-sig")))
    assert first["clip"] == "'=cmd()" and first["truth"] == "" and first["changed"] == "True"
    assert (first["base_verdict"], first["tuned_verdict"], float(first["tuned_p"])) == ("normal", "mounting", 0.9)
    assert second["clip"] == "축사, ?" and second["truth"] == "normal" and second["changed"] == ""
    assert second["tuned_error"] == "The adapter is gone." and second["adapter"] == "mounting"
