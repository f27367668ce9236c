"""The Compare screen: several clips at once through base and tuned; counted, and one line a clip."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from services.comparisons import Comparison
from services.errors import InputError
from ui import compare_intake
from ui.compare_counts import rows, to_csv
from ui.compare_table import failures, summary, table, title
from ui.desk import Desk
from ui.markup import scroll_up
from ui.session import desk, guarded, service_or_note, words
from ui.wording import minute, plain

if TYPE_CHECKING:
    from services.model_service import ModelService

PARAMETER = "comparison"
EVERY_S = 1.0
EARLIER = 20
"""Comparisons that the list at the end shows."""


def show() -> None:
    w = words()
    st.title(w("compare.title"))
    with guarded():
        current = desk()
        st.caption(w("compare.help"))
        if current.profile.notice:
            st.info(plain(w.sentence(current.profile.notice)), icon=":material/info:")
        service = service_or_note(current)
        if service is None:
            return
        with guarded():
            _result(current, service)
        with guarded():
            _new(current, service)
        with guarded():
            _earlier(current, service)


def _result(current: Desk, service: ModelService) -> None:
    """The comparison in the address; while it runs it is shown as it grows."""
    id = st.query_params.get(PARAMETER)
    if id is None:
        return
    try:
        state = current.comparisons.state(service.comparisons.get(id))
    except InputError:
        st.query_params.pop(PARAMETER)
        raise

    @st.fragment(run_every=EVERY_S if state == "running" else None)
    def panel() -> None:
        with guarded():
            comparison = service.comparisons.get(id)
            if current.comparisons.state(comparison) != state:
                st.rerun()
            _panel(current, service, comparison, state)

    st.html(scroll_up(id), unsafe_allow_javascript=True)
    with st.container(border=True, key="comparison"):
        panel()


def _panel(current: Desk, service: ModelService, comparison: Comparison, state: str) -> None:
    w, found = words(), rows(comparison, service.known_labels())
    st.subheader(title(comparison), anchor=False)
    retrieval = w(f"retrieval.{comparison.retrieval}")
    adapter = plain(comparison.adapter or w("about.none"))
    st.caption(w("compare.used", adapter=adapter, retrieval=retrieval, profile=plain(comparison.profile)))
    _standing(current, comparison, state)
    summary(comparison, found, service)
    failures(found)
    table(comparison, found, service)
    with st.container(horizontal=True):
        st.download_button(
            w("compare.csv"),
            data=lambda: to_csv(comparison, found),
            file_name=f"herdlens_comparison_{comparison.id}.csv",
            mime="text/csv",
            on_click="ignore",
            icon=":material/table_view:",
            key=f"compare_csv_{comparison.id}",
        )
        if state == "running":
            return
        with st.popover(w("compare.delete"), icon=":material/delete:"):
            st.write(w("compare.delete_sure"))
            if st.button(w("compare.delete_yes"), key=f"compare_delete_{comparison.id}"):
                service.comparisons.delete(comparison.id)
                st.query_params.pop(PARAMETER)
                st.rerun()


def _standing(current: Desk, comparison: Comparison, state: str) -> None:
    """How far it is, and what can be done about it."""
    w, total = words(), len(comparison.items)
    progress = current.comparisons.progress(comparison.id)
    if state == "running":
        st.progress(comparison.done / total, text=w("compare.progress", done=comparison.done, total=total))
        if progress is None:  # another process runs it
            return
        step = "" if progress.step is None else f" · {w(f'step.{progress.step}')}"
        st.caption(w("compare.now", name=plain(comparison.items[progress.index].name)) + step)
        if progress.stopping:
            st.caption(w("compare.stopping"))
        elif st.button(w("compare.cancel"), key="compare_cancel", icon=":material/cancel:"):
            current.comparisons.cancel(comparison.id)
            st.rerun(scope="fragment")
    elif state in ("cancelled", "broken"):
        if progress is not None and progress.message:
            st.error(plain(w.sentence(progress.message)), icon=":material/error:")
        st.info(w(f"compare.{state}", done=comparison.done, total=total), icon=":material/info:")
        if st.button(w("compare.resume"), key="compare_resume", icon=":material/play_arrow:", type="primary"):
            current.comparisons.resume(comparison.id)
            st.rerun()


def _new(current: Desk, service: ModelService) -> None:
    w = words()
    st.subheader(w("compare.choose"), anchor=False)
    compare_intake.sources(service, current.settings.upload_limit_mb)
    compare_intake.chosen_list(service)
    clips = compare_intake.chosen()
    adapter = compare_intake.adapter_choice(service)
    with st.container(horizontal=True):
        go = st.button(w("compare.start", count=len(clips)), key="compare_start", type="primary", disabled=not clips)
        if clips and st.button(w("compare.empty"), key="compare_empty"):
            compare_intake.forget()
            st.rerun()
    if go:
        st.query_params[PARAMETER] = current.comparisons.start(clips, adapter)
        compare_intake.forget()
        st.rerun()


def _earlier(current: Desk, service: ModelService) -> None:
    w, found = words(), service.comparisons.list()
    if not found:
        return
    st.subheader(w("compare.earlier"), anchor=False)
    for comparison in found[:EARLIER]:
        state = w(f"compare_state.{current.comparisons.state(comparison)}")
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            when = minute(comparison.created_at)
            row = w("compare.row", when=when, done=comparison.done, total=len(comparison.items), state=state)
            adapter = "" if comparison.adapter is None else f" · {plain(comparison.adapter)}"
            st.markdown(row + adapter, width="stretch")
            if st.button(w("compare.show"), key=f"compare_show_{comparison.id}"):
                st.query_params[PARAMETER] = comparison.id
                st.rerun()


if __name__ == "__main__":
    show()
