"""Text, pictures and videos in the form that the Qwen3-VL embedding and reranking models read.

The conversations, limits and the order of the media are those of github.com/QwenLM/Qwen3-VL-Embedding
(``src/models/qwen3_vl_embedding.py`` and ``qwen3_vl_reranker.py``): an embedding input is a system turn with the
instruction and a user turn of video, image and text; a reranking input is one user turn with the marks ``<Instruct>``,
``<Query>`` and ``<Document>``; an empty input is the word NULL. Pictures are resized as qwen-vl-utils does it, and the
processor is told not to resize again. A video's frames come with their exact times (see ``dialog``), where the
original reads a file at one frame per second; sample at that rate to give it the same.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from qwen_vl_utils.vision_process import smart_resize
from transformers import ProcessorMixin

from services.dialog import Message, contract, rendered, resize, video_metadata
from services.errors import InputError
from services.schema import Frames, Sampling

TOKEN_PIXELS = 32 * 32
"""Pixels of one merged vision token of Qwen3-VL (patch 16, merge 2)."""
SYSTEM = (
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".'
)
EMPTY = "NULL"
_OPENING, _OPENING_AS_TEXT = "<|", "<\u2060|"


@dataclass(frozen=True, slots=True)
class Limits:
    """Pixels of an image, pixels of all frames of a video together, pixels of one frame, tokens of an input."""

    min_pixels: int = 4 * TOKEN_PIXELS
    max_pixels: int = 1800 * TOKEN_PIXELS
    frame_min_pixels: int = 128 * TOKEN_PIXELS
    frame_max_pixels: int = 768 * TOKEN_PIXELS
    video_pixels: int = 7680 * TOKEN_PIXELS
    max_tokens: int = 8192

    def per_frame(self, frames: int) -> tuple[int, int]:
        """(least, most) pixels of each of ``frames`` frames; two frames share their tokens (qwen-vl-utils' rule)."""
        most = max(min(self.frame_max_pixels, 2 * self.video_pixels // frames), int(1.05 * self.frame_min_pixels))
        return self.frame_min_pixels, most


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """A record or a query. ``image``: (H, W, 3) uint8 RGB; ``video``: sampled frames; each of them may be missing."""

    text: str = ""
    image: NDArray[np.uint8] | None = None
    video: Frames | None = None

    @property
    def modality(self) -> str:
        """``text``, ``image``, ``video``, or several joined by a plus sign in this order; ``empty`` for nothing."""
        parts = (("text", bool(self.text)), ("image", self.image is not None), ("video", self.video is not None))
        return "+".join(name for name, there in parts if there) or "empty"

    def turn(self) -> list[dict[str, str]]:
        """Media first, then the text; a control token written in the text stays text."""
        parts = [{"type": "video"}] * (self.video is not None) + [{"type": "image"}] * (self.image is not None)
        if self.text:
            parts.append({"type": "text", "text": self.text.replace(_OPENING, _OPENING_AS_TEXT)})
        return parts or [{"type": "text", "text": EMPTY}]


def with_full_stop(instruction: str) -> str:
    """``instruction`` ending in punctuation, as the embedding model was trained on it."""
    text = instruction.strip()
    return text if not text or unicodedata.category(text[-1]).startswith("P") else f"{text}."


def embedding_turns(content: Content, instruction: str) -> list[Message]:
    """The conversation that is embedded."""
    system = {"role": "system", "content": [{"type": "text", "text": with_full_stop(instruction)}]}
    return [system, {"role": "user", "content": content.turn()}]


def reranking_turns(query: Content, document: Content, instruction: str) -> list[Message]:
    """The conversation about which yes or no is asked."""
    user = [
        {"type": "text", "text": f"<Instruct>: {instruction}"},
        {"type": "text", "text": "<Query>:"},
        *query.turn(),
        {"type": "text", "text": "\n<Document>:"},
        *document.turn(),
    ]
    system = {"role": "system", "content": [{"type": "text", "text": SYSTEM}]}
    return [system, {"role": "user", "content": user}]


def model_inputs(
    processor: ProcessorMixin,
    conversations: Sequence[tuple[list[Message], Sequence[Content]]],
    limits: Limits,
) -> dict[str, torch.Tensor]:
    """Processor inputs of a batch, padded on the right: ``input_ids`` (N, L) int64 and what goes with them. Each
    conversation comes with its contents in the order in which it shows them. Raises InputError for one that is too
    long: cutting it would silently leave out what it is about."""
    contents = [content for _, shown in conversations for content in shown]
    images = [_picture(c.image, processor, limits) for c in contents if c.image is not None]
    videos = [c.video for c in contents if c.video is not None]
    media: dict[str, Any] = {}
    if images or videos:
        media["do_resize"] = False
    if images:
        media["images"] = images
    if videos:
        media["videos"] = [_frames(video, processor, limits) for video in videos]
        media["video_metadata"] = [video_metadata(video) for video in videos]
        media["do_sample_frames"] = False
        media["cap_pixels_per_frame"] = True  # without effect here; unset it would warn
    texts = [rendered(processor, turns) for turns, _ in conversations]
    batch = processor(text=texts, padding=True, padding_side="right", return_tensors="pt", **media)
    length = int(batch["attention_mask"].sum(1).max())
    if length > limits.max_tokens:
        raise InputError(
            f"An input is {length} tokens long and the model reads {limits.max_tokens}; shorten its text, or give "
            "fewer or smaller pictures."
        )
    return {key: value for key, value in batch.items() if isinstance(value, torch.Tensor)}


def last_positions(attention_mask: torch.Tensor) -> torch.Tensor:
    """(N,) int64: the last token of each row of ``attention_mask`` (N, L) that is no padding, on either side."""
    return attention_mask.shape[1] - 1 - attention_mask.flip(1).argmax(1)


def _picture(rgb: NDArray[np.uint8], processor: ProcessorMixin, limits: Limits) -> Image.Image:
    patches = processor.image_processor
    height, width = smart_resize(
        rgb.shape[0],
        rgb.shape[1],
        factor=patches.patch_size * patches.merge_size,
        min_pixels=limits.min_pixels,
        max_pixels=limits.max_pixels,
    )
    return Image.fromarray(rgb).resize((width, height), Image.Resampling.BICUBIC)


def _frames(video: Frames, processor: ProcessorMixin, limits: Limits) -> torch.Tensor:
    least, most = limits.per_frame(len(video))
    return resize(video.rgb, contract(processor, Sampling(), least, most))
