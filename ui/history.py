"""The History screen: past analyses, newest first; open, find, delete."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import streamlit as st

from agent.verdict import counting, percent
from services.schema import DEGRADATION_WORDS, AnyVerdict
from ui.quality_view import severity
from ui.session import desk, guarded, open_report, service_or_note, words
from ui.wording import minute, plain, size

if TYPE_CHECKING:
    from services.history import Past
    from services.model_service import ModelService

PER_PAGE = 20
# How many entries a search by name looks through.
SEARCHED = 5000
VERDICTS: tuple[AnyVerdict, ...] = ("mounting", "normal", "unclear", *DEGRADATION_WORDS)


def show() -> None:
    w = words()
    st.title(w("history.title"))
    with guarded():
        current = desk()
        service = service_or_note(current)
        if service is None:
            return
        st.caption(w("history.space", count=service.history.count(), size=size(service.history.space_used())))
        if not service.history.count():
            st.info(w("history.empty"), icon=":material/info:")
            return
        for past in _page(service):
            _row(past, service)
        _delete_all(service)


def _page(service: ModelService) -> list[Past]:
    """The entries of the chosen page, with the verdict and the words that are looked for."""
    w = words()
    text = st.text_input(w("history.search"), key="history_search").strip().casefold()
    verdict = st.pills(
        w("history.filter"), VERDICTS, format_func=lambda name: w(f"verdict_word.{name}"), key="history_verdict"
    )
    if not text:
        page = _page_number(service.history.count(verdict))
        return service.history.list(PER_PAGE, (page - 1) * PER_PAGE, verdict)
    found = [past for past in service.history.list(SEARCHED, 0, verdict) if text in past.clip_name.casefold()]
    page = _page_number(len(found))
    return found[(page - 1) * PER_PAGE : page * PER_PAGE]


def _page_number(count: int) -> int:
    if count == 0:
        st.info(words()("history.none_found"))
    pages = math.ceil(count / PER_PAGE)
    return min(st.pagination(pages, key="history_page"), pages) if pages > 1 else 1


def _row(past: Past, service: ModelService) -> None:
    w = words()
    with st.container(border=True, horizontal=True, vertical_alignment="center", key=f"row_{past.id}"):
        p = counting(past.p_mounting, past.report["decided_by"]["rule"])
        likelihood = w("about.none") if p is None else percent(p)
        quality = past.report.get("task") == "quality"
        figure = severity(w, past.report["severity"]) if quality else w("history.probability", percent=likelihood)
        checked = w("history.confirmed", label=w(f"label.{past.feedback}")) if past.feedback else ""
        with st.container(width="stretch", gap="xsmall"):
            st.markdown(f"**{w('verdict.' + past.verdict)}** · {plain(past.clip_name)}")
            when = w("history.when", when=minute(past.created_at))
            st.caption(f"{when} · {figure} {checked}" if figure else f"{when} {checked}")
        if st.button(w("history.open"), key=f"open_{past.id}", type="primary"):
            open_report(past.id)
        with st.popover(w("history.delete"), icon=":material/delete:"):
            st.write(w("history.delete_sure"))
            if st.button(w("history.delete_yes"), key=f"delete_{past.id}"):
                service.history.delete(past.id)
                st.rerun()


def _delete_all(service: ModelService) -> None:
    w = words()
    st.divider()
    with st.popover(w("history.delete_all"), icon=":material/delete_forever:"):
        st.write(w("history.delete_all_sure"))
        if st.button(w("history.delete_all_yes"), key="delete_all"):
            service.history.delete_all()
            st.rerun()


if __name__ == "__main__":
    show()
