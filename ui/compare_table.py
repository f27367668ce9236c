"""A comparison as it stands: what it adds up to, and one line a clip."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING

import streamlit as st

from agent.verdict import percent
from services.comparisons import COLUMNS, Column, Comparison
from services.schema import Calibration, VariantName
from ui.compare_cards import cards
from ui.compare_counts import Row, change, tally
from ui.report_html import SIGNS
from ui.session import open_report, words
from ui.wording import minute, plain

if TYPE_CHECKING:
    from services.model_service import ModelService

RIGHT = {True: " ✓", False: " ✗", None: ""}
ROW_PIXELS = 48
COLUMN_PIXELS: dict[Column, int] = {"base": 132, "tuned": 132, "alone": 142}
"""With the others these fill the page of a small laptop; what comes last is only what the three columns say already."""
FAILURES = 5
"""Clips without a verdict whose reason is told above the table; the others are counted."""


def summary(comparison: Comparison, found: Sequence[Row], service: ModelService) -> None:
    """Agreements, flips, right and wrong: counted."""
    w, changed = words(), change(found)
    if not changed.both:
        return
    told = w("compare.agree", agree=changed.agree, both=changed.both)
    if changed.flips:
        flips = ", ".join(
            w(
                "compare.flip",
                before=w(f"verdict_word.{before}"),
                after=w(f"verdict_word.{after}"),
                count=count,
            )
            for (before, after), count in sorted(changed.flips.items(), key=lambda pair: -pair[1])
        )
        told += " " + w("compare.differ", count=changed.flips_total, flips=flips)
        if any(row.truth for row in found):
            told += " " + w("compare.mended", mended=changed.mended, spoilt=changed.spoilt)
    st.markdown(told)
    if not any(row.truth for row in found):
        st.caption(w("compare.no_truth"))
        return
    for place, column in zip(st.columns(len(COLUMNS)), COLUMNS, strict=True):
        with place, st.container(border=True, height="stretch"):
            _tally(found, column)
    if _base_only_votes(comparison, service):
        st.caption(w("compare.vote_alone"))
    if _other_rules(comparison, service):
        st.caption(w("compare.other_rules", adapter=plain(comparison.adapter or "")))


def failures(found: Sequence[Row]) -> None:
    """Which clips have no verdict, in one or some of the columns, and why."""
    w = words()
    told = [f"- {plain(row.item.name)}: {plain(note)}" for row in found if (note := _note(row))]
    if len(told) > FAILURES:
        told[FAILURES:] = [f"- {w('compare.more_failed', count=len(told) - FAILURES)}"]
    if told:
        st.warning("\n".join([w("compare.failed"), "", *told]), icon=":material/warning:")


def table(comparison: Comparison, found: Sequence[Row], service: ModelService) -> None:
    """One line a clip; the button of a line opens its report."""
    w = words()
    pictures = [_inline(service.comparisons.picture(comparison.id, index)) for index in range(len(found))]
    cells = [[_cell(row, column) for column in COLUMNS] for row in found]
    columns: dict[str, list[str | None]] = {
        "picture": pictures,
        "clip": [row.item.name for row in found],
        "open": [w("compare.open_one") if row.item.report_id else "" for row in found],
        "truth": [w(f"label.{row.truth}") if row.truth else "" for row in found],
        **{str(column): [told[place] for told in cells] for place, column in enumerate(COLUMNS)},
        "changed": [_flip(row) for row in found],
    }
    key = f"compare_open_{comparison.id}"
    config = st.column_config
    with st.container(key="compare_wide"):
        st.dataframe(
            columns,
            hide_index=True,
            row_height=ROW_PIXELS,
            placeholder="",
            key=f"compare_table_{comparison.id}",
            column_config={
                "picture": config.ImageColumn("", width=60),
                "clip": config.TextColumn(w("compare.clip"), width=112),
                "open": config.ButtonColumn(w("compare.open"), type="tertiary", width=62, key=key),
                "truth": config.TextColumn(w("compare.truth"), width=78),
                **{
                    str(column): config.TextColumn(w(f"column.{column}"), width=COLUMN_PIXELS[column])
                    for column in COLUMNS
                },
                "changed": config.TextColumn(w("compare.changed"), width=68),
            },
        )
    cards(found, cells, pictures)
    st.caption(w("compare.cells"))
    click = st.session_state.get(key)
    if click is not None and (report_id := found[click["row"]].item.report_id):
        open_report(report_id)


def _tally(found: Sequence[Row], column: Column) -> None:
    w, counted = words(), tally(found, column)
    st.metric(w(f"column.{column}"), w("compare.right", right=counted.right, known=counted.known))
    st.caption(w("compare.tally", wrong=counted.wrong, unclear=counted.unclear))
    if counted.own:
        st.caption(w("compare.own", own_right=counted.own_right, own=counted.own))


def _base_only_votes(comparison: Comparison, service: ModelService) -> bool:
    """Whether the rule gives the base's score no weight: else it would look as if the base had recognised something."""
    fitted = _rule(comparison, service, "base")
    return fitted is not None and fitted.weight_vlm == 0.0 and fitted.weight_vote > 0.0


def _other_rules(comparison: Comparison, service: ModelService) -> bool:
    """Whether the base was judged by a calibrated rule and the adapter, which has none, by its score alone: then the
    verdicts that are counted do not say which of the two sees more."""
    if comparison.adapter is None:
        return False
    return _rule(comparison, service, "base") is not None and _rule(comparison, service, "tuned") is None


def _rule(comparison: Comparison, service: ModelService, variant: VariantName) -> Calibration | None:
    """The calibrated rule that ``variant`` was judged by; None where there is none, or none is known here."""
    if comparison.profile != service.profile.name or not service.loaded:
        return None
    return service.calibration(comparison.retrieval, variant, comparison.adapter if variant == "tuned" else None)


def _cell(row: Row, column: Column) -> str:
    """``▲ Mounting · 97 % ✓``: sign, verdict, its probability, whether it is right."""
    judged = row.item.columns.get(column)
    if judged is None:
        return ""
    if judged.verdict is None:
        return "—"
    word = f"{SIGNS[judged.verdict]} {words()(f'verdict_word.{judged.verdict}')}"
    p = "" if judged.p is None else f" · {percent(judged.p)}"
    return word + p + RIGHT[row.right(column)]


def _flip(row: Row) -> str:
    """``◇ → ▲``: the signs of the two verdicts, which stand in words beside it."""
    base, tuned = row.verdict("base"), row.verdict("tuned")
    if base is None or tuned is None or base == tuned:
        return ""
    return f"{SIGNS[base]} → {SIGNS[tuned]}"


def _note(row: Row) -> str:
    """Why there is no verdict, in one or some of the columns."""
    w, item = words(), row.item
    errors = [item.error, *(judged.error for judged in item.columns.values())]
    return " ".join(dict.fromkeys(w.sentence(error) for error in errors if error))


def _inline(jpeg: bytes | None) -> str | None:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode() if jpeg else None


def title(comparison: Comparison) -> str:
    """How the screen names it: its size and when it was begun."""
    when = minute(comparison.created_at)
    return plain(words()("compare.heading", count=len(comparison.items), when=when))
