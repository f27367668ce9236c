"""Where the clips of a comparison come from: uploads, samples, an annotation file, past analyses."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from services.comparisons import Compared
from ui.history_entry import window_of
from ui.intake import SUFFIXES, give_back, sample_title
from ui.session import guarded, words
from ui.wording import minute, plain

if TYPE_CHECKING:
    from services.history import Past
    from services.model_service import ModelService

CHOSEN_KEY = "compare_clips"
ADAPTER_KEY = "compare_adapter"
SAID_KEY = "compare_said"
"""What the last addition came to; shown once, because the page runs again to empty the widget that gave it."""
RECENT = 200
"""Past analyses that can be chosen from."""


def chosen() -> list[Compared]:
    """The clips gathered so far in this session."""
    found: list[Compared] = st.session_state.setdefault(CHOSEN_KEY, [])
    return found


def forget() -> None:
    """Empty the list."""
    st.session_state[CHOSEN_KEY] = []


def sources(service: ModelService, limit_mb: int) -> None:
    """The tabs from which clips are added."""
    w = words()
    names = ("upload", "samples", "annotations", "history")
    labels = [w(f"compare.tab_{name}") for name in names]
    upload, samples, annotations, history = st.tabs(labels, key=f"compare_tabs_{w.language}", on_change="rerun")
    with upload, guarded():
        _uploads(service, limit_mb)
    with samples, guarded():
        _samples(service)
    with annotations, guarded():
        _annotations(service)
    with history, guarded():
        _history(service)
    if said := st.session_state.pop(SAID_KEY, ""):
        st.toast(said)


def chosen_list(service: ModelService) -> None:
    """What was gathered, with a button to leave a clip out again."""
    w, clips = words(), chosen()
    if not clips:
        return
    known = service.known_labels()
    truths = [clip.label or known.get(clip.sha256 or "") for clip in clips]
    st.caption(w("compare.chosen", count=len(clips), known=sum(truth is not None for truth in truths)))
    turn = st.session_state.setdefault("compare_turn", 0)
    table = {
        w("compare.clip"): [clip.name for clip in clips],
        w("compare.truth"): [w(f"label.{truth}") if truth else "" for truth in truths],
        "remove": [w("compare.remove")] * len(clips),
    }
    key = f"compare_remove_{turn}"
    remove = st.column_config.ButtonColumn("", type="tertiary", key=key, width="small")
    st.dataframe(table, hide_index=True, column_config={"remove": remove}, height=min(38 + 35 * len(clips), 300))
    click = st.session_state.get(key)
    if click is not None and click["row"] < len(clips):
        del clips[click["row"]]
        st.session_state["compare_turn"] = turn + 1
        st.rerun()


def adapter_choice(service: ModelService) -> str | None:
    """The adapter that tuned runs with; None is the profile's."""
    w, names = words(), service.adapter_names("mounting")
    if not names:
        return None
    return st.selectbox(
        w("options.adapter"),
        [None, *names],
        format_func=lambda name: w("options.adapter_default") if name is None else name,
        key=ADAPTER_KEY,
        persist_state="session",
    )


def _uploads(service: ModelService, limit_mb: int) -> None:
    """Each file goes to disk at once and its buffer is given back; the widget is emptied by a new key."""
    w = words()
    turn = st.session_state.setdefault("compare_upload_turn", 0)
    files = st.file_uploader(
        w("compare.upload"),
        type=list(SUFFIXES),
        accept_multiple_files=True,
        max_upload_size=limit_mb,
        key=f"compare_upload_{turn}",
        help=w("compare.upload_help"),
    )
    if not files:
        return
    stored = []
    try:
        for file in files:
            path = service.history.store_upload(file, file.name, limit_bytes=limit_mb * 2**20)
            stored.append(Compared(str(path), file.name))
    finally:
        for file in files:
            give_back(file)
        st.session_state["compare_upload_turn"] = turn + 1
        _remember(stored)
    _added(stored)


def _samples(service: ModelService) -> None:
    w = words()
    samples = {str(sample.path): sample for sample in service.samples()}
    digests = {str(clip.path): clip.sha256 for clip in service.sample_clips}
    with st.form("compare_samples_form", border=False, clear_on_submit=True):
        picked = st.pills(
            w("compare.samples"),
            list(samples),
            selection_mode="multi",
            format_func=lambda path: sample_title(samples[path]),
            key="compare_samples",
        )
        sent = st.form_submit_button(w("compare.add"))
    if sent:
        _added([Compared(path, sample_title(samples[path]), sha256=digests.get(path)) for path in picked])


def _annotations(service: ModelService) -> None:
    w = words()
    if service.settings.media is None:
        st.caption(w("compare.no_media"))
        return
    root = Path(service.settings.media).resolve()
    files = {path.relative_to(root).as_posix(): path for path in service.annotation_files()}
    if not files:
        st.caption(w("compare.no_annotations", folder=plain(str(root))))
        return
    with st.form("compare_annotations_form", border=False):
        name = st.selectbox(
            w("compare.annotations"), list(files), key="compare_annotations", help=w("compare.annotations_help")
        )
        sent = st.form_submit_button(w("compare.add"))
    if sent and name:
        clips = [Compared(str(path), path.name, label) for path, label in service.annotated(files[name])]
        if clips:
            _added(clips)
        st.info(w("compare.no_clips", file=plain(name)))


def _history(service: ModelService) -> None:
    w = words()
    past = {one.id: one for one in _comparable(service.history.list(RECENT))}
    if not past:
        st.caption(w("compare.no_history"))
        return
    with st.form("compare_history_form", border=False, clear_on_submit=True):
        picked = st.multiselect(
            w("compare.history"),
            list(past),
            format_func=lambda id: f"{past[id].clip_name} · {minute(past[id].created_at)}",
            key="compare_history",
            placeholder=w("compare.choose_some"),
            help=w("compare.history_help"),
            wrap=False,  # growing and shrinking, it would move the button away under the finger
        )
        sent = st.form_submit_button(w("compare.add"))
    if sent:
        _added([_again(past[id]) for id in picked])


def _comparable(found: Iterable[Past]) -> list[Past]:
    """One entry for each span of each clip that is still there and was asked about mounting."""
    once: dict[tuple[str, str], Past] = {}
    for past in found:
        if past.clip_path is not None and past.report.get("task", "mounting") == "mounting":
            once.setdefault((past.clip_sha256, str(past.report["clip"]["window"])), past)
    return list(once.values())


def _again(past: Past) -> Compared:
    window = window_of(past.report["clip"])
    span = (window.start_s, window.end_s) if window else None
    return Compared(str(past.clip_path), past.clip_name, window=span, sha256=past.clip_sha256)


def _added(clips: list[Compared]) -> None:
    """Take them into the list and run the page again."""
    _remember(clips)
    st.session_state[SAID_KEY] = words()("compare.added", count=len(clips))
    st.rerun()


def _remember(clips: list[Compared]) -> None:
    """Each span of a clip once."""
    there = {(clip.path, clip.window) for clip in chosen()}
    chosen().extend(clip for clip in clips if (clip.path, clip.window) not in there)
