"""What each task shows the model and which answers it scores: one clip for mounting, pictures for quality."""

from __future__ import annotations

from dataclasses import replace

from services.dialog import STATUS_WORDS, Picture, Preprocessing, resized_size
from services.schema import GRADES, Clip, Frames, Task
from services.views import RULE, views

Block = str | dict[str, object]


def contract_of(rule: Preprocessing, task: Task | str) -> Preprocessing:
    """The contract of ``task``: the profile's own, for quality with the rule of the views."""
    return replace(rule, views=RULE) if task == "quality" else rule


def shown(frames: Frames, rule: Preprocessing) -> tuple[Picture, ...]:
    """The pictures that the quality task shows of ``frames``, (H, W, 3) uint8, not yet resized."""
    high, wide = frames.rgb.shape[1:3]
    return views(frames, resized_size(high, wide, rule))


def media(task: Task, clip: Clip, frames: Frames, rule: Preprocessing) -> list[Block]:
    """Content blocks (services.chat.chat_model) that stand before the question."""
    if task == "mounting":
        return [{"type": "video", "key": clip.key, "frames": frames}]
    return [
        {"type": "image", "key": f"{clip.key}:{RULE}:{number}", "picture": picture}
        for number, picture in enumerate(shown(frames, rule))
    ]


def options(task: Task) -> tuple[str, ...]:
    """The complete continuations of ``Status:`` that are scored, in the order of the scores."""
    words = tuple(STATUS_WORDS.values()) if task == "mounting" else tuple(grade.words for grade in GRADES)
    return tuple(f" {word}" for word in words)
