"""HerdLens in the browser: ``streamlit run app.py``. Page set-up, language and navigation; the screens stand in ui/."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from ui.markup import STYLE
from ui.session import language_switch, words

UI = Path(__file__).resolve().parent / "ui"

st.set_page_config(page_title="HerdLens", page_icon="🐄", layout="wide")
st.html(STYLE)
with st.sidebar:
    language_switch()
w = words()
pages = [
    st.Page(UI / "analyze.py", title=w("nav.analyze"), icon=":material/search:", default=True),
    st.Page(UI / "history.py", title=w("nav.history"), icon=":material/history:", url_path="history"),
    st.Page(UI / "compare.py", title=w("nav.compare"), icon=":material/compare:", url_path="compare"),
    st.Page(UI / "library.py", title=w("nav.library"), icon=":material/video_library:", url_path="library"),
    st.Page(UI / "train.py", title=w("nav.train"), icon=":material/model_training:", url_path="train"),
    st.Page(UI / "about.py", title=w("nav.about"), icon=":material/info:", url_path="about"),
]
st.navigation(pages).run()
