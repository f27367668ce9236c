"""What every screen shares: the language, the desk of the chosen profile, links between screens, and the guard that
turns whatever goes wrong into one sentence."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from services.errors import HerdLensError
from services.settings import Settings, load_settings, profiles
from ui.desk import Desk
from ui.wording import LANGUAGES, Language, Words, plain

if TYPE_CHECKING:
    from services.model_service import ModelService

log = logging.getLogger(__name__)

LANGUAGE_KEY = "language"
LANGUAGE_PARAMETER = "lang"
PROFILE_KEY = "profile"
PATIENCE_S = 0.4
"""How long a page waits for the services before it shows itself without them."""


def words() -> Words:
    """The wording in the language of this session."""
    return Words(st.session_state.get(LANGUAGE_KEY, "en"))


def language_switch() -> None:
    """English or Korean: the browser's own, or the other one, which is kept in the address (``?lang=ko``) too, so that
    it survives a reload."""
    usual = usual_language()
    if LANGUAGE_KEY not in st.session_state:
        asked = st.query_params.get(LANGUAGE_PARAMETER)
        st.session_state[LANGUAGE_KEY] = asked if asked in LANGUAGES else usual
    chosen = st.segmented_control(
        words()("nav.language"),
        options=list(LANGUAGES),
        format_func=lambda code: LANGUAGES[code],
        required=True,
        key=LANGUAGE_KEY,
        label_visibility="collapsed",
    )
    if chosen is None or chosen == usual:
        st.query_params.pop(LANGUAGE_PARAMETER, None)
    elif st.query_params.get(LANGUAGE_PARAMETER) != chosen:
        st.query_params[LANGUAGE_PARAMETER] = chosen


def usual_language() -> Language:
    """Korean where the browser asks for it, else English."""
    return "ko" if (st.context.locale or "").lower().startswith("ko") else "en"


def desk() -> Desk:
    """The desk of the chosen profile, shared with all sessions of this process."""
    settings = load_settings()
    return shared_desk(settings, st.session_state.get(PROFILE_KEY) or settings.profile)


def choose_profile(name: str) -> None:
    """Use another profile in this session."""
    if name in profiles():
        st.session_state[PROFILE_KEY] = name


def forget_desk() -> None:
    """Build the services anew on the next run (after a failure that the user has mended)."""
    shared_desk.clear()


@st.cache_resource(show_spinner=False, hash_funcs={Settings: lambda settings: settings.model_dump_json()})
def shared_desk(settings: Settings, profile_name: str) -> Desk:
    """One desk per settings and profile in this process."""
    return Desk(settings, profile_name)


def service_or_note(current: Desk) -> ModelService | None:
    """The services; until they are there a note that looks again by itself, and None; also None, with the reason in
    the page, when they cannot be built."""
    try:
        service = current.service(PATIENCE_S)
    except HerdLensError as error:
        _sentence(error)
        if st.button(words()("error.retry"), key="retry_services"):
            forget_desk()
            st.rerun()
        return None
    if service is None or not (current.warm or current.warm_error):
        _loading_note(current, service is None)
    if current.warm_error and not (service and service.loaded):  # a server may have come up since
        st.warning(plain(words().sentence(current.warm_error)))
    return service


def _loading_note(current: Desk, building: bool) -> None:
    @st.fragment(run_every=1.0)
    def note() -> None:
        w = words()
        st.caption(w("loading.services") if building else w("loading.models"))
        still_building = current.service() is None
        if still_building != building or current.warm or current.warm_error:
            st.rerun()

    note()


@contextmanager
def guarded() -> Iterator[None]:
    """Whatever the body raises becomes one sentence in the page; details go to the log, never into the page."""
    w = words()
    try:
        yield
    except HerdLensError as error:
        _sentence(error)
    except Exception:
        log.exception("a screen failed")
        st.error(w("error.internal"), icon=":material/error:")


def _sentence(error: HerdLensError) -> None:
    st.error(plain(words().sentence(str(error))), icon=":material/error:")


def open_report(report_id: str) -> None:
    """Show a past analysis on the Analyze screen."""
    st.switch_page(str(Path(__file__).with_name("analyze.py")), query_params={"report": report_id})
