"""One training as the Train screen shows it: live while it runs, then what it gained and what can be done with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from agent.verdict import percent
from services.adapters import validate
from services.errors import AdapterError, InputError
from services.training_runs import RunView
from ui.compare_intake import ADAPTER_KEY
from ui.intake import prefer_adapter
from ui.markup import scroll_up
from ui.session import guarded, words
from ui.wording import clock, minute, plain

if TYPE_CHECKING:
    from services.model_service import ModelService

EVERY_S = 2.0
FIGURES = ("balanced_accuracy_off", "balanced_accuracy_contrastive", "validation_loss")
FIGURE_WORDS = {
    "balanced_accuracy_off": "off",
    "balanced_accuracy_contrastive": "contrastive",
    "validation_loss": "loss",
}


def watch(service: ModelService, name: str) -> None:
    """The run ``name`` in a box; looks again by itself while it runs."""
    begun = service.runs.view(name)
    if begun is None:
        return

    @st.fragment(run_every=EVERY_S if begun.active else None)
    def panel() -> None:
        with guarded():
            run = service.runs.view(name)
            if run is None or run.active != begun.active:
                st.rerun()
            else:
                _panel(service, run)

    st.html(scroll_up(f"{begun.name} {begun.created_at}"), unsafe_allow_javascript=True)
    with st.container(border=True, key="training_run"):
        panel()


def heading(run: RunView) -> str:
    """Its name and how it stands."""
    w = words()
    return w("train.run", name=plain(run.name), state=w(f"run_state.{run.state}"))


def _panel(service: ModelService, run: RunView) -> None:
    w = words()
    st.subheader(heading(run), anchor=False)
    facts = w(
        "train.run_facts",
        mounting=run.clips.get("mounting", 0),
        normal=run.clips.get("normal", 0),
        profile=plain(str(run.settings["profile"])),
        when=minute(run.created_at),
    )
    if run.started_from is not None:
        facts = f"{facts} · {w('train.began_with', name=plain(run.started_from))}"
    st.caption(facts)
    if run.preparing:
        st.progress(0.0, text=w("train.preparing"))
    elif run.total_steps and run.state != "done":
        _progress(run)
    _ended(run)
    if run.state == "done":
        _gained(service, run)
    _curve(run)
    _buttons(service, run)


def _progress(run: RunView) -> None:
    w = words()
    left = run.latest("left_s")
    text = w("train.steps", step=run.step, total=run.total_steps)
    if run.active and left is not None:
        text += " · " + w("train.left", left=clock(left))
    st.progress(min(run.step / run.total_steps, 1.0), text=text)
    right = run.latest("balanced_accuracy_contrastive") or run.latest("balanced_accuracy_off")
    held_out = w("train.held_right_help", count=run.head.get("held_out", 0))
    shown = (
        (w("train.loss"), _short(run.latest("loss")), None),
        (w("train.held_loss"), _short(run.latest("validation_loss")), held_out),
        (w("train.held_right"), "–" if right is None else percent(right), held_out),
        (w("train.speed"), _short(run.latest("samples_per_s")), None),
    )
    for place, (name, value, help) in zip(st.columns(len(shown)), shown, strict=True):
        place.metric(name, value, help=help)


def _ended(run: RunView) -> None:
    """How it ended, where that is not well."""
    w = words()
    if run.state == "failed":
        st.error(plain(w.sentence(run.message) or w("error.internal")), icon=":material/error:")
    elif run.state == "killed":
        st.warning(w("train.killed"), icon=":material/warning:")
    elif run.state == "stopped":
        early = not run.total_steps
        told = w("train.stopped_early") if early else w("train.stopped", step=run.step, total=run.total_steps)
        st.info(told, icon=":material/pause_circle:")


def _gained(service: ModelService, run: RunView) -> None:
    """What the held-out clips say of base and adapter, and the way to use it."""
    w = words()
    measured = [key for key in FIGURES if run.best.get(key) is not None]
    if measured:
        st.markdown(f"**{w('train.figures', held_out=run.head.get('held_out', 0))}**")
        table = {
            w("train.figure"): [w(f"train.figure_{FIGURE_WORDS[key]}") for key in measured],
            w("train.base"): [_figure(run.base.get(key)) for key in measured],
        }
        if run.started_from is not None:
            name = w("train.begun_from", name=plain(run.started_from))
            table[name] = [_figure(run.began.get(key)) for key in measured]
        st.table(table | {w("train.tuned"): [_figure(run.best.get(key)) for key in measured]})
        st.caption(w("train.figures_help"))
    if _no_better(run):
        st.warning(w("train.no_better_start") if run.started_from else w("train.no_better"), icon=":material/warning:")
    with guarded():
        _use(service, run)


def _no_better(run: RunView) -> bool:
    """Whether the adapter gets no more of the held-out clips right than the base does, or the adapter that it went on
    from, in any way of asking."""
    pairs = [(run.began.get(key), run.best.get(key)) for key in FIGURES[:2]]
    measured = [(began, best) for began, best in pairs if began is not None and best is not None]
    return bool(measured) and all(best <= began for began, best in measured)


def _use(service: ModelService, run: RunView) -> None:
    w = words()
    if _in_use(service, run):
        st.success(w("train.in_use", name=plain(run.name)), icon=":material/check_circle:")
        with st.container(horizontal=True):
            if st.button(w("train.to_analyze"), key="train_to_analyze"):
                prefer_adapter(run.name)
                st.switch_page(str(Path(__file__).with_name("analyze.py")))
            if st.button(w("train.to_compare"), key="train_to_compare"):
                st.session_state[ADAPTER_KEY] = run.name
                st.switch_page(str(Path(__file__).with_name("compare.py")))
        return
    if st.button(w("train.use"), key="train_use", type="primary", icon=":material/rocket_launch:"):
        with st.spinner(w("train.using")):
            service.add_adapter(run.output, run.name)
        st.rerun()


def _in_use(service: ModelService, run: RunView) -> bool:
    """Whether the registry has exactly this adapter."""
    known = {record.name: record.digest for record in service.adapters.list()}
    if run.name not in known:
        return False
    try:
        return validate(run.output).digest == known[run.name]
    except AdapterError:
        return False


def _curve(run: RunView) -> None:
    w = words()
    step, loss, kind = w("train.axis_step"), w("train.loss"), w("train.series")
    points: dict[str, list[object]] = {step: [], loss: [], kind: []}
    for row in run.rows:
        for key, series in (("loss", w("train.series_loss")), ("validation_loss", w("train.series_held"))):
            if row.get(key) is not None:
                points[step].append(row["step"])
                points[loss].append(row[key])
                points[kind].append(series)
    if not points[step]:
        return
    st.line_chart(points, x=step, y=loss, color=kind, height=260, alt=w("train.curve"))
    st.caption(w("train.curve"))


def _buttons(service: ModelService, run: RunView) -> None:
    w = words()
    with st.container(horizontal=True):
        if run.active:
            stopping = run.state == "stopping"
            if stopping:
                st.caption(w("train.stopping"))
            if st.button(
                w("train.stop_now") if stopping else w("train.stop"), key="train_stop", icon=":material/stop_circle:"
            ):
                service.runs.stop(run.name)
                st.rerun(scope="fragment")
            return
        if run.state != "done" and st.button(
            w("train.resume"), key="train_resume", type="primary", icon=":material/play_arrow:"
        ):
            if not service.free_for_training():
                raise InputError(w("train.busy"))
            service.runs.resume(run.name)
            st.rerun()
        with st.popover(w("train.delete"), icon=":material/delete:"):
            st.write(w("train.delete_sure"))
            if st.button(w("train.delete_yes"), key="train_delete"):
                service.runs.delete(run.name)
                st.rerun()


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _figure(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float | int) else "–"
