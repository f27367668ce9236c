"""A running analysis: steps, the line, and what the models say while they say it."""

from __future__ import annotations

import streamlit as st

from agent.events import STEPS_OF
from ui.jobs import JobRunner, JobView, Speech
from ui.markup import paragraph
from ui.session import words
from ui.wording import clock, plain

EVERY_S = 0.6
SIGNS = {"waiting": ":material/radio_button_unchecked:", "running": ":material/pending:", "done": ":material/task_alt:"}


def watch(jobs: JobRunner, job_id: str) -> None:
    """Show the job until it ends, then run the page again."""

    @st.fragment(run_every=EVERY_S)
    def panel() -> None:
        view = jobs.view(job_id)
        if view is None or view.state != "running":
            st.rerun()
        else:
            _panel(jobs, view)

    panel()


def _panel(jobs: JobRunner, view: JobView) -> None:
    w = words()
    with st.container(border=True, key="progress"):
        st.subheader(w("progress.title", name=plain(view.clip_name)))
        steps = STEPS_OF[view.request.task]
        done = sum(view.steps[step].state == "done" for step in steps)
        st.progress(done / len(steps), text=w("progress.elapsed", seconds=f"{view.elapsed_s:.0f}"))
        for step in steps:
            progress = view.steps[step]
            seconds = w("progress.seconds", seconds=f"{progress.seconds:.1f}") if progress.state == "done" else ""
            st.markdown(f"{SIGNS[progress.state]} {w(f'step.{step}')} {seconds}")
        if view.clip is not None and view.clip.duration_s:
            window = view.clip.window
            st.caption(
                w(
                    "report.window",
                    start=clock(window.start_s),
                    end=clock(window.end_s),
                    total=clock(view.clip.duration_s),
                )
            )
        if view.steps["classify"].state != "waiting":
            for column, (name, speech) in zip(st.columns(len(view.speech)), view.speech.items(), strict=True):
                with column:
                    _speech(name, speech)
        if view.stopping:
            st.caption(w("progress.stopping"))
        elif st.button(w("progress.cancel"), key="cancel", icon=":material/cancel:"):
            jobs.cancel(view.id)
            st.rerun(scope="fragment")


def _speech(name: str, speech: Speech) -> None:
    w = words()
    st.markdown(f"**{w(f'variant.{name}')}**")
    if speech.place:
        st.caption(w("progress.place", place=speech.place))
    if speech.reasoning:
        st.caption(w("report.reasoning"))
        st.html(paragraph(speech.reasoning, "hl-text hl-quiet"))
    if speech.answer:
        st.html(paragraph(speech.answer))
    if not (speech.place or speech.reasoning or speech.answer or speech.done):
        st.caption(w("progress.thinking"))
