"""How an answer is generated and where its verdict is scored: one rule for every engine. No torch."""

from __future__ import annotations

from dataclasses import dataclass

THOUGHTS, THOUGHTS_END = "<think>", "</think>"


@dataclass(frozen=True, slots=True)
class Generation:
    """Settings of one generation; ``temperature`` 0 is greedy. ``scoring`` as in ``settings.Profile``."""

    max_tokens: int
    temperature: float = 0.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    scoring: str = "direct"


def scoring_prefix(text: str, prefill: str, *, inside: bool = False) -> str:
    """What stands before the option that is scored: the generated ``text`` up to its last ``Status:``, with the prefill
    in its place. Thoughts (``inside``: the template has opened them) do not count as the answer; where the limit cut
    them off they are ended here, because a model gives its verdict behind them."""
    thoughts, end, answer = text.rpartition(THOUGHTS_END)
    if not end and (inside or THOUGHTS in text):
        return f"{text.rstrip()}\n{THOUGHTS_END}\n\n{prefill}"
    head = answer.rpartition(prefill)[0] if prefill in answer else answer
    whole = f"{thoughts}{end}{head}".rstrip()
    return f"{whole}\n{prefill}" if whole else prefill
