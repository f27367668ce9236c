"""The vectors of labelled clips under every way of embedding them that is compared.

Each way looks at the same sixteen frames (three times sixteen for windows). Nothing here reads a label.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
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
from transformers import AutoModel, AutoProcessor

from evaluation.data import Item
from evaluation.records import file_sha256
from services.dialog import Dialog, contract, messages
from services.embedder import Embedder
from services.model_files import model_folder
from services.model_service import ModelService
from services.moving_blocks import moving_blocks
from services.multimodal import Content, Limits
from services.qwen_embedder import QwenEmbedder
from services.schema import Clip, Frames, Window, digest_of

WINDOWS = ((0.0, 0.5), (0.25, 0.75), (0.5, 1.0))
"""Overlapping halves of a clip, as shares of the span that is looked at."""
SHOWN = 3 / 7
"""Share of the picture's blocks that counts as moving where the embedder itself does not say."""
QUESTION = "Describe this video."
TOKENS = 48

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class ClipVectors:
    """``parts``: (N, W, D) float32 for each way by name, W vectors for each clip; ``captions``: what the base model
    wrote about each clip; ``neighbours``: ids of the shipped library's nearest references, None without a library."""

    parts: dict[str, Floats]
    captions: tuple[str, ...]
    neighbours: tuple[tuple[str, ...], ...] | None


def clip_vectors(service: ModelService, items: Sequence[Item], kept: Path) -> ClipVectors:
    """Vectors of ``items`` by the models of ``service``; what an earlier call with the same models and clips has put
    into the file ``kept`` is read instead. Raises what a clip raises that cannot be read."""
    mark = digest_of([
        service.identity.weights, service.embedder.provenance, service.preprocessing_digest(), QUESTION, WINDOWS,
        [(item.video, file_sha256(item.path)) for item in items],
        [r.id for r in service.library.list()] if service.profile.library else None,
    ])  # fmt: skip
    found = _kept(kept, mark)
    if found is None:
        rows = [row for row in tqdm(_rows(service, items), total=len(items), desc="embedding", unit="clip")]
        parts = {name: np.stack([row[0][name] for row in rows]).astype(np.float32) for name in rows[0][0]}
        near = [row[2] for row in rows]
        found = ClipVectors(
            parts, tuple(row[1] for row in rows), None if near[0] is None else tuple(n for n in near if n is not None)
        )
        _keep(kept, mark, found)
    return ClipVectors({**found.parts, "text": _text_vectors(found.captions)}, found.captions, found.neighbours)


def _rows(
    service: ModelService, items: Sequence[Item]
) -> Iterator[tuple[dict[str, Floats], str, tuple[str, ...] | None]]:
    looks = Looks(service)
    never = threading.Event()
    for item in items:
        clip, frames = service.reader.open(str(item.path), service.profile.sampling, None, never)
        windows = [
            service.reader.open(str(item.path), service.profile.sampling, window, never)[1] for window in halves(clip)
        ]
        made = looks.vectors(frames, windows)
        near = None
        if service.profile.library:
            hits = service.library.search(made["moving blocks"][0], 10, exclude_sha256=clip.sha256)
            near = tuple(hit.id for hit in hits)
        yield made, _caption(service, clip, frames), near


def halves(clip: Clip) -> list[Window]:
    """Overlapping windows of the span that is looked at."""
    start, length = clip.window.start_s, clip.window.length_s
    return [Window(start + a * length, start + b * length) for a, b in WINDOWS]


class Looks:
    """All the ways to look at a clip's frames."""

    def __init__(self, service: ModelService) -> None:
        folder = model_folder(service.profile.embedder)
        self.moving, self.whole = service.embedder, Embedder(folder, service.device)
        self.whole.blocks = None
        chosen = service.profile
        base = service.base_folder
        processor = AutoProcessor.from_pretrained(base, local_files_only=True)
        rule = contract(processor, chosen.sampling, chosen.min_pixels, chosen.max_pixels)
        self._dialog = Dialog(processor, rule)
        dtype = getattr(torch, chosen.dtype)
        self._model: Any = AutoModel.from_pretrained(base, local_files_only=True, dtype=dtype).to(service.device).eval()
        limits = Limits(frame_min_pixels=chosen.min_pixels, frame_max_pixels=chosen.max_pixels)
        self._pooled = {
            pooling: QwenEmbedder(base, pooling=pooling, limits=limits, device=service.device, dtype=chosen.dtype)
            for pooling in ("last", "mean")
        }

    def vectors(self, frames: Frames, windows: Sequence[Frames]) -> dict[str, Floats]:
        """(W, D) for each way."""
        mean, most = self._tower(frames)
        return {
            "whole frames": self.whole.embed(frames)[None],
            "moving blocks": self.moving.embed(frames)[None],
            "motion crop": self.whole.embed(cropped(frames))[None],
            "windows": np.stack([self.moving.embed(window) for window in (frames, *windows)]),
            "tower, mean": mean[None],
            "tower, max": most[None],
            "VLM, last token": self._pooled["last"].embed([Content(video=frames)]),
            "VLM, mean": self._pooled["mean"].embed([Content(video=frames)]),
        }

    def _tower(self, frames: Frames) -> tuple[Floats, Floats]:
        """Mean and maximum of the merged vision tokens that the language model reads, scaled to length 1."""
        inputs = self._dialog.prompt(messages("?"), [frames])
        with torch.inference_mode():
            found = self._model.get_video_features(
                inputs["pixel_values_videos"].to(self._model.device, self._model.dtype),
                inputs["video_grid_thw"].to(self._model.device),
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
    chat = service.chat.model_copy(
        update={"generation": _shorter(service.chat.generation)},
    )
    content: list[str | dict[str, object]] = [
        {"type": "video", "key": clip.key, "frames": frames},
        {"type": "text", "text": QUESTION},
    ]
    return str(chat.invoke([HumanMessage(content=content)], together=1).content).strip()


def _shorter(generation: Any) -> Any:
    import dataclasses

    return dataclasses.replace(generation, max_tokens=min(TOKENS, generation.max_tokens))


def _text_vectors(captions: Sequence[str]) -> Floats:
    """(N, 1, D): words and pairs of words, weighted by rarity among these captions, rows of length 1."""
    found = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\w+").fit_transform(captions).toarray()
    empty = np.linalg.norm(found, axis=1) == 0
    found[empty] = 1 / np.sqrt(found.shape[1])
    return np.asarray(found[:, None], np.float32)


def _unit(vector: NDArray[Any]) -> Floats:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12), np.float32)


def _kept(path: Path, mark: str) -> ClipVectors | None:
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as stored:
        if str(stored["mark"]) != mark:
            return None
        near = stored["neighbours"]
        return ClipVectors(
            {name.removeprefix("way "): stored[name] for name in stored.files if name.startswith("way ")},
            tuple(str(text) for text in stored["captions"]),
            tuple(tuple(str(id) for id in row) for row in near) if near.size else None,
        )


def _keep(path: Path, mark: str, found: ClipVectors) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ways: dict[str, Any] = {f"way {name}": part for name, part in found.parts.items()}
    np.savez(
        path,
        mark=np.array(mark),
        captions=np.array(found.captions, np.str_),
        neighbours=np.array(found.neighbours or [], np.str_),
        **ways,
    )
