"""A sample becomes branches: each way of asking about its media, with the tokens of its answer.

The tokens are those of serving: chat template, media tags replaced by what the processor writes for it, answer as
generation would produce it, terminator included. A conversation of several turns gives one branch for each answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from agent.prompts import mounting_question
from services.annotations import Turn, answers_mounting
from services.chat.generation import THOUGHTS_END
from services.dialog import Dialog, Message, messages, mounting_target, rendered
from services.errors import ModelError
from services.schema import LABELS, Hit, Label
from training.data import Sample
from training.packing import Branch

_TAG = re.compile(r"<(video|image)>\s*")
SCORED = "scored"
"""Name of the branches that only validation reads: the bare answer of each label, ``scored:<context>:<label>``."""


class Questions:
    """Makes branches with the processor of ``dialog``; ``bare_share`` as in ``TrainConfig``."""

    def __init__(self, dialog: Dialog, bare_share: float) -> None:
        self._dialog = dialog
        self._bare = bare_share
        self._opening = f"{THOUGHTS_END}\n\n" if dialog.opens_thoughts else ""
        """A thinking model's template ends inside its thoughts: an answer closes them, as generation has to."""
        tags = (dialog.processor.video_token, dialog.processor.image_token)
        self._tags = re.compile("|".join(map(re.escape, tags)))

    def branches(self, sample: Sample, expansions: Sequence[str], cases: Sequence[Sequence[Hit]]) -> list[Branch]:
        """Branches of ``sample``; their weights add up to 1. Mounting: one question for each of ``cases`` (an empty
        one asks without context), and every other answer of the conversation as written; other tasks: one branch for
        each answer, as written, ``cases`` unused."""
        if sample.label is None:
            return self._written(sample.conversations, expansions)
        others = self._written(sample.conversations, expansions, mounting=False)
        share = 1.0 / (1 + len(others))
        found = [replace(branch, weight=share) for branch in others]
        for shown in cases:
            prompt = self._mounting_prompt(expansions, shown)
            forms: list[tuple[str, str | None, float]] = [("bare", None, self._bare)]
            if sample.reason:
                forms.append(("reason", sample.reason, 1.0 - self._bare))
            total = sum(weight for *_, weight in forms) or 1.0
            for name, reason, weight in forms:
                answer = self._answer(mounting_target(sample.label, reason))
                part = share * weight / total / len(cases)
                found.append(_branch(prompt, answer, part, f"{name}:{_mode(shown)}"))
        return [branch for branch in found if branch.weight > 0.0]

    def tokens(self, text: str) -> int:
        """How many tokens ``text`` has."""
        return len(self._dialog.tokenizer(text)["input_ids"])

    def scored(self, expansions: Sequence[str], cases: Sequence[Sequence[Hit]]) -> list[Branch]:
        """The two complete continuations of each question, without weight in the loss."""
        return [
            _branch(self._mounting_prompt(expansions, shown), self._answer(mounting_target(label, None)), 0.0, name)
            for shown in cases
            for label in LABELS
            for name in [scored_name(_mode(shown), label)]
        ]

    def _mounting_prompt(self, expansions: Sequence[str], shown: Sequence[Hit]) -> list[int]:
        question = mounting_question("contrastive" if shown else "off", list(shown))
        return self._prompt(messages(question), expansions)

    def _written(self, turns: Sequence[Turn], expansions: Sequence[str], *, mounting: bool = True) -> list[Branch]:
        """One branch for each answer; ``mounting``: also for those to the mounting question."""
        history: list[Message] = []
        found: list[Branch] = []
        answers = sum(turn.role == "gpt" for turn in turns)
        for number, turn in enumerate(turns):
            if turn.role == "gpt" and (mounting or not answers_mounting(turns[number - 1], turn)):
                prompt = self._prompt(history, expansions)
                found.append(_branch(prompt, self._answer(turn.text), 1.0 / answers, "written"))
            history.append(_message(turn))
        return found

    def _prompt(self, turns: Sequence[Message], expansions: Sequence[str]) -> list[int]:
        """Tokens up to the assistant's opening; the tags of ``turns`` become the first of ``expansions`` in order."""
        text = rendered(self._dialog.processor, turns)
        waiting = iter(expansions)
        try:
            whole = self._tags.sub(lambda _: next(waiting), text)
        except StopIteration as error:
            raise ModelError("A conversation has more media tags than media; mend its entry.") from error
        ids: list[int] = self._dialog.tokenizer(whole)["input_ids"]
        return ids

    def _answer(self, text: str) -> list[int]:
        ids: list[int] = self._dialog.answer_ids(self._opening + text)[0].tolist()
        return ids


def scored_name(mode: str, label: Label) -> str:
    return f"{SCORED}:{mode}:{label}"


def _mode(shown: Sequence[Hit]) -> str:
    return "contrastive" if shown else "off"


def _branch(prompt: list[int], answer: list[int], weight: float, name: str) -> Branch:
    return Branch(np.array(prompt + answer, np.int64), len(prompt), weight, name)


def _message(turn: Turn) -> Message:
    """One turn for the chat template, media where their tags stand."""
    if turn.role == "gpt":
        return {"role": "assistant", "content": [{"type": "text", "text": turn.text}]}
    content: list[dict[str, str]] = []
    for number, part in enumerate(_TAG.split(turn.text)):  # text and kinds of media in turn
        if number % 2:
            content.append({"type": part})
        elif part:
            content.append({"type": "text", "text": part})
    return {"role": "user" if turn.role == "human" else "system", "content": content}
