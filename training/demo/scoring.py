"""Scores of both verdicts for many clips, from cached vision features: what serving computes, without its waiting.

After one encoded video stand all questions (every retrieval mode, both complete continuations), each seeing the video
and itself only; so one pass scores a clip in every mode. Text model float32 and unquantised, as the demo profile
serves.
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
from services.schema import LABELS, Hit, RetrievalMode, VariantName
from training.demo.language import Layout, group_times
from training.demo.progress import Progress

MODES: tuple[RetrievalMode, ...] = ("off", "nearest", "contrastive")
VARIANTS: tuple[VariantName, ...] = ("base", "tuned")


@dataclass(frozen=True)
class Loaded:
    """A model with its layout."""

    model: Qwen3VLForConditionalGeneration
    layout: Layout


def loaded(base: Path, adapter: Path | None = None) -> Loaded:
    """The base in float32 as the profile serves it, with the adapter's layers put into it where one is given."""
    of = AutoProcessor.from_pretrained(base)
    model = Qwen3VLForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
    if adapter is not None:
        PeftModel.from_pretrained(model, str(adapter))
    return Loaded(model.eval(), Layout(of, model))


Asked = tuple[str, tuple[str, ...]]
"""A question with its possible answers."""


@dataclass(frozen=True)
class _Row:
    """One clip's sequence: ``segment`` and ``parent`` decide who sees whom; per answer token the place that predicts
    it, the token, and the number of the answer it belongs to."""

    ids: list[int]
    places: Tensor
    segment: list[int]
    parent: list[int]
    source: list[int]
    target: list[int]
    answer: list[int]


def _row(loaded: Loaded, times: list[float], asked: Sequence[Asked], groups: int, skip: str) -> _Row:
    layout = loaded.layout
    ids = layout.prefix(times)
    positions, after = layout.prefix_positions(ids, groups)
    segment, parent = [0] * len(ids), [0] * len(ids)
    text_places: list[int] = []
    source: list[int] = []
    target: list[int] = []
    answer: list[int] = []
    number = branch = 0
    for question, options in asked:
        number += 1
        own, tokens = number, layout.text(question) + layout.close
        ids, segment, parent = ids + tokens, segment + [own] * len(tokens), parent + [own] * len(tokens)
        text_places += range(after, after + len(tokens))
        last = len(ids) - 1
        for option in options:
            number += 1
            said = [*layout.text(option), layout.end]
            start = len(ids)
            ids, segment, parent = ids + said, segment + [number] * len(said), parent + [own] * len(said)
            text_places += range(after + len(tokens), after + len(tokens) + len(said))
            leave = len(layout.text(skip)) if skip and option.startswith(skip) else 0
            for k in range(leave, len(said)):
                source.append(last if k == 0 else start + k - 1)
                target.append(said[k])
                answer.append(branch)
            branch += 1
    places = torch.cat([positions, torch.tensor(text_places).expand(3, -1)], 1)
    return _Row(ids, places, segment, parent, source, target, answer)


def answers(
    loaded: Loaded,
    times: list[list[float]],
    asked: Sequence[Sequence[Asked]],
    seen: NDArray[np.float16],
    skip: str = "",
) -> Tensor:
    """(clips, answers) float32: summed log-probability of each complete answer, terminator included, without the
    tokens of its beginning ``skip``. Each question is read once; its answers see it, the video and themselves."""
    rows = [_row(loaded, own, questions, seen.shape[1], skip) for own, questions in zip(times, asked, strict=True)]
    size, length = len(rows), max(len(row.ids) for row in rows)
    ids, segment, parent = (torch.full((size, length), value) for value in (0, -1, -1))
    positions = torch.zeros(3, size, length, dtype=torch.long)
    for i, row in enumerate(rows):
        n = len(row.ids)
        ids[i, :n], segment[i, :n], parent[i, :n] = map(torch.tensor, (row.ids, row.segment, row.parent))
        positions[:, i, :n] = row.places
    near = (
        (segment[:, :, None] == segment[:, None]) | (segment[:, None] == 0) | (parent[:, :, None] == segment[:, None])
    )
    mask = (near & torch.ones(length, length, dtype=torch.bool).tril())[:, None]
    stacked = torch.from_numpy(np.ascontiguousarray(seen.transpose(2, 0, 1, 3, 4))).float().flatten(1, 3)
    hidden = _hidden(loaded.model, ids, positions, mask, ids == loaded.layout.pad_video, stacked)
    out = torch.zeros(size, sum(len(options) for _, options in asked[0]))
    for i, row in enumerate(rows):
        chances = loaded.model.lm_head(hidden[i, row.source]).float().log_softmax(-1)
        each = chances.gather(1, torch.tensor(row.target)[:, None])[:, 0]
        out[i].index_add_(0, torch.tensor(row.answer), each)
    return out


def _hidden(
    model: Qwen3VLForConditionalGeneration, ids: Tensor, positions: Tensor, mask: Tensor, visual: Tensor, seen: Tensor
) -> Tensor:
    text = model.model.language_model
    embedded = text.embed_tokens(ids)
    hidden: Tensor = text(
        inputs_embeds=embedded.masked_scatter(visual[..., None], seen[0].to(embedded.dtype)),
        attention_mask=mask,
        position_ids=positions,
        visual_pos_masks=visual,
        deepstack_visual_embeds=[seen[1], seen[2]],
        use_cache=False,
    ).last_hidden_state
    return hidden


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
            words = tuple(f"{STATUS} {STATUS_WORDS[label]}" for label in LABELS)
            asked = [[(mounting_question(mode, shown[mode][i]), words) for mode in shown] for i in part]
            times = [group_times(notes[i]) for i in part]
            found = answers(loaded, times, asked, np.asarray(features[first : part.stop]), STATUS)
            for number, mode in enumerate(shown):
                rows[mode][first : part.stop] = found[:, 2 * number : 2 * number + 2].numpy()
            progress.step(count=len(part))
    return rows


def probabilities(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N,) p(mounting) by the softmax of ``agent.verdict``."""
    return 1.0 / (1.0 + np.exp(np.clip(scores[:, 1].astype(np.float64) - scores[:, 0], -700, 700)))
