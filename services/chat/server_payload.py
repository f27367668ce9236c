"""Clips and pictures as a server takes them: resized here by the contract, encoded once, without loss.

vLLM takes the frames of a video as a list of encoded pictures (``data:video/jpeg;base64,…``, which in spite of its name
may hold PNG) and, per request, the number, indices and rate that belong to them; told milliseconds at 1000 frames per
second, as ``dialog`` tells the processor here, it writes the same times. Its own sampling and resizing have then
nothing to do. A server that does not take these settings gets the frames as single pictures with their times as text.
"""

from __future__ import annotations

import base64
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch

from services.chat.chat_model import Prompt
from services.dialog import TIME_BASE, Picture, Preprocessing, resize, resize_image, video_metadata
from services.errors import ModelError
from services.schema import Frames

COMPRESSION = 1
"""zlib's fastest: barn pictures do not get much smaller with more."""
KEPT = 8
"""Encoded clips that are kept (16 frames at the largest profile's size are some 20 MB)."""

Part = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Encoded:
    """One medium: ``id`` is the digest of what the server will see, times included; ``parts`` are the content parts
    that carry it, ``settings`` what the request has to say besides."""

    id: str
    parts: tuple[Part, ...]
    settings: dict[str, Any]

    @property
    def nameable(self) -> bool:
        """Whether a server that has it in its cache can be told of it by name alone."""
        return any("uuid" in part for part in self.parts)

    @property
    def named(self) -> tuple[Part, ...]:
        """The parts without their content, for a server that has it in its cache."""
        return tuple({**part, part["type"]: None} if "uuid" in part else part for part in self.parts)


class Payloads:
    """Encodes by one contract. Thread-safe."""

    def __init__(self, rule: Preprocessing) -> None:
        self._rule = rule
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str], Future[Encoded]] = OrderedDict()

    def media(self, prompt: Prompt, *, exact: bool) -> list[Encoded]:
        """The prompt's clips and images, in their order. ``exact``: as vLLM takes frames with their times."""
        if exact and len(prompt.clips) > 1:
            raise ModelError("A model server takes one video in a question; ask about one clip at a time.")
        clips, images, keys = iter(prompt.clips), iter(prompt.images), iter(prompt.keys)
        form = "exact" if exact else "single"
        found = []
        for kind in (block["type"] for turn in prompt.turns for block in turn["content"]):
            if kind == "video":
                found.append(self._once(next(keys), form, partial(self._clip, next(clips), exact=exact)))
            elif kind == "image":
                found.append(self._once(next(keys), form, partial(self._image, next(images), exact=exact)))
        return found

    def _once(self, key: str, form: str, encode: Callable[[], Encoded]) -> Encoded:
        """Encoded by the first that asks; who asks meanwhile waits for it."""
        with self._lock:
            found = self._kept.get((key, form))
            coming: Future[Encoded] = found or Future()
            self._kept[key, form] = coming
            self._kept.move_to_end((key, form))
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        if found is None:
            try:
                coming.set_result(encode())
            except BaseException as error:
                with self._lock:
                    self._kept.pop((key, form), None)
                coming.set_exception(error)
        return coming.result()

    def _clip(self, clip: Frames, *, exact: bool) -> Encoded:
        pictures = [_png(frame) for frame in resize(clip.rgb, self._rule)]
        told = video_metadata(clip)
        if not exact:
            parts: list[Part] = []
            for time_s, picture in zip(clip.pts_s, pictures, strict=True):
                parts += [{"type": "text", "text": f"<{time_s:.1f} seconds>"}, _image_part(picture)]
            return Encoded(_digest(pictures, told.frames_indices), tuple(parts), {})
        sampling = {
            "num_frames": -1,
            "fps": TIME_BASE,
            "frames_indices": told.frames_indices,
            "total_num_frames": told.total_num_frames,
            "duration": told.duration,
            "do_sample_frames": False,
        }
        name = _digest(pictures, told.frames_indices)
        url = "data:video/jpeg;base64," + ",".join(pictures)
        part = {"type": "video_url", "video_url": {"url": url}, "uuid": name}
        return Encoded(name, (part,), {"media_io_kwargs": {"video": sampling}})

    def _image(self, image: Picture, *, exact: bool) -> Encoded:
        picture = _png(resize_image(image, self._rule))
        name = _digest([picture], [])
        return Encoded(name, ({**_image_part(picture), **({"uuid": name} if exact else {})},), {})


def turns_with(prompt: Prompt, media: Sequence[Encoded], *, known: Callable[[str], bool]) -> list[dict[str, Any]]:
    """The prompt's turns as the server's messages. ``known`` says which media it need not be sent again."""
    left = iter(media)
    turns = []
    for turn in prompt.turns:
        parts: list[Part] = []
        for block in turn["content"]:
            if block["type"] == "text":
                parts.append(block)
                continue
            medium = next(left)
            parts += medium.named if known(medium.id) else medium.parts
        turns.append({"role": turn["role"], "content": parts})
    return turns


def _image_part(picture: str) -> Part:
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}}


def _png(picture: torch.Tensor) -> str:
    """(3, h, w) uint8 RGB as PNG in base64."""
    bgr = np.ascontiguousarray(picture.permute(1, 2, 0).numpy()[..., ::-1])
    done, data = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, COMPRESSION])
    if not done:
        raise RuntimeError("PNG encoding failed")
    return base64.b64encode(data.tobytes()).decode("ascii")


def _digest(pictures: Sequence[str], indices: Sequence[int] | None) -> str:
    digest = hashlib.sha256(repr(list(indices or [])).encode())
    for picture in pictures:
        digest.update(picture.encode("ascii"))
    return digest.hexdigest()
