"""The Analyze screen: choose a clip, watch the analysis, read the verdict."""

from __future__ import annotations

import streamlit as st

from services.errors import InputError
from services.schema import Request, Task
from ui import intake, progress, quality_view, report_view
from ui.desk import Desk
from ui.history_entry import load
from ui.markup import scroll_up
from ui.session import desk, guarded, service_or_note, words
from ui.wording import plain

PREVIOUS_KEY = "previous_report"


def show() -> None:
    """The whole screen. Each part has its own guard, so that one that fails leaves the others in place."""
    w, heading, asked = words(), st.empty(), intake.chosen_task()
    heading.title(w(f"analyze.title_{asked}"))
    with guarded():
        current = desk()
        if current.profile.notice:
            st.info(plain(w.sentence(current.profile.notice)), icon=":material/info:")
        with guarded():
            service_or_note(current)
        shown = _result(current)
        if shown is not None and shown != asked:
            heading.title(w(f"analyze.title_{shown}"))
        with guarded():
            _intake(current)


def _result(current: Desk) -> Task | None:
    """The running job, or the report in the address, or what became of the job; the task that is shown, if any."""
    w = words()
    job_id, report_id = st.query_params.get("job"), st.query_params.get("report")
    previous = st.session_state.get(PREVIOUS_KEY)
    if job_id is not None:
        view = current.jobs.view(job_id)
        if view is None:
            st.info(w("analyze.job_gone"), icon=":material/info:")
        elif view.state == "running":
            st.html(scroll_up(view.id), unsafe_allow_javascript=True)
            progress.watch(current.jobs, job_id)
            return view.request.task
        elif view.report_id is not None:
            _leave_job(report=view.report_id)
        elif view.state == "cancelled":
            st.info(w("analyze.cancelled", name=plain(view.clip_name)), icon=":material/cancel:")
        else:
            st.error(plain(w.sentence(view.message)), icon=":material/error:")
            if view.repeatable and st.button(w("error.retry"), key="retry_job", icon=":material/refresh:"):
                with guarded():
                    _start(current, view.request, view.clip_name)
        if previous is None:
            return None
        st.subheader(w("analyze.previous"))
        report_id = previous
    if report_id is None:
        return None
    task: Task | None = None
    with guarded():
        service = current.service() if current.ready else None
        if service is None:
            return None
        past = load(service, report_id)
        task = "quality" if past.is_quality else "mounting"
        st.html(scroll_up(past.id), unsafe_allow_javascript=True)
        st.session_state[PREVIOUS_KEY] = report_id
        screen = quality_view if past.is_quality else report_view
        again = screen.show(past, service, current)
        if again is not None:
            chosen = intake.chosen_options(current.profile.retrieval, again.task)
            _start(current, chosen.request(again.path, again.window), again.name)
    return task


def _intake(current: Desk) -> None:
    w = words()
    service = current.service() if current.ready else None
    if "job" in st.query_params or "report" in st.query_params:
        st.divider()
    st.subheader(w("intake.title"))
    task = intake.task_switch()
    chosen = intake.upload_widget(service, current.settings.upload_limit_mb, task)
    options = intake.options_panel(service, current.profile.retrieval, task)
    if service is not None:
        chosen = chosen or intake.media_select(service) or intake.sample_cards(service)
    if chosen is not None:
        _start(current, options.request(chosen.path), chosen.name)


def _start(current: Desk, request: Request, name: str) -> None:
    try:
        job_id = current.jobs.start(request, name)
    except InputError:
        current.forget_clip(request)
        raise
    _leave_job(job=job_id)


def _leave_job(**address: str) -> None:
    """Put a job or a report into the address and run the page again."""
    for key in ("job", "report"):
        st.query_params.pop(key, None)
    st.query_params.update(address)
    st.rerun()


if __name__ == "__main__":
    show()
