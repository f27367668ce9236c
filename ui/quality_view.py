"""A report on picture quality: what spoils the picture, what to do, what was measured, base beside tuned. Reads the
stored JSON; texts from models are data: shown escaped, never as markup."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from agent.verdict import percent
from services.schema import DEGRADATION_WORDS
from ui.desk import Desk
from ui.history_entry import Entry, Variant
from ui.markup import paragraph
from ui.report_html import VIEWS
from ui.report_view import Again, details, downloads, look_again, player, warnings
from ui.session import guarded, words
from ui.side_by_side import Badge, side_by_side
from ui.wording import Words, clock, plain

if TYPE_CHECKING:
    from services.model_service import ModelService


def show(past: Entry, service: ModelService, current: Desk) -> Again | None:
    """The whole report; what is returned is what the user wants done next."""
    left, right = st.columns([3, 2])
    with left:
        _verdict(past)
    with right, guarded():
        if past.is_picture:
            _picture(past)
        else:
            player(past, current)
    _measured(past)
    warnings(past, service)
    side_by_side(past, badge_of, above=_grade, below=_scores)
    _views(past)
    again = look_again(past, current)
    details(past)
    downloads(past, service)
    return again


def severity(w: Words, step: int | None) -> str:
    """``severity 2 of 4: clear``; nothing for a clean picture or one without a severity."""
    return w("quality.severity", severity=step, word=w(f"severity.{step}")) if step else ""


def badge_of(verdict: str) -> Badge:
    """Of a finding."""
    if verdict == "clean":
        return ":material/check_circle:", "blue"
    return (":material/warning:", "orange") if verdict in DEGRADATION_WORDS else (":material/help:", "gray")


def _verdict(past: Entry) -> None:
    w, report = words(), past.report
    with st.container(key=f"verdict-{past.tone}"):
        st.header(w(f"verdict.{report['verdict']}"), anchor=False)
        if report["severity"]:
            st.markdown(f"**{severity(w, report['severity'])}**")
        if report["class_scores"]:
            st.markdown(w("quality.sure", percent=percent(report["class_scores"][report["verdict"]])))
        st.html(paragraph(w.sentence(report["reason"]) or w("report.no_reason.unclear"), "hl-reason"))
        decided = report["decided_by"]
        st.caption(w("report.decided", variant=w(f"variant.{decided['variant']}"), rule=w.rule(decided["rule"])))
        if not past.is_picture:
            start, end = report["clip"]["window"]
            total = clock(report["clip"]["duration_s"])
            st.caption(w("report.window", start=clock(start), end=clock(end), total=total))


def _picture(past: Entry) -> None:
    clip = past.report["clip"]
    if past.frames:
        st.image(past.frames[0], width="stretch", alt=past.name)
    st.caption(f"{plain(past.name)} · {clip['width']} × {clip['height']}")


def _measured(past: Entry) -> None:
    """What the classical measures find, by themselves."""
    w, quality = words(), past.report["quality"]
    st.subheader(w("quality.measured"), anchor=False)
    with st.container(border=True, key="measured"):
        sign, colour = badge_of(quality["verdict"])
        told = severity(w, quality["severity"])
        st.badge(w(f"verdict_word.{quality['verdict']}") + (f", {told}" if told else ""), icon=sign, color=colour)
        st.caption(w("quality.score", score=f"{quality['score']:.2f}"))
        for text in quality["findings"]:
            st.markdown(f"- {plain(w.sentence(text))}")
        if not quality["findings"]:
            st.write(w("quality.nothing"))


def _grade(variant: Variant) -> None:
    if told := severity(words(), variant["severity"]):
        st.caption(told)


def _scores(variant: Variant) -> None:
    w = words()
    if variant["text_verdict"] == "unparsed":
        st.caption(w("quality.unparsed"))
    if variant["class_scores"]:
        ranked = sorted(variant["class_scores"].items(), key=lambda pair: -pair[1])
        st.caption(" · ".join(f"{w('verdict_word.' + name)} {percent(p)}" for name, p in ranked))


def _views(past: Entry) -> None:
    w = words()
    if not past.frames:
        return
    st.subheader(w("quality.views"), anchor=False)
    st.caption(w("quality.views_help"))
    with st.grid(3, min_column_width=150, gap="xsmall", key="frames") as grid:
        for name, picture in zip(VIEWS, past.frames, strict=False):
            with grid.cell():
                st.image(picture, caption=w(f"view.{name}"), width="stretch", alt=w(f"view.{name}"))
