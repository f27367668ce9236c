"""The training set as the Train screen shows it: where its clips come from, how many there are, what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import streamlit as st

from services.errors import HerdLensError, InputError
from services.practice import CLIPS
from services.schema import LABELS
from services.training_set import TrainingClip, counts, once, require_trainable
from ui.desk import Desk
from ui.session import guarded, words
from ui.wording import plain

if TYPE_CHECKING:
    from services.model_service import ModelService

Kind = Literal["own", "sample", "practice"]
KINDS: tuple[Kind, ...] = ("own", "sample", "practice")
"""The farmer's own word goes first where a clip comes from two of them."""
PICTURES = 12
"""Clips that are shown; the others are counted."""
EVERY_S = 2.0
SOURCES = "train_sources"


def choose(current: Desk, service: ModelService) -> tuple[list[TrainingClip], bool]:
    """The chosen clips and whether they can be trained on; shown with what is missing."""
    w = words()
    found = {"own": service.own_clips(), "sample": service.sample_clips, "practice": service.practice.clips()}
    st.session_state.setdefault(SOURCES, ["own"])  # a default beside a value that a button sets is an error
    picked = st.pills(
        w("train.sources"),
        list(KINDS),
        selection_mode="multi",
        format_func=lambda kind: w(f"source.{kind}", count=len(found[kind])),
        key=SOURCES,
        persist_state="session",
        help=w("train.sources_help"),
    )
    clips = once(clip for kind in KINDS if kind in picked for clip in found[kind])
    numbers = counts(clips)
    for place, label in zip(st.columns(4)[: len(LABELS)], LABELS, strict=True):
        place.metric(w(f"label.{label}"), numbers[label], border=True)
    if clips:
        reasoned = sum(bool(clip.reason.strip()) for clip in clips)
        told = w("train.counted", count=len(clips), reasoned=reasoned)
        st.caption(told if reasoned == len(clips) else f"{told} {w('train.verdict_only')}")
    trainable = True
    try:
        require_trainable(clips)
    except InputError as error:
        trainable = False
        st.info(plain(w.sentence(str(error))), icon=":material/info:")
    _pictures(current, clips)
    with guarded():
        _practice(service)
    return clips, trainable


def _pictures(current: Desk, clips: list[TrainingClip]) -> None:
    w = words()
    with st.grid(6, min_column_width=110, gap="xsmall", key="training_set") as grid:
        for clip in clips[:PICTURES]:
            with grid.cell():
                try:
                    picture = current.picture(clip)
                    st.image(picture, width="stretch", alt=w("cases.alt", label=w(f"label.{clip.label}")))
                except HerdLensError:
                    st.caption(w("train.no_picture"))
                st.caption(f"**{w(f'label.{clip.label}')}** · {w(f'from.{clip.source}')}")
    if len(clips) > PICTURES:
        st.caption(w("train.more_clips", count=len(clips) - PICTURES))


def _practice(service: ModelService) -> None:
    """The button that draws practice clips; how far that is, while it goes on."""
    w, drawing = words(), service.practice.drawing()
    if drawing is not None and not drawing.message:

        @st.fragment(run_every=EVERY_S)
        def progress() -> None:
            now = service.practice.drawing()
            if now is None or now.message:
                st.rerun()
            else:
                st.progress(now.done / now.total, text=w("train.drawing", done=now.done, total=now.total))

        progress()
        return
    if drawing is not None:
        told = w("train.draw_broken", done=drawing.done, total=drawing.total, message=w.sentence(drawing.message))
        st.warning(plain(told))
    if st.button(w("train.draw", count=CLIPS), key="train_draw", icon=":material/draw:", on_click=_choose_practice):
        service.practice.draw()
        st.rerun()


def _choose_practice() -> None:
    """Whoever draws clips wants to train on them."""
    chosen = st.session_state.get(SOURCES, ["own"])
    st.session_state[SOURCES] = [kind for kind in KINDS if kind in chosen or kind == "practice"]
