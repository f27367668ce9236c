"""The vectors of labelled clips under every way of embedding them that is compared.

Each way looks at the same sixteen frames (windows at those between, too). Nothing here reads a label. What is
found about a clip is put to disk at once, so that a killed run goes on with the next clip.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
import threading
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from langchain_core.messages import HumanMessage
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from tqdm import tqdm
from transformers import AutoProcessor

from evaluation.data import Item
from evaluation.records import file_sha256
from services.dialog import Dialog, contract, messages
from services.embedder import Embedder
from services.errors import InputError, ResourceError
from services.model_files import model_folder
from services.model_service import ModelService
from services.moving_blocks import moving_blocks
from services.multimodal import Content, Limits
from services.qwen_embedder import QwenEmbedder
from services.schema import Clip, Frames, digest_of
from services.spans import SHARES

SHOWN = 3 / 7
"""Share of the picture's blocks that counts as moving where the embedder itself does not say."""
WHOLE, MOVING, IN_ORDER = "whole frames", "moving blocks", "windows, in order"
NEAREST = 10
"""References of the shipped library that are kept."""
QUESTION = "Describe this video."
TOKENS = 48

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class ClipVectors:
    """``parts``: (N, W, D) float32 for each way by name, W vectors for each clip; ``captions``: what the base model
    wrote about each clip; ``neighbours``: ids of the shipped library's nearest references, None without a library;
    ``served``: the way that the profile's embedder goes."""

    parts: dict[str, Floats]
    captions: tuple[str, ...]
    neighbours: tuple[tuple[str, ...], ...] | None
    served: str = MOVING


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """One clip: (W, D) for each way, the caption, and the nearest references."""

    parts: dict[str, Floats]
    caption: str
    near: tuple[str, ...] | None


def clip_vectors(service: ModelService, items: Sequence[Item], folder: Path) -> ClipVectors:
    """Vectors of ``items`` by the models of ``service``; what an earlier call with the same models has put below
    ``folder`` is read instead. Raises what a clip raises that cannot be read."""
    library = service.profile.library
    mark = digest_of([
        service.identity.weights, dataclasses.asdict(service.embedder.provenance), service.preprocessing_digest(),
        QUESTION, TOKENS, SHARES, [r.id for r in service.library.list()] if library else None,
    ])  # fmt: skip
    kept = folder / f"vectors_{mark[:12]}"
    try:
        kept.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{kept} cannot be written ({error.strerror}); choose another --out.") from error
    looks: Looks | None = None
    seen: list[_Seen] = []
    for item in tqdm(items, desc="embedding", unit="clip", disable=None):
        path = kept / f"{file_sha256(item.path)}.npz"
        found = _kept(path)
        if found is None:
            looks = looks or Looks(service)
            found = _look(service, looks, item)
            _keep(path, found)
        seen.append(found)
    parts = {name: np.stack([one.parts[name] for one in seen]) for name in seen[0].parts}
    captions = tuple(one.caption for one in seen)
    near = tuple(one.near or () for one in seen) if library else None
    served = IN_ORDER if service.embedder.spans else WHOLE if service.embedder.blocks is None else MOVING
    return ClipVectors({**parts, "text": _text_vectors(captions)}, captions, near, served)


def _look(service: ModelService, looks: Looks, item: Item) -> _Seen:
    never, pixels = threading.Event(), looks.windows.between_pixels
    clip, frames = service.reader.open(str(item.path), service.profile.sampling, None, never, between_pixels=pixels)
    near = None
    if service.profile.library:
        hits = service.library.search(service.embedder.embed(frames), NEAREST, exclude_sha256=clip.sha256)
        near = tuple(hit.id for hit in hits)
    return _Seen(looks.vectors(frames), _caption(service, clip, frames), near)


