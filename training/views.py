"""Samples of the quality task, shown as serving shows them: each clip or image becomes its views (services.views).

The conversation stays as written but for its tags: one for a clip or image becomes one ``<image>`` for each view.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np

from services.annotations import Turn
from services.dialog import Preprocessing
from services.errors import ClipError
from services.schema import Frames
from services.task_media import shown
from services.views import MOMENTS
from training.data import Medium, Sample
from training.features import FrameReader

_TAG = re.compile(r"<(video|image)>")
COUNT = len(MOMENTS)


def as_views(samples: Sequence[Sample], rule: Preprocessing, read: FrameReader) -> list[Sample]:
    """The samples with each medium replaced by its views; a file is read once for all of them."""

    @lru_cache(maxsize=2)
    def views(medium: Medium) -> tuple[Frames, ...]:
        if medium.frames is None and medium.path is None:
            raise ClipError(f"Sample {medium.digest[:12]} has neither a file nor frames; give one of them.")
        frames = medium.frames() if medium.frames else read(medium.path, medium.kind)  # type: ignore[arg-type]
        return tuple(Frames(picture[None], np.zeros(1)) for picture in shown(frames, rule))

    return [
        replace(
            sample,
            path=None,
            frames=None,
            features=None,
            media=tuple(view for medium in sample.media for view in _views_of(medium, views)),
            conversations=tuple(_tagged(turn) for turn in sample.conversations),
        )
        for sample in samples
    ]


def _views_of(medium: Medium, views: Callable[[Medium], tuple[Frames, ...]]) -> list[Medium]:
    def one(number: int) -> Frames:
        return views(medium)[number]

    return [
        Medium(digest=_digest(medium, number), kind="image", path=medium.path, frames=partial(one, number))
        for number in range(COUNT)
    ]


def _digest(medium: Medium, number: int) -> str:
    return hashlib.sha256(f"{medium.digest}:view {number}".encode()).hexdigest()


def _tagged(turn: Turn) -> Turn:
    return Turn(turn.role, _TAG.sub("<image>" * COUNT, turn.text)) if turn.role == "human" else turn
