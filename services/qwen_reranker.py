"""Qwen3-VL-Reranker: how well a document answers a query, as a number from 0 to 1.

Official (github.com/QwenLM/Qwen3-VL-Embedding, ``src/models/qwen3_vl_reranker.py``): the model is asked whether the
document meets the requirements, and the score is the sigmoid of the difference of its logits for ``yes`` and ``no`` at
the last token. Query and document are read together, so each pair costs a pass of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForImageTextToText, AutoProcessor

from services.errors import ModelError
from services.multimodal import Content, Limits, last_positions, model_inputs, reranking_turns

INSTRUCTION = "Given a search query, retrieve relevant candidates that answer the query."
MAX_TOKENS = 10240
WORDS = ("yes", "no")


class QwenReranker:
    """One model on one device. Loads its weights at once; ``score`` may be called from any thread.

    Raises ModelError when the folder holds no such model."""

    def __init__(
        self, folder: Path | str, *, device: str = "cpu", dtype: str = "float32", limits: Limits | None = None
    ) -> None:
        folder = Path(folder)
        self.limits = limits or replace(Limits(), max_tokens=MAX_TOKENS)
        try:
            self._processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
            model = AutoModelForImageTextToText.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype=getattr(torch, dtype)
            )
            head = model.get_output_embeddings().weight.detach()
            self._model = model.base_model.to(device).eval()
        except (OSError, ValueError, KeyError, AttributeError, RuntimeError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
            raise ModelError(
                f"The reranker in {folder} cannot be loaded ({reason}); give the folder of a Qwen3-VL-Reranker "
                "checkpoint."
            ) from error
        yes, no = (_first_token(self._processor, word) for word in WORDS)
        self._direction = (head[yes] - head[no]).float().to(device)
        self._lock = threading.Lock()

    def score(
        self, query: Content, documents: Sequence[Content], *, instruction: str = INSTRUCTION, batch: int = 4
    ) -> NDArray[np.float64]:
        """(len(documents),) float64 from 0 (does not answer the query) to 1. Raises InputError for a pair that is too
        long."""
        scores = [self._scores(query, documents[i : i + batch], instruction) for i in range(0, len(documents), batch)]
        return np.concatenate(scores) if scores else np.zeros(0)

    def _scores(self, query: Content, documents: Sequence[Content], instruction: str) -> NDArray[np.float64]:
        pairs = [(reranking_turns(query, document, instruction), [query, document]) for document in documents]
        inputs = model_inputs(self._processor, pairs, self.limits)
        inputs = {key: value.to(self._model.device) for key, value in inputs.items()}
        with self._lock, torch.inference_mode():
            hidden = self._model(**inputs, use_cache=False).last_hidden_state
        last = hidden[torch.arange(len(hidden), device=hidden.device), last_positions(inputs["attention_mask"])]
        return np.asarray(torch.sigmoid(last.float() @ self._direction).cpu().numpy(), np.float64)


def _first_token(processor: object, word: str) -> int:
    """Id of ``word``, one token in Qwen's vocabulary; of its first piece in a smaller one (the demo model's)."""
    tokenizer = processor.tokenizer  # type: ignore[attr-defined]
    return int(tokenizer(word, add_special_tokens=False)["input_ids"][0])
