"""The Library screen: browse and filter the reference clips, add one, correct a label, delete, export."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import streamlit as st

from services.schema import LABELS
from ui.desk import Desk
from ui.history_entry import window_of
from ui.intake import SUFFIXES, give_back
from ui.markup import paragraph
from ui.session import desk, guarded, service_or_note, words
from ui.wording import plain

if TYPE_CHECKING:
    from services.library import Reference
    from services.model_service import ModelService

PER_PAGE = 12
ORIGINS: tuple[Literal["user", "shipped"], ...] = ("user", "shipped")
DESCRIPTION_LIMIT = 1000
OPEN_KEY = "open_reference"


def show() -> None:
    w = words()
    st.title(w("library.title"))
    with guarded():
        current = desk()
        service = service_or_note(current)
        if service is None:
            return
        st.caption(w("library.help"))
        with guarded():
            _add(service, current)
        with guarded():
            _detail(service, current)
        _browse(service)


def _add(service: ModelService, current: Desk) -> None:
    """A clip with its label and reason. The form is emptied by a new key once the clip is in."""
    w = words()
    turn = st.session_state.setdefault("library_round", 0)
    with st.expander(w("library.add"), icon=":material/add:"), st.form(f"add_reference_{turn}", border=False):
        file = st.file_uploader(
            w("library.clip"),
            type=list(SUFFIXES),
            max_upload_size=current.settings.upload_limit_mb,
            key=f"reference_{turn}",
        )
        label = st.radio(
            w("library.label"), LABELS, index=None, format_func=lambda name: w(f"label.{name}"), horizontal=True
        )
        description = st.text_area(
            w("library.description"), max_chars=DESCRIPTION_LIMIT, placeholder=w("library.description_example")
        )
        sent = st.form_submit_button(w("library.add_button"), type="primary")
    if not sent:
        return
    if file is None or label is None:
        st.warning(w("library.incomplete"))
        return
    with st.spinner(w("feedback.filing")):
        try:
            path = service.history.store_upload(file, file.name)
        finally:
            give_back(file)
        try:
            service.add_reference(str(path), label, description.strip())
        finally:
            service.history.discard_upload(path)  # the library keeps a copy of its own
    st.session_state["library_round"] = turn + 1
    st.toast(w("library.added"))
    st.rerun()


def _browse(service: ModelService) -> None:
    w = words()
    label_column, origin_column, text_column = st.columns(3)
    label = label_column.pills(w("library.label"), LABELS, format_func=lambda name: w(f"label.{name}"), key="by_label")
    origin = origin_column.pills(
        w("library.origin"), ORIGINS, format_func=lambda name: w(f"origin.{name}"), key="by_origin"
    )
    text = text_column.text_input(w("library.search"), key="by_text").strip()
    found = service.library.list(label=label, origin=origin, text=text or None)
    st.caption(w("library.count", found=len(found), total=service.library.count()))
    if not found:
        st.info(w("library.empty"), icon=":material/info:")
        return
    pages = math.ceil(len(found) / PER_PAGE)
    page = min(st.pagination(pages, key="library_page") if pages > 1 else 1, pages)
    with st.grid("auto", min_column_width=150, key="references") as grid:
        for reference in found[(page - 1) * PER_PAGE : page * PER_PAGE]:
            with grid.cell():
                _card(reference)


def _card(reference: Reference) -> None:
    w = words()
    with st.container(border=True):
        if reference.thumbnail:
            st.image(reference.thumbnail, width="stretch", alt=w("cases.alt", label=w(f"label.{reference.label}")))
        st.markdown(f"**{w(f'label.{reference.label}')}**")
        marks = [w(f"origin.{reference.origin}")]
        marks += [w("library.hidden")] if reference.hidden else []
        marks += [w("library.corrected")] if reference.corrected else []
        st.caption(" · ".join(marks))
        if st.button(w("library.look"), key=f"look_{reference.id}", width="stretch"):
            st.session_state[OPEN_KEY] = reference.id
            st.rerun()


def _detail(service: ModelService, current: Desk) -> None:
    """The reference that was picked: its clip, and everything about it that can be changed."""
    w = words()
    if OPEN_KEY not in st.session_state:
        return
    with st.container(border=True, key="reference"):
        reference = service.library.get(st.session_state[OPEN_KEY])
        st.subheader(w("library.reference"), anchor=False)
        picture, form = st.columns(2)
        with picture:
            _picture(reference, current)
        with form:
            label = st.radio(
                w("library.label"),
                LABELS,
                index=LABELS.index(reference.label),
                format_func=lambda name: w(f"label.{name}"),
                horizontal=True,
                key=f"label_{reference.id}",
            )
            description = st.text_area(
                w("library.description"),
                value=reference.description if label == reference.label else "",
                max_chars=DESCRIPTION_LIMIT,
                key=f"description_{label}_{reference.id}",
            )
            if st.button(w("library.save"), key=f"save_{reference.id}", type="primary"):
                service.library.relabel(reference.id, label, description.strip())
                _close()
        _actions(reference, service)


def _picture(reference: Reference, current: Desk) -> None:
    w = words()
    window = window_of(reference.metadata)
    player = current.playable(reference.clip_path, window) if reference.clip_path else None
    if player is not None:
        start = max(0, int(window.start_s - player[1])) if window else 0
        st.video(str(player[0]), start_time=start, muted=True, alt=w("cases.alt", label=w(f"label.{reference.label}")))
    elif reference.thumbnail:
        st.image(reference.thumbnail, width="stretch", alt=w("cases.alt", label=w(f"label.{reference.label}")))
    st.html(paragraph(reference.description or w("cases.no_description")))
    st.caption(plain(reference.id))


def _actions(reference: Reference, service: ModelService) -> None:
    w, library = words(), service.library
    with st.container(horizontal=True):
        if st.button(w("library.close"), key="close_reference"):
            _close()
        corrected = reference.corrected and reference.origin == "shipped"
        if (reference.hidden or corrected) and st.button(w("library.restore"), key=f"restore_{reference.id}"):
            library.restore(reference.id)
            _close()
        if not reference.hidden and st.button(w("library.hide"), key=f"hide_{reference.id}"):
            library.hide(reference.id)
            _close()
        if reference.origin == "user":
            with st.popover(w("library.remove"), icon=":material/delete:"):
                st.write(w("library.remove_sure"))
                if st.button(w("library.remove_yes"), key=f"remove_{reference.id}"):
                    library.remove(reference.id)
                    _close()


def _close() -> None:
    st.session_state.pop(OPEN_KEY, None)
    st.rerun()


if __name__ == "__main__":
    show()
