"""A comparison on a phone: one card a clip, because a table of eight columns is read by scrolling sideways there."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st
from markupsafe import Markup

from services.comparisons import COLUMNS
from ui.compare_counts import Row
from ui.session import words

STYLE = """<style>
.st-key-compare_cards { display: none; }
.hl-card { display: grid; grid-template-columns: 6rem 1fr; gap: 0.2rem 0.8rem; padding: 0.7rem 0;
  border-bottom: 1px solid rgba(128, 128, 128, 0.3); line-height: 1.45; overflow-wrap: anywhere; }
.hl-card img { width: 6rem; border-radius: 0.3rem; grid-row: span 2; }
.hl-card dl { grid-column: 1 / -1; display: grid; grid-template-columns: auto 1fr; gap: 0 0.8rem; margin: 0; }
.hl-card dt { opacity: 0.7; }
.hl-card dd { margin: 0; }
@media (max-width: 640px) {
  .st-key-compare_cards { display: block; }
  .st-key-compare_wide { display: none; }
}
</style>"""


def cards(found: Sequence[Row], cells: Sequence[Sequence[str]], pictures: Sequence[str | None]) -> None:
    """``cells``: what the table's columns say of each clip; ``pictures``: data URLs."""
    with st.container(key="compare_cards"):
        shown = zip(found, cells, pictures, strict=True)
        st.html(STYLE + "".join(_card(row, values, picture) for row, values, picture in shown))


def _card(row: Row, values: Sequence[str], picture: str | None) -> str:
    w, item = words(), row.item
    image = Markup('<img src="{}" alt="">').format(picture) if picture else Markup("<span></span>")
    shows = "" if row.truth is None else f"{w('compare.truth')}: {w(f'label.{row.truth}')}"
    named = zip(COLUMNS, values, strict=True)
    lines = Markup("").join(Markup("<dt>{}</dt><dd>{}</dd>").format(w(f"column.{name}"), text) for name, text in named)
    name = Markup("{}").format(item.name)
    if item.report_id:
        address = f"./?report={item.report_id}&lang={w.language}"
        name = Markup('<a href="{}" target="_self">{}</a>').format(address, item.name)
    error = Markup('<div style="grid-column: 1 / -1">{}</div>').format(w.sentence(item.error)) if item.error else ""
    return str(
        Markup('<div class="hl-card">{}<strong>{}</strong><span>{}</span><dl>{}</dl>{}</div>').format(
            image, name, shows, lines, error
        )
    )
