"""Qwen3-VL-Embedding: text, image, video or any mix of them to one vector.

Official (model card and github.com/QwenLM/Qwen3-VL-Embedding): the last layer's hidden state at the last token, scaled
to length 1. ``mean`` pools over all tokens of the mask instead, as the system of the fourth source does. The vectors
are trained to be cut off (Matryoshka): their first ``dimension`` numbers, scaled to length 1 again, are vectors too.
Models are read from local folders only.
"""

from __future__ import annotations

import copy
import dataclasses
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoProcessor

from services.errors import InputError, ModelError
from services.model_identity import identify
from services.multimodal import Content, Limits, embedding_turns, last_positions, model_inputs
from services.schema import Provenance, digest_of

Pooling = Literal["last", "mean"]
POOLINGS: dict[Pooling, str] = {"last": "last token, L2", "mean": "mean over the mask, L2"}
INSTRUCTION = "Represent the user's input."
SMALLEST_NORM = 1e-6


class QwenEmbedder:
    """One model on one device. Loads its weights at once; ``embed`` may be called from any thread.

    ``dimension`` None: all numbers (2048 for the 2B model). Raises ModelError when the folder holds no such model,
    InputError for an impossible dimension."""

    def __init__(
        self,
        folder: Path | str,
        *,
        pooling: Pooling = "last",
        dimension: int | None = None,
        device: str = "cpu",
        dtype: str = "float32",
        limits: Limits | None = None,
        name: str | None = None,
    ) -> None:
        folder = Path(folder)
        self.pooling, self.limits, self.dtype = pooling, limits or Limits(), dtype
        try:
            identity = identify(folder, name)
            self._processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
            self._model = AutoModel.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype=getattr(torch, dtype)
            )
            hidden = int(self._model.config.get_text_config().hidden_size)
        except (ModelError, OSError, ValueError, KeyError, AttributeError, RuntimeError) as error:
            raise ModelError(
                f"The embedding model in {folder} cannot be loaded ({_first_line(error)}); give the folder of a "
                "Qwen3-VL-Embedding checkpoint."
            ) from error
        if dimension is not None and not 1 <= dimension <= hidden:
            raise InputError(f"The model's vectors have {hidden} numbers; {dimension} of them cannot be kept.")
        self.dimension = dimension or hidden
        self._model.to(device).eval()
        self.provenance = Provenance(
            model=identity.model,
            weights=identity.weights,
            pooling=POOLINGS[pooling],
            frames=0,  # as many as a video is given with
            preprocessing=digest_of([dataclasses.asdict(self.limits), self._processor.chat_template]),
        )
        self._lock = threading.Lock()

    def pooled_by(self, pooling: Pooling) -> QwenEmbedder:
        """The same loaded weights pooled another way; the two take turns on them."""
        other = copy.copy(self)
        other.pooling = pooling
        other.provenance = dataclasses.replace(self.provenance, pooling=POOLINGS[pooling])
        return other

    @property
    def model(self) -> Any:
        """The loaded transformers model, for those who want more of it than its vectors."""
        return self._model

    def embed(
        self, contents: Sequence[Content], *, instruction: str = INSTRUCTION, batch: int = 8
    ) -> NDArray[np.float32]:
        """(len(contents), dimension) float32, rows of length 1. Raises ModelError for a vector without a direction,
        InputError for an input that is too long."""
        rows = [self._rows(contents[i : i + batch], instruction) for i in range(0, len(contents), batch)]
        vectors = np.concatenate(rows) if rows else np.zeros((0, self.dimension), np.float32)
        return shortened(vectors, self.dimension)

    def _rows(self, contents: Sequence[Content], instruction: str) -> NDArray[np.float32]:
        """(N, hidden) float32, not yet scaled."""
        conversations = [(embedding_turns(content, instruction), [content]) for content in contents]
        inputs = model_inputs(self._processor, conversations, self.limits)
        inputs = {key: value.to(self._model.device) for key, value in inputs.items()}
        with self._lock, torch.inference_mode():
            hidden = self._model(**inputs, use_cache=False).last_hidden_state.float()
        vectors = pooled(hidden, inputs["attention_mask"], self.pooling).cpu().numpy()
        return np.asarray(vectors, np.float32)


def pooled(hidden: torch.Tensor, attention_mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """(N, D) from hidden states (N, L, D) and their mask (N, L)."""
    if pooling == "last":
        return hidden[torch.arange(len(hidden), device=hidden.device), last_positions(attention_mask)]
    weights = attention_mask[..., None].to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1)


def shortened(vectors: NDArray[np.float32], dimension: int) -> NDArray[np.float32]:
    """(N, dimension) float32 with rows of length 1: the first numbers of each vector. Raises ModelError for a row
    without a direction: as NaN it would rank first for every query."""
    cut = np.asarray(vectors[:, :dimension], np.float32)
    lengths = np.linalg.norm(cut, axis=1, keepdims=True)
    if not np.isfinite(cut).all() or (lengths < SMALLEST_NORM).any():
        raise ModelError("The embedder gave a vector without a direction; its weights are damaged, get them again.")
    return np.asarray(cut / lengths, np.float32)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
