"""Both languages say everything, and no screen says anything that is not in the tables."""

from __future__ import annotations

import ast
import re
import string
from pathlib import Path

import pytest

from agent.verdict import percent
from services.settings import profiles
from ui.sentences_ko import SENTENCES
from ui.wording import TABLES, Words, clock, plain, size
from ui.words_en import WORDS as ENGLISH
from ui.words_ko import WORDS as KOREAN

UI = Path(__file__).resolve().parents[2] / "ui"
MODULES = sorted(path for path in UI.glob("*.py") if not path.stem.startswith(("words_", "sentences_")))
NOT_SHOWN = {"key", "icon", "type", "color", "width", "gap", "label_visibility", "mime", "vertical_alignment", "bind"}
NOT_SHOWN |= {"persist_state", "on_click", "page_icon", "layout", "format", "default", "file_name", "selection_mode"}
SHOWING = """write markdown caption text title header subheader info warning error success toast badge button radio
    selectbox slider text_input text_area file_uploader expander popover pills segmented_control status spinner progress
    download_button checkbox toggle metric table form_submit_button dialog page_link link_button"""


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_both_languages_have_the_same_keys() -> None:
    assert set(ENGLISH) == set(KOREAN)


@pytest.mark.parametrize("key", sorted(ENGLISH))
def test_both_languages_fill_the_same_placeholders(key: str) -> None:
    assert placeholders(ENGLISH[key]) == placeholders(KOREAN[key])


def test_korean_is_korean() -> None:
    untranslated = {key for key, text in KOREAN.items() if not re.search("[가-힣]", text)}
    assert untranslated == {"about.versions", "history.when"}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_no_screen_has_words_of_its_own(module: Path) -> None:
    """A literal with two letters in a row that a widget would show must come from the tables."""
    found = []
    for call in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if (
            not isinstance(call, ast.Call)
            or not isinstance(call.func, ast.Attribute)
            or call.func.attr not in SHOWING.split()
        ):
            continue
        shown = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg not in NOT_SHOWN)]
        found += [literal for argument in shown for literal in literals(argument)]
    assert found == []


def literals(node: ast.AST) -> list[str]:
    """String constants below ``node`` that would be shown: not keys handed to the wording, not dictionary keys."""
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) and re.search(r"[A-Za-z]{2}", _bare(node.value)) else []
    if isinstance(node, ast.Call | ast.Subscript | ast.Lambda | ast.Compare):
        return []
    if isinstance(node, ast.List | ast.Tuple | ast.Dict | ast.JoinedStr | ast.BinOp | ast.IfExp | ast.FormattedValue):
        return [literal for child in ast.iter_child_nodes(node) for literal in literals(child)]
    return []


def _bare(text: str) -> str:
    return re.sub(r":material/\w+:|SHA-256", "", text)


def test_every_key_that_a_screen_uses_exists_and_every_key_is_used() -> None:
    source = "\n".join(
        path.read_text(encoding="utf-8")
        for path in [*UI.glob("*.py"), *UI.glob("templates/*")]
        if not path.stem.startswith("words_")
    )
    source += (UI.parent / "app.py").read_text(encoding="utf-8")
    used = set(re.findall(r"""\b(?:w|words\(\))\(\s*["']([a-z_]+\.[a-z_.]+[a-z_])["']""", source))
    assert used <= set(ENGLISH)
    families = {"verdict", "verdict_word", "label", "likelihood", "rule", "variant", "retrieval", "origin", "step"}
    families |= {
        "timing",
        "sample",
        "severity",
        "task",
        "view",
        "column",
        "source",
        "from",
        "run_state",
        "compare_state",
    }
    computed = {
        "analyze.title_",
        "report.no_reason",
        "report.p_",
        "cases.help_",
        "feedback.mounting",
        "feedback.normal",
        "compare.tab_",
        "compare.broken",
        "compare.cancelled",
        "train.figure_",
    }
    unused = {
        key
        for key in set(ENGLISH) - used
        if key.split(".")[0] not in families and not any(key.startswith(start) for start in computed)
    }
    assert unused == set()


def test_every_rule_of_the_verdict_has_words() -> None:
    """The rules are written by agent.verdict.judge; the screens must not show its internal names."""
    scored = ["model score", "model score + neighbour vote"]
    rules = ["text only", "picture unusable", "unlike the training clips", *scored]
    rules += [f"{rule}: confidence too low" for rule in scored]
    for language in TABLES:
        assert all(Words(language).rule(rule) != rule for rule in rules)


def test_known_sentences_are_translated_with_their_values() -> None:
    for pattern, text in SENTENCES:
        count = re.compile(pattern).groups
        assert {int(name) for name in placeholders(text)} <= set(range(count)), pattern
    assert Words("ko").sentence("no such sentence") == "no such sentence"


def test_the_profiles_notice_and_the_findings_speak_korean() -> None:
    """Fails when a sentence is changed in its service and forgotten here."""
    quality = (UI.parent / "services" / "quality.py").read_text(encoding="utf-8")
    literals_only = [node for node in ast.walk(ast.parse(quality)) if not isinstance(node, ast.Expr)]
    texts = {written(part) for node in literals_only for part in ast.iter_child_nodes(node)}
    findings = [text for text in texts if "; " in text and text[0] != " "]
    notices = [profile.notice for profile in profiles().values() if profile.notice]
    assert len(findings) >= 10 and notices
    for sentence in [*findings, *notices]:
        assert Words("ko").sentence(sentence) != sentence, sentence


def written(node: ast.AST) -> str:
    """The sentence that a literal or f-string makes, with figures in its gaps."""
    if isinstance(node, ast.JoinedStr):
        return "".join(written(part) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return "41%" if "%" in ast.unparse(node) else "12"
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


@pytest.mark.parametrize(
    ("p", "words"),
    [(0.0, "almost certainly no mounting"), (0.5, "could be either"), (0.995, "almost certainly mounting")],
)
def test_probability_in_words(p: float, words: str) -> None:
    assert Words("en").likelihood(p) == words


@pytest.mark.parametrize(
    "text", ["a*b*c", "<b>x</b>", "[x](http://evil)", "`x`", ":red[x]", "# x", "$x$", "1. x", "|a|b|", "0.64", "12.5 s"]
)
def test_plain_text_keeps_no_active_markup(text: str) -> None:
    """Every character that opens markup is escaped, so Markdown shows the text itself."""
    shown = plain(text)
    assert re.sub(r"\\(.)", r"\1", shown) == text
    assert not re.search(r"(?<!\\)[*<>`$\[\]|]|^#|^1\. |(?<!\\):(?=\w)", shown)


def test_figures() -> None:
    assert [percent(p) for p in (0.9999, 0.974, 0.0002)] == ["> 99 %", "97 %", "< 1 %"]
    assert [clock(t) for t in (7.84, 59.97, 725, 3723.4)] == ["0:07.8", "0:59.9", "12:05", "1:02:03"]
    assert [size(n) for n in (12, 1_234_567, 2_500_000_000)] == ["12 B", "1.2 MB", "2.5 GB"]
