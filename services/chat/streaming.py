"""From token ids to text as it appears: incremental decoding per row, and thoughts kept apart from the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers.generation.streamers import BaseStreamer

REASONING, ANSWER = "reasoning", "answer"
_OPEN, _CLOSE = "<think>", "</think>"


class Detokenizer:
    """Text of a growing token sequence, piece by piece. Decodes a short window only (two offsets into the ids), so
    the cost per token does not grow; incomplete UTF-8 sequences are held back until they are whole."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._start = 0
        self._read = 0

    def push(self, token: int) -> str:
        self._ids.append(token)
        before = self._decode(self._ids[self._start : self._read])
        after = self._decode(self._ids[self._start :])
        if len(after) <= len(before) or after.endswith("\ufffd"):
            return ""
        self._start, self._read = self._read, len(self._ids)
        return after[len(before) :]

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


class ThoughtSplitter:
    """Routes text to ``reasoning`` or ``answer``. A tag may arrive in pieces, so text that could be the beginning of
    one is held back. ``inside``: the template has already opened the thoughts."""

    def __init__(self, emit: Callable[[str, str], None], *, inside: bool = False) -> None:
        self._emit = emit
        self._inside = inside
        self._held = ""

    def push(self, text: str) -> None:
        self._held += text
        while self._held:
            tag = _CLOSE if self._inside else _OPEN
            at = self._held.find(tag)
            if at >= 0:
                self._send(self._held[:at])
                self._held = self._held[at + len(tag) :]
                self._inside = not self._inside
                continue
            keep = next((n for n in range(len(tag) - 1, 0, -1) if self._held.endswith(tag[:n])), 0)
            self._send(self._held[: len(self._held) - keep])
            self._held = self._held[len(self._held) - keep :]
            return

    def close(self) -> None:
        self._send(self._held)
        self._held = ""

    def _send(self, text: str) -> None:
        if text:
            self._emit(REASONING if self._inside else ANSWER, text)


class RowStreamer(BaseStreamer):
    """Hands each generated token to its row's sink. transformers' own streamers take one row only."""

    def __init__(self, sinks: Sequence[Callable[[int], None]], stop_ids: frozenset[int]) -> None:
        self._sinks = sinks
        self._stop_ids = stop_ids
        self._open = [True] * len(sinks)
        self._prompt_seen = False

    def put(self, value: torch.Tensor) -> None:
        """``value``: (rows, L) int64 once, the prompt; then (rows,) int64 per step."""
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        for row, token in enumerate(value.reshape(-1).tolist()):
            if self._open[row]:
                self._open[row] = token not in self._stop_ids
                if self._open[row]:
                    self._sinks[row](token)

    def end(self) -> None:
        """Nothing is buffered here."""
