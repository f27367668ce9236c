"""One report on the page: verdict first, then the reasons. Reads the stored JSON, so that a fresh report and one that
was reopened after a restart look the same. Texts from models are data: shown escaped, never as markup."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from agent.verdict import BEYOND_PROBABILITY, percent
from services.schema import Task, Window
from ui import report_cases
from ui.desk import Desk
from ui.feedback import ask_whether_right
from ui.history_entry import Entry, Variant
from ui.markup import bar, paragraph
from ui.report_html import to_html
from ui.session import guarded, words
from ui.side_by_side import Badge, side_by_side
from ui.wording import clock, minute, plain

if TYPE_CHECKING:
    from services.model_service import ModelService

BADGES: dict[str, Badge] = {
    "mounting": (":material/change_history:", "orange"),
    "normal": (":material/circle:", "blue"),
    "unclear": (":material/help:", "gray"),
}
STEP_SECONDS = ("inspect_s", "retrieve_s", "classify_s", "total_s")


@dataclass(frozen=True)
class Again:
    """The user asks for the same clip once more, with the choices of the moment."""

    path: str
    name: str
    window: Window | None
    task: Task = "mounting"


def show(past: Entry, service: ModelService, current: Desk) -> Again | None:
    """The whole report; what is returned is what the user wants done next."""
    left, right = st.columns([3, 2])
    with left:
        _verdict(past)
        ask_whether_right(past, service)
    with right, guarded():
        player(past, current)
    warnings(past, service)
    with guarded():
        _side_by_side(past, service)
    _frames(past)
    with guarded():
        report_cases.show(past, service, current)
    wanted = look_again(past, current)
    details(past)
    downloads(past, service)
    return wanted


def _verdict(past: Entry) -> None:
    w, report = words(), past.report
    with st.container(key=f"verdict-{past.tone}"):
        st.header(w(f"verdict.{report['verdict']}"), anchor=False)
        p = report["p_mounting"]
        if p is None:
            st.write(w("report.no_probability"))
        elif report["decided_by"]["rule"] in BEYOND_PROBABILITY:
            st.markdown(w("report.no_weight", percent=percent(p)))
        else:
            st.markdown(w("report.probability", words=w.likelihood(p), percent=percent(p)))
            st.html(bar(p))
        reason = w.sentence(report["reason"]) or w(f"report.no_reason.{report['verdict']}")
        st.html(paragraph(reason, "hl-reason"))
        decided = report["decided_by"]
        st.caption(w("report.decided", variant=w(f"variant.{decided['variant']}"), rule=w.rule(decided["rule"])))
        clip = report["clip"]
        start, end = clip["window"]
        st.caption(w("report.window", start=clock(start), end=clock(end), total=clock(clip["duration_s"])))


def player(past: Entry, current: Desk) -> None:
    w = words()
    if past.clip_path is None:
        st.caption(w("report.clip_gone"))
        return
    start_s, end_s = past.report["clip"]["window"]
    with st.spinner(w("report.preparing_video")):
        found = current.playable(past.clip_path, Window(start_s, end_s))
    if found is None:
        st.caption(w("report.video_too_long"))
        return
    path, begins_s = found
    start = max(0, int(start_s - begins_s))
    st.video(str(path), muted=True, start_time=start, alt=past.name)
    clip = past.report["clip"]
    st.caption(
        f"{plain(past.name)} · "
        + w("report.clip_facts", width=clip["width"], height=clip["height"], fps=f"{clip['fps']:g}")
    )


def warnings(past: Entry, service: ModelService) -> None:
    w = words()
    told = [text for text in past.report["warnings"] if text not in (service.notice, past.report["reason"])]
    if told:
        st.warning("\n".join(f"- {plain(w.sentence(text))}" for text in told), icon=":material/warning:")


def _side_by_side(past: Entry, service: ModelService) -> None:
    def score(variant: Variant) -> None:
        w = words()
        if variant["p_mounting"] is not None:
            share = percent(variant["p_mounting"])
            st.caption(w("report.p_only" if past.vote is None else "report.p_alone", percent=share))
        unsure = past.left_open(variant)
        if unsure is not None:
            st.caption(w("report.not_sure", percent=percent(unsure)))

    def reasoning(variant: Variant) -> None:
        w = words()
        if variant["text_verdict"] == "unparsed":
            st.caption(w("report.unparsed"))
        if variant["reasoning"]:
            with st.expander(w("report.reasoning")):
                st.html(paragraph(variant["reasoning"], "hl-text hl-quiet"))
        if _is_vote_alone(variant, past, service):
            st.caption(w("report.vote_alone"))

    side_by_side(past, BADGES.__getitem__, above=score, below=reasoning)


def _is_vote_alone(variant: Variant, past: Entry, service: ModelService) -> bool:
    """Whether the rule gives this model's own score no weight, so that the similar clips alone made its verdict. The
    base model, which knows nothing of mounting, would else look as if it had recognised it."""
    report = past.report
    if past.vote is None or report["profile"] != service.profile.name or not service.loaded:
        return False
    if report["decided_by"]["rule"] in BEYOND_PROBABILITY:
        return False
    fitted = service.calibration(report["retrieval"], variant["name"], variant["adapter"])
    return fitted is not None and fitted.weight_vlm == 0.0 and fitted.weight_vote > 0.0


def _frames(past: Entry) -> None:
    w = words()
    times = past.report.get("frame_times_s", [])
    if not past.frames:
        return
    st.subheader(w("report.frames", count=len(past.frames)), anchor=False)
    st.caption(w("report.frames_help"))
    with st.grid(8, min_column_width=80, gap="xsmall", key="frames") as grid:
        for picture, time_s in zip(past.frames, times, strict=False):
            with grid.cell():
                st.image(picture, caption=clock(time_s), width="stretch", alt=w("report.frame_at", time=clock(time_s)))


def look_again(past: Entry, current: Desk) -> Again | None:
    """Look once more: with other choices, and at another part of a clip longer than the profile's window."""
    w, clip, limit = words(), past.report["clip"], current.profile.window_s
    if past.clip_path is None:
        return None
    start, end = clip["window"]
    with st.expander(w("again.title"), icon=":material/replay:", expanded=clip["duration_s"] > limit):
        if clip["duration_s"] > limit:
            st.caption(w("again.span", seconds=f"{limit:.0f}", total=clock(clip["duration_s"])))
            latest = float(math.floor(clip["duration_s"] - limit + 1.0))
            start = st.slider(
                w("again.start"),
                min_value=0.0,
                max_value=latest,
                value=min(float(round(start)), latest),
                step=1.0,
                format="%d s",
                key=f"span_{past.id}",
            )
            end = min(start + limit, clip["duration_s"])
            st.caption(w("again.chosen", start=clock(start), end=clock(end)))
        st.caption(w("again.choices"))
        if st.button(w("again.go"), key=f"again_{past.id}"):
            task: Task = "quality" if past.is_quality else "mounting"
            return Again(str(past.clip_path), past.name, Window(start, end) if end else None, task)
    return None


