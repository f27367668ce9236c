"""Every word that the browser app shows, in one place: ``Words("en")("analyze.title")``.

The tables stand in ``words_en.py`` and ``words_ko.py`` and have the same keys with the same placeholders (a test
compares them). Sentences that come from the agent and the services (warnings, errors, the models' own text) arrive in
English; ``sentence`` translates those that the project itself writes, and leaves what a model wrote as it is.
"""

from __future__ import annotations

import re
from typing import Literal

from ui.sentences_ko import SENTENCES, TERMS
from ui.words_en import WORDS as ENGLISH
from ui.words_ko import WORDS as KOREAN

Language = Literal["en", "ko"]
LANGUAGES: dict[Language, str] = {"en": "English", "ko": "한국어"}
TABLES: dict[Language, dict[str, str]] = {"en": ENGLISH, "ko": KOREAN}

_PATTERNS = tuple((re.compile(pattern, re.DOTALL), text) for pattern, text in SENTENCES)
_MARKUP = re.compile(r"([\\`*_\[\]<>$~|&])")
_DIRECTIVE = re.compile(r":(?=[^\s])")
_LINE_START = re.compile(r"^(\d*)([#+\-=]|(?<=\d)[.)](?=\s))")


class Words:
    """The wording of one language; callable with a key and the values of its placeholders."""

    def __init__(self, language: Language = "en") -> None:
        self.language = language
        self._table = TABLES[language]

    def __call__(self, key: str, /, **values: object) -> str:
        return self._table[key].format(**values) if values else self._table[key]

    def sentence(self, text: str) -> str:
        """``text``, written by the agent or a service, in this language where it is one of their known sentences."""
        if self.language == "en":
            return text
        for pattern, translated in _PATTERNS:
            match = pattern.fullmatch(text)
            if match:
                return translated.format(*(TERMS.get(value, value) for value in match.groups()))
        return text

    def rule(self, rule: str) -> str:
        """The rule that decided (``agent.verdict``), as a sentence for a person."""
        return self._table.get(f"rule.{rule}", rule)

    def sample(self, stem: str, title: str) -> str:
        """What a shipped sample is called; ``title`` where the tables do not know its file name."""
        return self._table.get(f"sample.{stem}", title)

    def likelihood(self, p_mounting: float) -> str:
        """The probability of mounting in words."""
        for limit, name in ((0.02, "almost_none"), (0.25, "low"), (0.45, "rather_low"), (0.55, "even")):
            if p_mounting < limit:
                return self._table[f"likelihood.{name}"]
        for limit, name in ((0.75, "rather_high"), (0.98, "high")):
            if p_mounting < limit:
                return self._table[f"likelihood.{name}"]
        return self._table["likelihood.almost_sure"]


def plain(text: str) -> str:
    """``text`` as Markdown that shows exactly these characters, for labels and alerts; line breaks become spaces."""
    escaped = _MARKUP.sub(r"\\\1", " ".join(text.split()))
    return _LINE_START.sub(r"\1\\\2", _DIRECTIVE.sub(r"\\:", escaped))


def minute(created_at: str) -> str:
    """An ISO time to the minute, as UTC that the text beside it names.

    >>> minute("2026-11-30T03:22:03+00:00")
    '2026-11-30 03:22'
    """
    return created_at[:16].replace("T", " ")


def clock(seconds: float) -> str:
    """Seconds as a person reads them on a player: ``0:07.8``, ``12:05``, ``1:02:03``.

    >>> clock(7.84), clock(725), clock(3723.4)
    ('0:07.8', '12:05', '1:02:03')
    """
    if seconds < 60:
        tenths = min(round(seconds * 10), 599)
        return f"0:{tenths // 10:02d}.{tenths % 10}"
    whole = int(seconds)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def size(size_bytes: float) -> str:
    """Bytes as kB, MB or GB (decimal).

    >>> size(1_234_567)
    '1.2 MB'
    """
    for unit in ("B", "kB", "MB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} GB"
