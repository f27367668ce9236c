"""The About screen: what runs here, who can see the video, what it can and cannot do, under which licence."""

from __future__ import annotations

import platform
from importlib.metadata import version

import streamlit as st

from services.settings import ROOT, Profile, located, profiles
from ui.desk import Desk
from ui.session import choose_profile, desk, guarded, service_or_note, words
from ui.wording import plain, size

LOCAL_ADDRESSES = ("localhost", "127.0.0.1", "::1")
PACKAGES = ("streamlit", "torch", "transformers", "peft", "langgraph", "lancedb", "av")
CARD = ROOT / "assets" / "demo" / "CARD.md"


def show() -> None:
    w = words()
    st.title(w("about.title"))
    with guarded():
        current = desk()
        st.write(w("about.what"))
        if current.profile.notice:
            st.info(plain(w.sentence(current.profile.notice)), icon=":material/info:")
        _who_can_see()
        with guarded():
            _profile(current)
        st.subheader(w("about.limits"))
        for line in w("about.limits_list").splitlines():
            st.markdown(f"- {line}")
        _card(current.profile)
        _data(current)
        _licence()


def _who_can_see() -> None:
    w = words()
    st.subheader(w("about.privacy"))
    address = str(st.get_option("server.address") or "")
    if address in LOCAL_ADDRESSES:
        st.success(w("about.local"), icon=":material/lock:")
    else:
        st.warning(w("about.open", address=plain(address or w("about.every_address"))), icon=":material/lock_open:")
    st.caption(w("about.no_statistics"))


def _profile(current: Desk) -> None:
    w = words()
    st.subheader(w("about.profile"))
    names = list(profiles())
    chosen = st.selectbox(
        w("about.profile_choice"),
        names,
        index=names.index(current.profile.name),
        format_func=lambda name: f"{name}: {profiles()[name].title}",
        key="profile_choice",
    )
    if chosen and chosen != current.profile.name:
        choose_profile(chosen)
        st.rerun()
    used = current.profile
    span = w("about.frames_value", frames=used.frames, seconds=f"{used.window_s:.0f}")
    rows = [
        (w("about.base_model"), used.base_model),
        (w("about.engine"), used.engine),
        (w("about.precision"), f"{used.dtype}, {used.quantisation}, {used.device}"),
        (w("about.embedder"), used.embedder),
        (w("about.frames"), span),
    ]
    with guarded():
        service = service_or_note(current)
        if service is not None:
            rows.append((w("about.adapters"), ", ".join(service.adapter_names()) or w("about.none")))
            rows.append((w("about.references"), str(service.library.count())))
    st.table({w("about.item"): [row[0] for row in rows], w("about.value"): [plain(row[1]) for row in rows]})


def _card(current: Profile) -> None:
    """What the demo model is: its own card, shipped beside it."""
    if located(current.base_model) is None or not current.base_model.startswith("assets/demo") or not CARD.exists():
        return
    with st.expander(words()("about.card"), icon=":material/description:"):
        st.markdown(CARD.read_text(encoding="utf-8"))


def _data(current: Desk) -> None:
    w = words()
    st.subheader(w("about.data"))
    st.write(w("about.data_folder", folder=plain(str(current.settings.data))))
    if current.ready:
        service = current.service()
        if service is not None:
            st.write(w("about.space", size=size(service.history.space_used())))


def _licence() -> None:
    w = words()
    st.subheader(w("about.licence"))
    st.write(w("about.licence_text"))
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    st.caption(w("about.versions", python=platform.python_version(), packages=versions))


if __name__ == "__main__":
    show()
