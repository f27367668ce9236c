"""Clips being worked on: decoded once, kept with their common resize and embedding while they are asked about."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from services import task_media, video
from services.dialog import resize, resize_image
from services.model_parts import ModelParts
from services.schema import Clip, Frames, Task, Window
from services.video_link import Cancellation
from services.video_still import PICTURE, is_still

CLIPS_KEPT = 4
"""Decoded clips that stay in memory (16 frames of full HD are 100 MB)."""


@dataclass(slots=True)
class OpenClip:
    """``resized``: (T, h, w, 3) uint8, what the language model sees; ``embedding``: (D,) float32 once asked for."""

    clip: Clip
    frames: Frames
    resized: NDArray[np.uint8]
    embedding: NDArray[np.float32] | None = None


class OpenClips:
    """The last few clips by ``Clip.key``; one that was let go is decoded again. Thread-safe. Errors: ClipError,
    InputError, Cancelled."""

    def __init__(self, reader: video.VideoReader, parts: ModelParts) -> None:
        self._reader = reader
        self._parts = parts
        self._kept: OrderedDict[str, OpenClip] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, path: str, window: Window | None, cancelled: Cancellation, task: Task) -> OpenClip:
        """Probe, validate and decode; the task ``quality`` takes single pictures too."""
        sampling = self._parts.profile.sampling
        if task == "quality":
            if is_still(path):
                return self._keep(*self._reader.open_still(path, sampling, cancelled))
            return self._keep(*self._reader.open(path, sampling, window, cancelled))
        wanted = self._parts.embedder.between_pixels
        return self._keep(*self._reader.open(path, sampling, window, cancelled, between_pixels=wanted))

    def of(self, clip: Clip) -> OpenClip:
        with self._lock:
            kept = self._kept.get(clip.key)
        if kept is not None:
            return kept
        task: Task = "quality" if clip.container == PICTURE else "mounting"
        return self.open(clip.path, clip.window, threading.Event(), task)

    def embedding(self, clip: Clip) -> NDArray[np.float32]:
        """(D,) float32, L2-normalised; computed once per open clip."""
        kept = self.of(clip)
        if kept.embedding is None:
            embedder = self._parts.embedder
            if embedder.between_pixels and kept.frames.between is None:  # opened for its picture quality
                kept = self.open(clip.path, clip.window, threading.Event(), "mounting")
            kept.embedding = embedder.embed(kept.frames)
        return kept.embedding

    def frame_jpegs(self, clip: Clip) -> list[bytes]:
        """The sampled frames as the model saw them (after the common resize), JPEG."""
        return [_jpeg(picture) for picture in self.of(clip).resized]

    def view_jpegs(self, clip: Clip) -> list[bytes]:
        """The pictures that the quality task showed the model (after the common resize), JPEG."""
        rule = self._parts.rule
        seen = (resize_image(view, rule) for view in task_media.shown(self.of(clip).frames, rule))
        return [_jpeg(picture.permute(1, 2, 0).contiguous().numpy()) for picture in seen]

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()

    def _keep(self, clip: Clip, frames: Frames) -> OpenClip:
        """Keep a decoded clip with its common resize, and let the oldest go."""
        resized = resize(frames.rgb, self._parts.rule).permute(0, 2, 3, 1).contiguous().numpy()
        kept = OpenClip(clip, frames, resized)
        with self._lock:
            self._kept[clip.key] = kept
            self._kept.move_to_end(clip.key)
            while len(self._kept) > CLIPS_KEPT:
                self._kept.popitem(last=False)
        return kept


def _jpeg(picture: NDArray[np.uint8]) -> bytes:
    done, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
    if not done:
        raise RuntimeError("JPEG encoding failed")
    return data.tobytes()
