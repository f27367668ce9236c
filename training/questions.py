"""A sample becomes branches: each way of asking about the clip, with the tokens of its answer.

The tokens are those of serving: chat template, video tag replaced by what the processor writes for it, answer as
generation would produce it, terminator included. A conversation of several turns gives one branch for each answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from agent.prompts import mounting_question
from services.annotations import Turn
from services.dialog import Dialog, Message, messages, mounting_target
from services.schema import LABELS, Hit, Label
from training.data import Sample
from training.packing import Branch

_TAG = re.compile(r"<video>\s*")
SCORED = "scored"
"""Name of the branches that only validation reads: the bare answer of each label, ``scored:<context>:<label>``."""


class Questions:
    """Makes branches with the processor of ``dialog``; ``bare_share`` as in ``TrainConfig``."""

    def __init__(self, dialog: Dialog, bare_share: float) -> None:
        self._dialog = dialog
        self._bare = bare_share
        self._tag: str = dialog.processor.video_token

    def branches(self, sample: Sample, expansion: str, cases: Sequence[Sequence[Hit]]) -> list[Branch]:
        """Branches of ``sample``; their weights add up to 1. Mounting: one question for each of ``cases`` (an empty
        one asks without context); other tasks: one branch for each answer, as written, ``cases`` unused."""
        if sample.label is None:
            return self._written(sample.conversations, expansion)
        found: list[Branch] = []
        for shown in cases:
            prompt = self._mounting_prompt(expansion, shown)
            forms: list[tuple[str, str | None, float]] = [("bare", None, self._bare)]
            if sample.reason:
                forms.append(("reason", sample.reason, 1.0 - self._bare))
            total = sum(weight for *_, weight in forms) or 1.0
            for name, reason, weight in forms:
                answer = self._answer(mounting_target(sample.label, reason))
                found.append(_branch(prompt, answer, weight / total / len(cases), f"{name}:{_mode(shown)}"))
        return [branch for branch in found if branch.weight > 0.0]

    def scored(self, expansion: str, cases: Sequence[Sequence[Hit]]) -> list[Branch]:
        """The two complete continuations of each question, without weight in the loss."""
        return [
            _branch(self._mounting_prompt(expansion, shown), self._answer(mounting_target(label, None)), 0.0, name)
            for shown in cases
            for label in LABELS
            for name in [scored_name(_mode(shown), label)]
        ]

    def _mounting_prompt(self, expansion: str, shown: Sequence[Hit]) -> list[int]:
        question = mounting_question("contrastive" if shown else "off", list(shown))
        return self._prompt(messages(question), expansion)

    def _written(self, turns: Sequence[Turn], expansion: str) -> list[Branch]:
        history: list[Message] = []
        found: list[Branch] = []
        answers = sum(turn.role == "gpt" for turn in turns)
        for turn in turns:
            if turn.role == "gpt":
                prompt = self._prompt(history, expansion)
                found.append(_branch(prompt, self._answer(turn.text), 1.0 / answers, "written"))
            history.append(_message(turn))
        return found

    def _prompt(self, turns: Sequence[Message], expansion: str) -> list[int]:
        text = self._dialog.processor.apply_chat_template(list(turns), tokenize=False, add_generation_prompt=True)
        ids: list[int] = self._dialog.tokenizer(text.replace(self._tag, expansion, 1))["input_ids"]
        return ids

    def _answer(self, text: str) -> list[int]:
        ids: list[int] = self._dialog.answer_ids(text)[0].tolist()
        return ids


def scored_name(mode: str, label: Label) -> str:
    return f"{SCORED}:{mode}:{label}"


def _mode(shown: Sequence[Hit]) -> str:
    return "contrastive" if shown else "off"


def _branch(prompt: list[int], answer: list[int], weight: float, name: str) -> Branch:
    return Branch(np.array(prompt + answer, np.int64), len(prompt), weight, name)


def _message(turn: Turn) -> Message:
    """One turn for the chat template: media first, as the source writes them."""
    if turn.role == "gpt":
        return {"role": "assistant", "content": [{"type": "text", "text": turn.text}]}
    text, videos = _TAG.subn("", turn.text)
    content = [{"type": "video"}] * videos + [{"type": "text", "text": text}]
    return {"role": "user" if turn.role == "human" else "system", "content": content}
