"""How many tokens each sample has, and which samples cannot be used: told before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from services.errors import ClipError
from training.data import Medium, Sample
from training.questions import Questions


@dataclass(frozen=True, slots=True)
class SampleCount:
    """``tokens`` of the longest question with its answer, asked without reference cases: enough to form batches and
    to find overlong answers (cases add a bounded number, agent.prompts.DESCRIPTION_LIMIT). ``media``: tokens of each
    clip or image, times and marks included."""

    title: str
    tokens: int
    media: tuple[int, ...]


@dataclass(slots=True)
class Counts:
    """``samples`` in their order, without those that are ``unreadable``; the problems are sentences."""

    samples: list[SampleCount] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    long: list[str] = field(default_factory=list)


def count(
    questions: Questions, expansion: Callable[[Medium], str], samples: Sequence[Sample], max_length: int
) -> Counts:
    """Count ``samples``; ``expansion`` says what the tag of a medium becomes, or raises ClipError."""
    counts = Counts()
    sizes: dict[str, int] = {}
    for sample in samples:
        try:
            expansions = [expansion(medium) for medium in sample.media]
        except ClipError as error:
            counts.unreadable.append(f"{sample.title}: {error}")
            continue
        media = tuple(sizes.setdefault(text, questions.tokens(text)) for text in expansions)
        tokens = max(len(branch.ids) for branch in questions.branches(sample, expansions, [()]))
        counts.samples.append(SampleCount(sample.title, tokens, media))
        if tokens > max_length:
            counts.long.append(
                f"{sample.title}: {tokens} tokens, at most {max_length} are trained on and the answer would be cut; "
                "shorten it or raise max_length"
            )
    return counts
