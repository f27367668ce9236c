"""Small pieces of HTML for ``st.html``. Every text that comes in is data and is escaped; markup is only added here."""

from __future__ import annotations

import difflib

from markupsafe import Markup, escape

STYLE = """<style>
.hl-reason { font-size: 1.1rem; line-height: 1.45; margin: 0; overflow-wrap: anywhere; }
.hl-text { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; line-height: 1.5; }
.hl-quiet { opacity: 0.75; }
.hl-text mark, .hl-legend mark { background: rgba(230, 159, 0, 0.35); color: inherit; border-bottom: 2px solid #E69F00;
  padding: 0 0.1em; }
.hl-bar { position: relative; height: 0.9rem; border-radius: 0.45rem; background: rgba(128, 128, 128, 0.25);
  overflow: hidden; margin: 0.1rem 0 0.4rem 0; }
.hl-bar > span { position: absolute; inset: 0 auto 0 0; background: #D55E00; }
.st-key-verdict-mounting, .st-key-verdict-normal, .st-key-verdict-unclear { border-radius: 0.6rem;
  padding: 0.9rem 1.1rem 1.1rem 1.1rem; }
.st-key-verdict-mounting { border-left: 0.7rem solid #D55E00; background: rgba(213, 94, 0, 0.12); }
.st-key-verdict-normal { border-left: 0.7rem solid #0072B2; background: rgba(0, 114, 178, 0.12); }
.st-key-verdict-unclear { border-left: 0.7rem solid #767676; background: rgba(128, 128, 128, 0.14); }
.st-key-verdict-mounting h2::before { content: "\\25B2\\00A0"; color: #D55E00; }
.st-key-verdict-normal h2::before { content: "\\25CF\\00A0"; color: #0072B2; }
.st-key-verdict-unclear h2::before { content: "\\25C7\\00A0"; color: #767676; }
.st-key-cases img, .st-key-frames img { border-radius: 0.3rem; }
[data-testid="stTable"] td { overflow-wrap: anywhere; }
[data-testid="stMainBlockContainer"] { max-width: 70rem; padding-top: 3.2rem; }
@media (max-width: 640px) {
  [data-testid="stMainBlockContainer"] { padding-left: 0.9rem; padding-right: 0.9rem; }
  [data-testid="stMainBlockContainer"] h1 { font-size: 1.9rem; }
}
</style>"""
"""Colours are of the Okabe-Ito palette; every verdict also has its own sign and border, never colour alone."""


def scroll_up(occasion: str) -> str:
    """The one script of the app: brings the top of the page into view, once for each ``occasion`` (a job, a report),
    for whoever pressed a button further down."""
    return str(
        Markup(
            '<script data-occasion="{}">document.querySelector("[data-testid=stMain]")?.scrollTo(0, 0)</script>'
        ).format(occasion)
    )


def paragraph(text: str, kind: str = "hl-text") -> str:
    """``text`` shown exactly as it is, line breaks kept."""
    return str(Markup('<p class="{}" dir="auto">{}</p>').format(kind, text))


def bar(share: float) -> str:
    """A bar filled to ``share`` (0…1); decorative, the number stands beside it in words."""
    percent = f"{min(max(share, 0.0), 1.0) * 100:.1f}%"
    return str(Markup('<div class="hl-bar" aria-hidden="true"><span style="width: {}"></span></div>').format(percent))


def marked_difference(text: str, other: str) -> str:
    """``text`` with the words that ``other`` does not have at that place in ``<mark>``."""
    mine, theirs = text.split(), other.split()
    matcher = difflib.SequenceMatcher(a=theirs, b=mine, autojunk=False)
    parts = []
    for operation, _, _, start, end in matcher.get_opcodes():
        if start == end:
            continue
        words = escape(" ".join(mine[start:end]))
        parts.append(words if operation == "equal" else Markup("<mark>{}</mark>").format(words))
    return str(Markup('<p class="hl-text" dir="auto">{}</p>').format(Markup(" ").join(parts)))
