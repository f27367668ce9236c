"""Text as it appears: nothing lost, nothing on the wrong side of the think tags."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chat.streaming import Detokenizer, ThoughtSplitter


def split(pieces: list[str], *, inside: bool = False) -> tuple[str, str]:
    texts = {"reasoning": "", "answer": ""}

    def emit(channel: str, text: str) -> None:
        texts[channel] += text

    splitter = ThoughtSplitter(emit, inside=inside)
    for piece in pieces:
        splitter.push(piece)
    splitter.close()
    return texts["reasoning"], texts["answer"]


@pytest.mark.parametrize(
    ("text", "inside", "expected"),
    [
        ("<think>hm</think>Status: Normal", False, ("hm", "Status: Normal")),
        ("hm</think>Status: Normal", True, ("hm", "Status: Normal")),
        ("<think>never closed. Status: Mounting", False, ("never closed. Status: Mounting", "")),
        ("a < b <thin", False, ("", "a < b <thin")),
    ],
)
@given(data=st.data())
def test_thoughts_never_become_the_answer_however_the_text_is_cut(
    text: str, inside: bool, expected: tuple[str, str], data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert split(pieces, inside=inside) == expected


class Bytes:
    """A byte-level tokenizer: each id is one byte, so most characters span several tokens."""

    def decode(self, ids: list[int], **_: object) -> str:
        return bytes(ids).decode("utf-8", errors="replace")


@given(st.text(alphabet=st.characters(exclude_characters="\ufffd", exclude_categories=["Cs"]), max_size=40))
def test_incremental_decoding_gives_the_whole_text(text: str) -> None:
    detokenizer = Detokenizer(Bytes())
    assert "".join(detokenizer.push(byte) for byte in text.encode()) == text
