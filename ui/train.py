"""The Train screen: a training set of the farmer's own clips, a training on it, and the adapter put to use."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import streamlit as st

from services.errors import InputError
from services.training_runs import RunSettings, RunView
from services.training_set import TrainingClip, counts, has_cases, write
from ui import train_run, train_set
from ui.desk import Desk
from ui.session import desk, guarded, service_or_note, words
from ui.wording import plain

if TYPE_CHECKING:
    from services.model_service import ModelService

PARAMETER = "run"
RATES = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3)


def show() -> None:
    w = words()
    st.title(w("train.title"))
    with guarded():
        current = desk()
        st.caption(w("train.help"))
        if current.profile.notice:
            st.info(plain(w.sentence(current.profile.notice)), icon=":material/info:")
        service = service_or_note(current)
        if service is None:
            return
        runs = service.runs.list()
        with guarded():
            shown = _chosen(runs)
            if shown is not None:
                train_run.watch(service, shown.name)
        with guarded():
            _new(current, service, next((run for run in runs if run.active), None))
        with guarded():
            _others(runs, shown)


def _chosen(runs: list[RunView]) -> RunView | None:
    """The run in the address, else the one that is running, else the newest."""
    named = next((run for run in runs if run.name == st.query_params.get(PARAMETER)), None)
    if named is None:
        st.query_params.pop(PARAMETER, None)
    return named or next((run for run in runs if run.active), runs[0] if runs else None)


def _new(current: Desk, service: ModelService, active: RunView | None) -> None:
    w = words()
    st.subheader(w("train.set"), anchor=False)
    clips, trainable = train_set.choose(current, service)
    st.subheader(w("train.new"), anchor=False)
    if active is not None:
        st.info(w("train.one_runs"), icon=":material/hourglass_top:")
    cases = has_cases(clips)
    usual = RunSettings(
        current.profile.name,
        at_once=current.profile.training.batch,
        learning_rate=current.profile.training.learning_rate,
    )
    free = _free_name(service)
    with st.form("train_form"):
        name = st.text_input(
            w("train.name"), value=free, max_chars=64, key=f"train_name_{free}", help=w("train.name_help")
        )
        known = service.adapter_names("mounting")
        start = st.selectbox(
            w("train.begin"),
            ["", *known],
            format_func=lambda adapter: plain(adapter) or w("train.begin_new"),
            key="train_begin",
            help=w("train.begin_help"),
        )
        epochs = st.slider(w("train.epochs"), 1, 20, usual.epochs, key="train_epochs", help=w("train.epochs_help"))
        with st.expander(w("train.more"), icon=":material/tune:"):
            batch = st.select_slider(w("train.batch"), [1, 2, 4, 8, 16], usual.batch, key="train_batch")
            rate = st.select_slider(
                w("train.rate"),
                RATES,
                usual.learning_rate,
                format_func=lambda value: f"{value:g}",
                key="train_rate",
                help=w("train.rate_help"),
            )
            share = st.select_slider(
                w("train.held_out"),
                [0.1, usual.validation_share, 0.3, 0.4],
                usual.validation_share,
                format_func=lambda value: f"{value * 100:.0f} %",
                key="train_share",
                help=w("train.held_out_help"),
            )
            context = st.toggle(
                w("train.context"),
                value=cases,
                disabled=not cases,
                key=f"train_context_{cases}",
                help=w("train.context_help"),
            )
            if clips and not cases:
                st.caption(w("train.no_context"))
        go = st.form_submit_button(
            w("train.start"),
            type="primary",
            icon=":material/model_training:",
            disabled=not trainable or active is not None,
        )
    if not go:
        return
    settings = replace(
        usual,
        epochs=epochs,
        batch=batch,
        learning_rate=rate,
        context="mixed" if context and has_cases(clips, share) else "off",
        validation_share=share,
        start=None if not start else str(service.adapters.get(start).folder.absolute()),
    )
    _start(service, name.strip(), settings, clips)


def _start(service: ModelService, name: str, settings: RunSettings, clips: list[TrainingClip]) -> None:
    w = words()
    if name.lower() in {known.lower() for known in service.adapter_names()}:
        raise InputError(w("train.name_taken", name=name))
    if not service.free_for_training():
        raise InputError(w("train.busy"))
    with st.spinner(w("train.preparing_set")):
        numbers = {str(label): number for label, number in counts(clips).items()}
        service.runs.start(name, settings, numbers, lambda folder: write(folder, clips, service.cut))
    st.query_params[PARAMETER] = name
    st.rerun()


def _free_name(service: ModelService) -> str:
    """``barn-1``, or the next one that neither a run nor an adapter has."""
    taken = {run.name for run in service.runs.list()} | set(service.adapter_names())
    return next(name for number in range(1, len(taken) + 2) if (name := f"barn-{number}") not in taken)


def _others(runs: list[RunView], shown: RunView | None) -> None:
    w = words()
    others = [run for run in runs if shown is None or run.name != shown.name]
    if not others:
        return
    st.subheader(w("train.runs"), anchor=False)
    for run in others:
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            st.markdown(train_run.heading(run), width="stretch")
            if st.button(w("train.show"), key=f"train_show_{run.name}"):
                st.query_params[PARAMETER] = run.name
                st.rerun()


if __name__ == "__main__":
    show()
