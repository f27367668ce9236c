"""Where a clip comes in: an upload, a shipped sample, a file of the media folder; and how to look at it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from services.errors import InputError
from services.schema import TASKS, Request, RetrievalMode, Task, VariantName, Window
from ui.session import words
from ui.wording import plain, size

if TYPE_CHECKING:
    from services.clip_sources import SampleClip
    from services.model_service import ModelService

log = logging.getLogger(__name__)

SUFFIXES = ("mp4", "mov", "avi", "mkv", "webm", "gif", "mpg", "mpeg")
PICTURES = ("jpg", "jpeg", "png", "webp")
"""Taken for the quality task only."""
VARIANTS: dict[str, tuple[VariantName, ...]] = {"both": ("base", "tuned"), "tuned": ("tuned",), "base": ("base",)}
MODES: tuple[RetrievalMode, ...] = ("contrastive", "nearest", "off")

TASK_KEY = "task"
_UPLOADER_ROUND = "uploader_round"


@dataclass(frozen=True)
class Chosen:
    """A clip that is on disk and the name the user knows it by."""

    path: str
    name: str


@dataclass(frozen=True)
class Options:
    """How to look at a clip."""

    variants: tuple[VariantName, ...]
    retrieval: RetrievalMode
    adapter: str | None
    task: Task = "mounting"

    def request(self, path: str, window: Window | None = None) -> Request:
        """What the agent is asked about the clip at ``path``."""
        return Request(path, self.variants, self.retrieval, self.adapter, window, self.task)


def chosen_task() -> Task:
    """What the session asks about, for a part of the page that stands above the switch."""
    task: Task = "quality" if st.session_state.get(TASK_KEY) == "quality" else "mounting"
    return task


def task_switch() -> Task:
    """Mounting or picture quality; kept for the session."""
    w = words()
    st.segmented_control(
        w("task.title"),
        list(TASKS),
        format_func=lambda name: w(f"task.{name}"),
        default="mounting",
        required=True,
        key=TASK_KEY,
        persist_state="session",
        help=w("task.help"),
    )
    return chosen_task()


def upload_widget(service: ModelService | None, limit_mb: int, task: Task) -> Chosen | None:
    """The uploader. A new file goes to disk at once and its buffer is given back; while the services are still
    starting it is kept and taken by the run that finds them ready."""
    w = words()
    turn = st.session_state.setdefault(_UPLOADER_ROUND, 0)
    quality = task == "quality"
    file = st.file_uploader(
        w("intake.upload_quality") if quality else w("intake.upload"),
        type=[*SUFFIXES, *PICTURES] if quality else list(SUFFIXES),
        max_upload_size=limit_mb,
        key=f"clip_{task}_{turn}",
        help=w("intake.upload_quality_help") if quality else w("intake.upload_help"),
    )
    if file is None:
        return None
    if service is None:
        st.info(w("intake.waiting"))
        return None
    try:
        path = service.history.store_upload(file, file.name, limit_bytes=limit_mb * 2**20)
    finally:
        give_back(file)
        st.session_state[_UPLOADER_ROUND] = turn + 1
    return Chosen(str(path), file.name)


def give_back(file: Any) -> None:
    """Drop the bytes that Streamlit holds for an upload; it would keep them until the session ends."""
    context = get_script_run_ctx()
    if context is not None:
        held: Any = context.uploaded_file_mgr
        held.remove_file(context.session_id, file.file_id)
    file.close()


def sample_cards(service: ModelService) -> Chosen | None:
    """The shipped clips, each playable and with one button."""
    w = words()
    samples = service.samples()
    if not samples:
        return None
    st.subheader(w("intake.samples"))
    st.caption(w("intake.samples_help"))
    chosen = None
    with st.grid(3, min_column_width=150, key="samples") as grid:
        for index, sample in enumerate(samples):
            with grid.cell():
                st.video(str(sample.path), muted=True, alt=sample_title(sample))
                if st.button(plain(sample_title(sample)), key=f"sample_{index}", width="stretch"):
                    chosen = Chosen(str(sample.path), sample_title(sample))
    return chosen


def sample_title(sample: SampleClip) -> str:
    """What the sample shows, in the language of the session where the wording knows its file name."""
    return words().sample(sample.path.stem, sample.title)


def media_select(service: ModelService) -> Chosen | None:
    """A long file of the media folder; absent when the settings name none."""
    w = words()
    if service.settings.media is None:
        return None
    st.subheader(w("intake.media"))
    root = Path(service.settings.media).resolve()
    files = service.media_files()
    if not files:
        st.caption(w("intake.media_empty", folder=plain(str(root))))
        return None
    names = {path.resolve().relative_to(root).as_posix(): path for path in files}
    name = st.selectbox(
        w("intake.media_file"), list(names), index=None, key="media_file", placeholder=w("intake.media_choose")
    )
    if name is None:
        return None
    st.caption(size(names[name].stat().st_size))
    if not st.button(w("intake.media_start"), key="media_start", type="primary"):
        return None
    if names[name].resolve() not in {path.resolve() for path in service.media_files()}:
        raise InputError(f"{name} is no longer in the media folder; choose another file.")
    return Chosen(str(names[name].resolve()), name)


def options_panel(service: ModelService | None, default_mode: RetrievalMode, task: Task) -> Options:
    """Variant, retrieval mode (of mounting) and adapter; kept for the session."""
    w = words()
    with st.expander(w("options.title"), icon=":material/tune:"):
        variant = st.radio(
            w("options.variant"),
            list(VARIANTS),
            format_func=lambda name: w(f"variant.{name}"),
            captions=[w(f"variant.{name}.help") for name in VARIANTS],
            key="variant",
            persist_state="session",
        )
        mode = default_mode
        if task == "mounting":
            mode = st.radio(
                w("options.retrieval"),
                list(MODES),
                index=MODES.index(default_mode),
                format_func=lambda name: w(f"retrieval.{name}"),
                captions=[w(f"retrieval.{name}.help") for name in MODES],
                key="retrieval",
                persist_state="session",
            )
        names = service.adapter_names(task) if service else []
        adapter = None
        if names and variant != "base":
            adapter = st.selectbox(
                w("options.adapter"),
                [None, *names],
                format_func=lambda name: w("options.adapter_default") if name is None else name,
                key=_adapter_key(task),
                persist_state="session",
            )
    return Options(VARIANTS[variant], mode, adapter, task)


def chosen_options(default_mode: RetrievalMode, task: Task) -> Options:
    """What the panel says, for a part of the page that stands above it."""
    variant, state = st.session_state.get("variant", "both"), st.session_state
    return Options(VARIANTS[variant], state.get("retrieval", default_mode), state.get(_adapter_key(task)), task)


def prefer_adapter(name: str) -> None:
    """Choose an adapter for the session, from another screen."""
    st.session_state[_adapter_key("mounting")] = name
    if st.session_state.get("variant") == "base":
        st.session_state["variant"] = "both"


def _adapter_key(task: Task) -> str:
    """Each task has adapters of its own."""
    return "adapter" if task == "mounting" else f"adapter_{task}"
