"""Base and tuned beside one another: what every task shows of a variant, with room for what only one task knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import streamlit as st

from ui.history_entry import Entry, Variant
from ui.markup import marked_difference, paragraph
from ui.session import words
from ui.wording import plain

Colour = Literal["orange", "blue", "gray"]
Badge = tuple[str, Colour]
"""Sign and colour of a verdict; never told by colour alone."""


def side_by_side(
    past: Entry,
    badge: Callable[[str], Badge],
    *,
    above: Callable[[Variant], None],
    below: Callable[[Variant], None],
) -> None:
    """A column for each variant of a stored report. ``badge``: of a verdict; ``above`` and ``below`` show what the task
    tells before and after a variant's answer; neither is called for one that failed."""
    w = words()
    variants = past.report["variants"]
    st.subheader(w("report.models") if len(variants) > 1 else w("report.model_says"), anchor=False)
    if len(variants) > 1 and not any(variant["error"] for variant in variants):
        agree = variants[0]["verdict"] == variants[1]["verdict"]
        st.caption(w("report.agree") if agree else w("report.disagree"))
    for column, variant in zip(st.columns(len(variants)), variants, strict=True):
        with column, st.container(border=True):
            adapter = w("report.with_adapter", adapter=variant["adapter"]) if variant["adapter"] else ""
            st.markdown(f"**{w('variant.' + variant['name'])}** {plain(adapter)}")
            if variant["error"]:
                st.error(plain(w.sentence(variant["error"])))
                continue
            other = past.beside(variant)
            _badge(variant, other, badge)
            above(variant)
            st.html(marked_difference(variant["answer"], other["answer"]) if other else paragraph(variant["answer"]))
            below(variant)
            st.caption(w("progress.seconds", seconds=f"{variant['seconds']:.1f}"))


def _badge(variant: Variant, other: Variant | None, badge: Callable[[str], Badge]) -> None:
    w = words()
    differs = other is not None and other["verdict"] != variant["verdict"]
    sign, colour = badge(variant["verdict"])
    mark = w("report.differs") if differs else ""
    st.badge(w(f"verdict_word.{variant['verdict']}") + mark, icon=sign, color=colour)
