"""Texts of the demo: what the tokenizer learns its words from."""

from __future__ import annotations

from collections.abc import Iterator

from agent.prompts import CLOSING, COMPARE, TASK, mounting_question
from services.schema import Hit

def tokenizer_texts() -> Iterator[str]:
    """Text for the byte-pair merges. Frequent strings come often, so that they end as single tokens."""
    hits = (Hit("a", "mounting", 1.0, "At 2.1 s a brown cow rises behind", "shipped"),
            Hit("b", "normal", 1.0, "Two cows stand close", "shipped"))
    for mode in ("off", "nearest", "contrastive"):
        yield from [mounting_question(mode, hits)] * 20
    for tenth in range(0, 140):
        yield from [f"<{tenth / 10:.1f} seconds>"] * 5
    yield from [TASK, CLOSING, COMPARE] * 10
    yield from ["Status: Mounting", "Status: Normal", "user\nassistant\nsystem\n"] * 100
