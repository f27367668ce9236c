"""Free text for many clips at once, greedily, from cached vision features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache

from services.dialog import STATUS
from training.demo.language import group_times, packed
from training.demo.scoring import Loaded
from training.demo.wording import Exercise


def written(
    loaded: Loaded,
    notes: Sequence[dict[str, Any]],
    features: NDArray[np.float16],
    questions: Sequence[str],
    longest: int = 80,
    batch: int = 16,
) -> list[str]:
    """One answer per clip, as serving writes it: greedily, and never the bare verdict at once (clips are grouped by the
    length of their question, so that no batch is padded)."""
    out = [""] * len(notes)
    lengths: dict[int, list[int]] = {}
    for i, question in enumerate(questions):
        lengths.setdefault(len(loaded.layout.text(question)), []).append(i)
    with torch.inference_mode():
        for rows in lengths.values():
            for first in range(0, len(rows), batch):
                part = rows[first : first + batch]
                texts = _greedy(
                    loaded,
                    [notes[i] for i in part],
                    np.stack([features[i] for i in part]),
                    [questions[i] for i in part],
                    longest,
                )
                for i, text in zip(part, texts, strict=True):
                    out[i] = text
    return out


def _greedy(
    loaded: Loaded, notes: list[dict[str, Any]], seen: NDArray[np.float16], questions: list[str], longest: int
) -> list[str]:
    model, layout = loaded.model, loaded.layout
    text = model.model.language_model
    batch = packed(layout, [group_times(n) for n in notes], [[Exercise(q, "")] for q in questions], seen)
    ids, positions, visual = batch.ids[:, :-1], batch.positions[:, :, :-1], batch.visual[:, :-1]
    cache = DynamicCache(config=model.config.text_config)
    embedded = text.embed_tokens(ids).masked_scatter(visual[..., None], batch.seen[0])
    hidden = text(
        inputs_embeds=embedded,
        position_ids=positions,
        visual_pos_masks=visual,
        deepstack_visual_embeds=[batch.seen[1], batch.seen[2]],
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state
    place = positions[:, :, -1:] + 1
    logits = model.lm_head(hidden[:, -1])
    logits[:, layout.text(STATUS)[0]] = -torch.inf
    chosen = logits.argmax(-1)
    found, done = [chosen], chosen == layout.end
    while not bool(done.all()) and len(found) < longest:
        hidden = text(
            inputs_embeds=text.embed_tokens(chosen[:, None]), position_ids=place, past_key_values=cache, use_cache=True
        ).last_hidden_state
        place = place + 1
        chosen = model.lm_head(hidden[:, -1]).argmax(-1)
        found.append(chosen)
        done = done | (chosen == layout.end)
    rows = torch.stack(found, 1).tolist()
    return [layout.tokenizer.decode(row[: row.index(layout.end)] if layout.end in row else row) for row in rows]
