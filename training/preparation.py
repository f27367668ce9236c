"""What stands before the first step: model, features, split, reference cases, lengths; every problem found at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from services.errors import AnnotationError, InputError
from training.base import Base, load_base, load_dialog
from training.collator import Collator
from training.context import Cases
from training.data import Sample, conflicts, split
from training.features import CachedFeatures, FrameReader, LiveFeatures, Tower, cache_folder
from training.outputs import check_record
from training.questions import Questions
from training.settings import TrainConfig
from training.steps import Examples

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """``lengths``: tokens of each sample's longest question, of ``training`` first, then of ``held``."""

    base: Base
    examples: Examples
    training: list[Sample]
    held: list[Sample]
    lengths: list[int]


def prepare(
    config: TrainConfig,
    samples: Sequence[Sample],
    validation: Sequence[Sample] | None,
    references: Sequence[Sample] | None,
    vectors: Mapping[str, NDArray[np.float32]] | None,
    read: FrameReader,
    use_cache: bool,
    report: Report,
) -> Prepared:
    """Everything that ``trainer.train`` needs before it trains; same arguments, same errors."""
    _refuse(conflicts(samples), "The samples cannot be trained on.")
    if validation is None:
        training, held = split(samples, config.validation_share, config.seed)
    else:
        training, held = list(samples), list(validation)
    _refuse(_shared(training, held), "Training and validation share clips.")
    everything = [*training, *held]
    cases = Cases(references or training, seed=config.seed, neighbours=config.context_neighbours, vectors=vectors)
    if config.context != "off" and any(s.label for s in everything) and not cases.available:
        raise InputError("Reference cases need two clips of each label with a reason; add some or use --context off.")

    torch.manual_seed(config.seed)
    dialog = load_dialog(config)
    check_record(config, dialog)
    base = load_base(config, dialog)
    for line in base.describe():
        report(line)
    features = _features(config, base, read, use_cache, everything, report)
    tokenizer, model = dialog.tokenizer, base.model.config
    collator = Collator(base.model, tokenizer.pad_token_id, model.video_token_id, model.image_token_id)
    examples = Examples(config, Questions(dialog, config.bare_share), collator, features, cases)
    lengths = _lengths(examples, everything)
    long = [
        f"{sample.title}: {length} tokens, at most {config.max_length} are trained on; shorten it or raise max_length"
        for sample, length in zip(everything, lengths, strict=True)
        if length > config.max_length
    ]
    _refuse(long, "Some samples are too long.")
    report(f"{len(training)} samples to train on, {len(held)} held out; longest {max(lengths)} tokens without cases.")
    return Prepared(base, examples, training, held, lengths)


def _features(
    config: TrainConfig, base: Base, read: FrameReader, use_cache: bool, samples: Sequence[Sample], report: Report
) -> CachedFeatures | LiveFeatures:
    """The source of vision features; with the cache, all of them are computed here and unreadable clips listed."""
    tower = Tower(base.model, base.dialog, read, base.dtype)
    if not use_cache:
        return LiveFeatures(tower)
    root: Path = config.cache or config.output / "features"
    features = CachedFeatures(cache_folder(root, base.model, base.dialog, base.dtype), tower)
    begun = time.perf_counter()
    problems = features.fill(samples, lambda items: tqdm(items, desc="vision features", unit="clip", leave=False))
    _refuse(problems, "Some clips cannot be used.")
    if features.misses:
        report(f"Vision features of {features.misses} clips computed in {time.perf_counter() - begun:.1f} s.")
    return features


def _lengths(examples: Examples, samples: Sequence[Sample]) -> list[int]:
    """Tokens of each sample's longest question with its answer, asked without context: enough to form batches and to
    find overlong answers. Cases add a bounded number (agent.prompts.DESCRIPTION_LIMIT)."""
    lengths = []
    for sample in samples:
        branches = examples.questions.branches(sample, examples.features.expansion(sample), [()])
        lengths.append(max(len(branch.ids) for branch in branches))
    return lengths


def _shared(training: Sequence[Sample], held: Sequence[Sample]) -> list[str]:
    known = {sample.digest for sample in training}
    both = sorted({sample.title for sample in held if sample.digest in known})
    return [f"{title}: the same content stands in training and validation; remove one" for title in both]


def _refuse(problems: Sequence[str], sentence: str) -> None:
    if problems:
        raise AnnotationError(sentence, tuple(problems))
