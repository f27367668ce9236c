"""The reference clips that an analysis was compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from services.errors import HerdLensError
from ui.desk import Desk
from ui.history_entry import Entry, window_of
from ui.markup import paragraph
from ui.session import words
from ui.wording import plain

if TYPE_CHECKING:
    from services.model_service import ModelService


def show(past: Entry, service: ModelService, current: Desk) -> None:
    """Cases that the models read, with picture and clip where the library has them; then those that voted."""
    w, neighbours = words(), past.report["neighbours"]
    st.subheader(w("cases.title"), anchor=False)
    if not neighbours:
        st.caption(w("cases.off") if past.report["retrieval"] == "off" else w("cases.none"))
        return
    st.caption(w(f"cases.help_{past.report['retrieval']}"))
    shown, others = neighbours[: past.shown], neighbours[past.shown :]
    with st.container(key="cases"):
        for column, hit in zip(st.columns(max(len(shown), 2)), shown, strict=False):
            with column, st.container(border=True):
                _case(hit, service, current)
        if past.vote is not None:
            st.markdown(w("cases.vote", percent=past.voted))
        if others:
            panel = st.expander(w("cases.others", count=len(others)))
            with panel, st.grid("auto", min_column_width=140, key="voters") as grid:
                for hit in others:
                    with grid.cell():
                        _small(hit, service)


def _case(hit: dict[str, Any], service: ModelService, current: Desk) -> None:
    w = words()
    reference = _reference(hit["id"], service)
    path = reference.clip_path if reference is not None else None
    window = window_of(reference.metadata) if reference is not None else None
    player = current.playable(path, window) if path else None
    if player is not None:
        start = max(0, int(window.start_s - player[1])) if window else 0
        st.video(str(player[0]), start_time=start, muted=True, alt=w("cases.alt", label=w(f"label.{hit['label']}")))
    elif reference is not None and reference.thumbnail:
        st.image(reference.thumbnail, width="stretch", alt=w("cases.alt", label=w(f"label.{hit['label']}")))
    st.markdown(w("cases.case", label=w(f"label.{hit['label']}"), similarity=f"{hit['similarity']:.3f}"))
    st.html(paragraph(hit["description"] or w("cases.no_description")))
    gone = "" if reference is not None else w("cases.gone")
    st.caption(f"{plain(hit['id'])} {gone}")


def _small(hit: dict[str, Any], service: ModelService) -> None:
    w = words()
    reference = _reference(hit["id"], service)
    if reference is not None and reference.thumbnail:
        st.image(reference.thumbnail, width="stretch", alt=w("cases.alt", label=w(f"label.{hit['label']}")))
    st.markdown(w("cases.case", label=w(f"label.{hit['label']}"), similarity=f"{hit['similarity']:.3f}"))


def _reference(reference_id: str, service: ModelService) -> Any:
    """The library's entry, or None when it has been removed since."""
    try:
        return service.library.get(reference_id)
    except HerdLensError:
        return None