def details(past: Entry) -> None:
    w, report = words(), past.report
    with st.expander(w("report.details"), icon=":material/info:"):
        adapters = [variant["adapter"] for variant in report["variants"] if variant["adapter"]]
        rows = [
            (w("about.base_model"), report.get("model", "")),
            (w("options.adapter"), ", ".join(adapters) or w("about.none")),
            (w("about.profile"), report["profile"]),
            (w("options.retrieval"), w(f"retrieval.{report['retrieval']}")),
            (w("report.quality"), f"{report['quality']['score']:.2f}"),
            *(
                (w(f"timing.{name}"), w("progress.seconds", seconds=f"{report['timings'][name]:.2f}"))
                for name in STEP_SECONDS
                if name in report["timings"]
            ),
            (w("report.created"), minute(report.get("created_at", ""))),
            ("SHA-256", report["clip"]["sha256"]),
        ]
        st.table({w("about.item"): [row[0] for row in rows], w("about.value"): [plain(row[1]) for row in rows]})


def downloads(past: Entry, service: ModelService) -> None:
    w = words()
    name = f"herdlens_{past.id}"
    with st.container(horizontal=True):
        st.download_button(
            w("report.download_html"),
            data=lambda: to_html(past, service, w),
            file_name=f"{name}.html",
            mime="text/html",
            on_click="ignore",
            icon=":material/print:",
            key=f"html_{past.id}",
        )
        st.download_button(
            w("report.download_json"),
            data=json.dumps(past.report, ensure_ascii=False, indent=2),
            file_name=f"{name}.json",
            mime="application/json",
            on_click="ignore",
            icon=":material/data_object:",
            key=f"json_{past.id}",
        )