class Looks:
    """All the ways to look at a clip's frames."""

    def __init__(self, service: ModelService) -> None:
        folder = model_folder(service.profile.embedder, service.profile.name)
        self.whole, self.moving, self.windows = (Embedder(folder, service.device) for _ in range(3))
        self.whole.blocks = None
        self.whole.spans = self.moving.spans = False
        if self.moving.blocks is None:
            self.moving.blocks = self.windows.blocks = max(1, round(SHOWN * self.moving.all_blocks))
        self.windows.spans = True
        chosen = service.profile
        base = service.base_folder
        processor = AutoProcessor.from_pretrained(base, local_files_only=True)
        rule = contract(processor, chosen.sampling, chosen.min_pixels, chosen.max_pixels)
        self._dialog = Dialog(processor, rule)
        limits = Limits(frame_min_pixels=chosen.min_pixels, frame_max_pixels=chosen.max_pixels)
        self._last = QwenEmbedder(base, limits=limits, device=service.device, dtype=chosen.dtype)
        self._mean = self._last.pooled_by("mean")

    def vectors(self, frames: Frames) -> dict[str, Floats]:
        """(W, D) for each way; ``frames`` with the pictures between."""
        mean, most = self._tower(frames)
        return {
            WHOLE: self.whole.embed(frames)[None],
            MOVING: self.moving.embed(frames)[None],
            "motion crop": self.whole.embed(cropped(frames))[None],
            "windows": self.windows.embed(frames).reshape(len(SHARES), -1) * np.float32(np.sqrt(len(SHARES))),
            "tower, mean": mean[None],
            "tower, max": most[None],
            "VLM, last token": self._last.embed([Content(video=frames)]),
            "VLM, mean": self._mean.embed([Content(video=frames)]),
        }

    def _tower(self, frames: Frames) -> tuple[Floats, Floats]:
        """Mean and maximum of the merged vision tokens that the language model reads, scaled to length 1."""
        inputs, model = self._dialog.prompt(messages("?"), [frames]), self._last.model
        with torch.inference_mode():
            found = model.get_video_features(
                inputs["pixel_values_videos"].to(model.device, model.dtype),
                inputs["video_grid_thw"].to(model.device),
                return_dict=True,
            )
        tokens = torch.cat(list(found.pooler_output)).float().cpu()
        return _unit(tokens.mean(0).numpy()), _unit(tokens.amax(0).numpy())


def cropped(frames: Frames) -> Frames:
    """The box around the blocks that move most, a common one for all frames, at the pictures' own size."""
    height, width = frames.rgb.shape[1:3]
    block = 32 if min(height, width) >= 128 else 8
    rows, columns = height // block, width // block
    grid = frames.rgb[:, : rows * block, : columns * block]
    moved = moving_blocks(grid, block, max(1, round(SHOWN / 3 * rows * columns)))
    y, x = np.divmod(moved, columns)
    top, bottom, left, right = y.min() * block, (y.max() + 1) * block, x.min() * block, (x.max() + 1) * block
    box = frames.rgb[:, top:bottom, left:right]
    return Frames(
        np.stack([np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)) for picture in box]),
        frames.pts_s,
    )


def _caption(service: ModelService, clip: Clip, frames: Frames) -> str:
    usual = service.chat.generation
    shorter = dataclasses.replace(usual, max_tokens=min(TOKENS, usual.max_tokens))
    chat = service.chat.model_copy(update={"generation": shorter})
    content: list[str | dict[str, object]] = [
        {"type": "video", "key": clip.key, "frames": frames},
        {"type": "text", "text": QUESTION},
    ]
    return str(chat.invoke([HumanMessage(content=content)], together=1).content).strip()


def _text_vectors(captions: Sequence[str]) -> Floats:
    """(N, 1, D): words and pairs of words, weighted by rarity among these captions, rows of length 1."""
    found = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\w+").fit_transform(captions).toarray()
    empty = np.linalg.norm(found, axis=1) == 0
    found[empty] = 1 / np.sqrt(found.shape[1])
    return np.asarray(found[:, None], np.float32)


def _unit(vector: NDArray[Any]) -> Floats:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12), np.float32)


def _kept(path: Path) -> _Seen | None:
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            parts = {name.removeprefix("way "): stored[name] for name in stored.files if name.startswith("way ")}
            near = tuple(str(id) for id in stored["near"]) if "near" in stored.files else None
            return _Seen(parts, str(stored["caption"]), near)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ResourceError(f"{path} is damaged; remove it and run the command again.") from error


def _keep(path: Path, found: _Seen) -> None:
    held: dict[str, Any] = {f"way {name}": part for name, part in found.parts.items()}
    if found.near is not None:
        held["near"] = np.array(found.near, np.str_)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as part:
        np.savez(part, caption=np.array(found.caption), **held)
    os.replace(part.name, path)
