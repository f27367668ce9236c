"""One step of the model over a batch, and the plan of an epoch: which samples stand in which batch."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch.nn import functional

from services.schema import Hit
from training.base import Base
from training.collator import Batch, Collator
from training.context import Cases
from training.data import Sample
from training.features import CachedFeatures, ClipFeatures, LiveFeatures
from training.questions import Questions
from training.settings import TrainConfig

VALIDATION_EPOCH = -1
"""The epoch whose draw of reference cases validation uses every time."""

MEGABATCH = 32
"""Batches are formed by length within this many shuffled batches' worth of samples."""


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Makes batches of samples: features, branches, positions."""

    config: TrainConfig
    questions: Questions
    collator: Collator
    features: CachedFeatures | LiveFeatures
    cases: Cases

    def batch(self, samples: Sequence[Sample], epoch: int) -> Batch:
        return self._collated(samples, epoch, scored=False)

    def validation_batch(self, samples: Sequence[Sample]) -> Batch:
        """As ``batch``, with both continuations of each mounting question for scoring."""
        with torch.no_grad():
            return self._collated(samples, VALIDATION_EPOCH, scored=True)

    def _collated(self, samples: Sequence[Sample], epoch: int, *, scored: bool) -> Batch:
        found = iter(self.features.get([medium for sample in samples for medium in sample.media]))
        features = [[next(found) for _ in sample.media] for sample in samples]
        rows = []
        for sample, media in zip(samples, features, strict=True):
            expansions, asked = [item.expansion for item in media], ways(self.config, self.cases, sample, epoch)
            branches = self.questions.branches(sample, expansions, asked)
            more = self.questions.scored(expansions, asked) if scored and sample.label else []
            rows.append(branches + more)
        return self.collator(rows, features)


def ways(config: TrainConfig, cases: Cases, sample: Sample, epoch: int) -> list[tuple[Hit, ...]]:
    """The contexts that ``sample`` is asked with in ``epoch``: without, with two cases, or both."""
    mode = config.context
    if sample.label is None or mode == "off":
        return [()]
    shown = cases.draw(sample, epoch)
    if mode == "contrastive":
        return [shown]
    chance = random.Random(f"{config.seed}:{epoch}:{sample.digest}:ways").random()
    with_cases = epoch == VALIDATION_EPOCH or chance < config.context_share
    return [(), shown] if with_cases else [()]


def step_counts(config: TrainConfig, samples: int) -> tuple[int, int]:
    """(steps of an epoch, steps of the whole run) over ``samples`` training samples, without early stopping."""
    each = math.ceil(math.ceil(samples / config.batch) / config.accumulation)
    return each, min(each * config.epochs, config.max_steps or each * config.epochs)


def warm_up(config: TrainConfig, total: int) -> int:
    """In how many of the ``total`` steps the learning rate rises."""
    return max(1, round(total * config.warmup_share))


def rate(config: TrainConfig, step: int, total: int) -> float:
    """Learning rate of ``step`` (from 0): linear warm-up, then a half cosine to zero."""
    warm = warm_up(config, total)
    if step < warm:
        return config.learning_rate * (step + 1) / warm
    done = (step - warm) / max(1, total - warm)
    return config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done))


def plan(lengths: Sequence[int], batch: int, seed: int, epoch: int) -> list[list[int]]:
    """Indices of each batch of ``epoch``: shuffled, near lengths together, batches in random order. Every index once;
    the last batch may be smaller."""
    chance = random.Random(f"{seed}:{epoch}")
    order = list(range(len(lengths)))
    chance.shuffle(order)
    batches: list[list[int]] = []
    for start in range(0, len(order), batch * MEGABATCH):
        part = sorted(order[start : start + batch * MEGABATCH], key=lambda index: -lengths[index])
        batches += [part[i : i + batch] for i in range(0, len(part), batch)]
    chance.shuffle(batches)
    return batches


def losses(base: Base, batch: Batch) -> torch.Tensor:
    """(N,) float32 negative log-likelihood of each answer token of ``batch``; the head sees answer places only."""
    core: Any = base.model.model
    cpu = base.device.type == "cpu"
    half = base.dtype == torch.bfloat16
    if cpu:
        mask = batch.mask.to(base.dtype).sub_(1).mul_(torch.finfo(base.dtype).max)  # 0 where seen, else lowest
    else:
        mask = batch.mask.to(base.device, non_blocking=True)
    with torch.autocast(base.device.type, torch.bfloat16) if half else nullcontext():
        output = core(
            input_ids=batch.input_ids.to(base.device),
            position_ids=batch.position_ids.to(base.device),
            attention_mask=mask,
            mm_token_type_ids=batch.mm_token_type_ids.to(base.device),
            mm_encoder_outputs=encoder_outputs(batch.features, base),
            use_cache=False,
        )
        hidden = output.last_hidden_state.flatten(0, 1)[batch.source.to(base.device)]
        logits = base.model.lm_head(hidden)
    return functional.cross_entropy(logits.float(), batch.target.to(base.device), reduction="none")


def encoder_outputs(features: Sequence[ClipFeatures], base: Base) -> dict[str, Any]:
    """Ready features in the shape in which the model's forward takes a vision tower's outputs, by kind."""
    found = {}
    for kind in ("image", "video"):
        media = [item for item in features if item.kind == kind]
        if media:
            layers = range(media[0].deepstack.shape[0])
            found[kind] = SimpleNamespace(
                pooler_output=[item.pooled.to(base.device, base.dtype) for item in media],
                deepstack_features=[[item.deepstack[k].to(base.device, base.dtype) for item in media] for k in layers],
            )
    return found
