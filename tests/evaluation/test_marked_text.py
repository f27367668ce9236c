"""A command's part of a document is replaced, and nothing else."""

from __future__ import annotations

import pytest

from evaluation.marked_text import marks, require_marks, write_between
from services.errors import InputError


def test_what_stands_between_the_marks_is_replaced_and_nothing_else(tmp_path):
    (start, end), (other, other_end) = marks("tables"), marks("more")
    document = tmp_path / "page.md"
    document.write_text(f"before\n{start}\nold\n{end}\nafter\n{other}\nkept\n{other_end}\n", encoding="utf-8")
    for text in ("new", "newer"):
        write_between(document, "tables", text)
    assert document.read_text(encoding="utf-8") == (
        f"before\n{start}\n\nnewer\n\n{end}\nafter\n{other}\nkept\n{other_end}\n"
    )


def test_a_document_without_the_marks_is_left_alone(tmp_path):
    document = tmp_path / "page.md"
    document.write_text("no marks", encoding="utf-8")
    with pytest.raises(InputError, match="has no lines"):
        write_between(document, "tables", "x")
    assert document.read_text(encoding="utf-8") == "no marks"
    with pytest.raises(InputError, match=r"gone\.md cannot be read"):
        require_marks(tmp_path / "gone.md", "tables")
