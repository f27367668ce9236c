"""Scores of both verdicts for many clips, from cached vision features: what serving computes, without its waiting.

After one encoded video stand all questions (every retrieval mode, both complete continuations), each seeing the video
and itself only; so one pass scores a clip in every mode. Float32 and unquantised, as the demo profile serves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from torch import Tensor
from transformers import AutoProcessor, Qwen3VLForConditionalGeneration

from agent.prompts import mounting_question
from services.dialog import STATUS, STATUS_WORDS
from services.schema import LABELS, Hit, RetrievalMode
from training.demo.corpus import Exercise
from training.demo.language import Layout, Packed, group_times, packed
from training.demo.progress import Progress

MODES: tuple[RetrievalMode, ...] = ("off", "nearest", "contrastive")


@dataclass(frozen=True)
class Loaded:
    """A model with its layout; ``adapter`` is None for the base."""

    model: Qwen3VLForConditionalGeneration
    layout: Layout
    adapter: Path | None


def loaded(base: Path, adapter: Path | None = None) -> Loaded:
    """The base in float32 as the profile serves it, with the adapter's layers put into it where one is given."""
    of = AutoProcessor.from_pretrained(base)
    model = Qwen3VLForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
    if adapter is not None:
        PeftModel.from_pretrained(model, str(adapter))
    return Loaded(model.eval(), Layout(of, model), adapter)


def answers(loaded: Loaded, times: list[list[float]], asked: list[list[Exercise]], seen: NDArray[np.float16]) -> Tensor:
    """(clips, exercises) float32: summed log-probability of each exercise's complete answer but for ``Status:``."""
    batch = packed(loaded.layout, times, asked, seen)
    logits = _logits(loaded.model, batch)
    wanted = batch.targets >= 0
    chances = logits.log_softmax(-1).gather(-1, batch.targets.clamp(min=0)[..., None])[..., 0]
    chances = torch.where(wanted, chances, 0.0)
    skip = len(loaded.layout.text(STATUS))
    out = torch.zeros(len(asked), len(asked[0]))
    for row, exercises in enumerate(asked):
        place = wanted[row].nonzero()[:, 0].tolist()
        start = 0
        for column, exercise in enumerate(exercises):
            length = len(loaded.layout.text(exercise.answer)) + 1
            leave = skip if exercise.answer.startswith(STATUS) else 0
            out[row, column] = chances[row, place[start + leave : start + length]].sum()
            start += length
    return out


def _logits(model: Qwen3VLForConditionalGeneration, batch: Packed) -> Tensor:
    text = model.model.language_model
    embedded = text.embed_tokens(batch.ids)
    embedded = embedded.masked_scatter(batch.visual[..., None], batch.seen[0].to(embedded.dtype))
    hidden = text(
        inputs_embeds=embedded,
        attention_mask=batch.mask,
        position_ids=batch.positions,
        visual_pos_masks=batch.visual,
        deepstack_visual_embeds=[batch.seen[1], batch.seen[2]],
        use_cache=False,
    ).last_hidden_state
    return model.lm_head(hidden).float()


def mounting_scores(
    loaded: Loaded,
    notes: Sequence[dict[str, Any]],
    features: NDArray[np.float16],
    shown: dict[RetrievalMode, list[tuple[Hit, ...]]],
    batch: int = 4,
) -> dict[RetrievalMode, NDArray[np.float32]]:
    """Per mode (N, 2): summed log-probabilities of the continuations for mounting and normal."""
    rows = {mode: np.zeros((len(notes), 2), np.float32) for mode in shown}
    progress = Progress("scores", len(notes))
    with torch.inference_mode():
        for first in range(0, len(notes), batch):
            part = range(first, min(first + batch, len(notes)))
            asked = [
                [
                    Exercise(mounting_question(mode, shown[mode][i]), f"{STATUS} {STATUS_WORDS[label]}")
                    for mode in shown
                    for label in LABELS
                ]
                for i in part
            ]
            found = answers(
                loaded, [group_times(notes[i]) for i in part], asked, np.asarray(features[first : part.stop])
            )
            for number, mode in enumerate(shown):
                rows[mode][first : part.stop] = found[:, 2 * number : 2 * number + 2].numpy()
            progress.step(count=len(part))
    return rows


def probabilities(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N,) p(mounting) by the softmax of ``agent.verdict``."""
    return 1.0 / (1.0 + np.exp(np.clip(scores[:, 1].astype(np.float64) - scores[:, 0], -700, 700)))
