"""“Was this right?”: the farmer's word files the clip into the library and stands in the history."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from services.schema import LABELS, Label
from ui.history_entry import Entry, window_of
from ui.session import guarded, words
from ui.wording import plain

if TYPE_CHECKING:
    from services.model_service import ModelService

REASON_LIMIT = 1000


def ask_whether_right(past: Entry, service: ModelService) -> None:
    """Two buttons under the verdict; one click is enough, words are optional."""
    w = words()
    with st.container(border=True, key="feedback"):
        if past.feedback in LABELS:
            st.success(w("feedback.done", label=w(f"label.{past.feedback}")), icon=":material/bookmark_added:")
            st.caption(w("feedback.change"))
        else:
            st.markdown(f"**{w('feedback.title')}**")
            st.caption(w("feedback.help"))
        if past.clip_path is None:
            st.caption(w("feedback.no_clip"))
            return
        told = st.text_input(
            w("feedback.why"), key=f"why_{past.id}", max_chars=REASON_LIMIT, placeholder=w("feedback.why_example")
        )
        with st.container(horizontal=True):
            for label in LABELS:
                if st.button(w(f"feedback.{label}"), key=f"right_{label}_{past.id}", disabled=past.feedback == label):
                    with guarded(), st.spinner(w("feedback.filing")):
                        _file(past, service, label, told)
                        st.rerun()


def _file(past: Entry, service: ModelService, label: Label, told: str) -> None:
    """The description is what the farmer wrote; else the model's reason where it argues for the same label."""
    agreed = past.report["verdict"] == label and past.report["reason"]
    description = told.strip() or (past.report["reason"] if agreed else "")
    service.add_reference(str(past.clip_path), label, description, window_of(past.report["clip"]))
    service.history.set_feedback(past.id, label)
    st.toast(plain(words()("feedback.done", label=words()(f"label.{label}"))))
