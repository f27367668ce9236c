"""What stands before the first step: model, features, split, reference cases, lengths; every problem found at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from services.adapters import AdapterRecord
from services.errors import AnnotationError, InputError
from training.base import Base, load_base, load_dialog
from training.collator import Collator
from training.context import Cases
from training.counts import count
from training.data import Sample, conflicts, shared, split
from training.features import CachedFeatures, FrameReader, LiveFeatures, Tower, cache_folder
from training.outputs import check_record
from training.questions import Questions
from training.settings import TrainConfig
from training.start import check_start, going_on
from training.steps import Examples
from training.views import as_views

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """``lengths``: tokens of each sample's longest question, of ``training`` first, then of ``held``; ``weights``: the
    base's digest; ``start``: the adapter that the run goes on from."""

    base: Base
    examples: Examples
    training: list[Sample]
    held: list[Sample]
    lengths: list[int]
    weights: str
    start: AdapterRecord | None


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
    problems = conflicts(samples)
    if not samples:
        _refuse(problems)
    training, held, cases, more = arranged(config, samples, validation, references, vectors)
    problems += more
    everything = [*training, *held]

    torch.manual_seed(config.seed)
    dialog = load_dialog(config)
    record = check_record(config, dialog)
    start = check_start(config, record)
    if dialog.rule.views is not None:
        training, held = (as_views(part, dialog.rule, read) for part in (training, held))
        everything = [*training, *held]
    base = load_base(config, dialog)
    for line in (*base.describe(), *going_on(start), *remarks(config, use_cache)):
        report(line)
    features, unreadable = _features(config, base, read, use_cache, everything, report)
    tokenizer, model = dialog.tokenizer, base.model.config
    collator = Collator(base.model, tokenizer.pad_token_id, model.video_token_id, model.image_token_id)
    examples = Examples(config, Questions(dialog, config.bare_share), collator, features, cases)
    counted = count(examples.questions, features.expansion, everything, config.max_length)
    _refuse(problems + (unreadable or counted.unreadable) + counted.long)
    lengths = [item.tokens for item in counted.samples]
    report(f"{len(training)} samples to train on, {len(held)} held out; longest {max(lengths)} tokens without cases.")
    return Prepared(base, examples, training, held, lengths, record["weights"], start)


def arranged(
    config: TrainConfig,
    samples: Sequence[Sample],
    validation: Sequence[Sample] | None,
    references: Sequence[Sample] | None,
    vectors: Mapping[str, NDArray[np.float32]] | None,
) -> tuple[list[Sample], list[Sample], Cases, list[str]]:
    """(training, held out, reference cases, problems of the arrangement)."""
    if validation is None:
        training, held = split(samples, config.validation_share, config.seed)
    else:
        training, held = list(samples), list(validation)
    problems = shared(training, held) + misplaced(config.task, samples)
    if samples and not training:
        problems.append("every sample would be held out; lower --validation-share or add samples")
    if vectors is not None and (lacking := unplaced(vectors, [*training, *held])):
        problems, vectors = problems + lacking, None
    cases = Cases(references or training, seed=config.seed, neighbours=config.context_neighbours, vectors=vectors)
    if config.context != "off" and any(s.label for s in (*training, *held)) and not cases.available:
        problems.append("reference cases need two clips of each label with a reason; add some or use --context off")
    return training, held, cases, problems


def unplaced(vectors: Mapping[str, NDArray[np.float32]], samples: Sequence[Sample]) -> list[str]:
    """Sentences about ``vectors`` that cannot be compared, or lack a clip."""
    lacking = [sample for sample in samples if sample.label is not None and sample.digest not in vectors]
    problems = [f"{sample.title}: the vectors file has no vector for it; rebuild the file" for sample in lacking]
    if len({vector.shape for vector in vectors.values()}) > 1:
        problems.append("the vectors file holds vectors of different lengths; rebuild it with one embedder")
    return problems


def misplaced(task: str, samples: Sequence[Sample]) -> list[str]:
    """Sentences about samples of another task than ``task``: they would be trained as what they are not."""
    labelled = [sample for sample in samples if sample.label is not None]
    if task == "quality":
        return [
            f"{sample.title}: asks the mounting question, but the task is 'quality'; leave --task out, or the entry"
            for sample in labelled
        ]
    if task == "mounting" and samples and not labelled:
        return [
            "no entry answers the mounting question (Answer: YES or Answer: NO); name what they are about with --task"
        ]
    return []


def _features(
    config: TrainConfig, base: Base, read: FrameReader, use_cache: bool, samples: Sequence[Sample], report: Report
) -> tuple[CachedFeatures | LiveFeatures, list[str]]:
    """The source of vision features; with the cache, all of them are computed here and unreadable media named. A
    tower that is trained itself is never cached."""
    tower = Tower(base.model, base.dialog, read, base.dtype)
    if config.targets != "language":
        if any(medium.features is not None for sample in samples for medium in sample.media):
            raise InputError(
                f"Ready vision features cannot be trained on with targets {config.targets!r}; give pictures."
            )
        return LiveFeatures(tower, trained=True), []
    if not use_cache:
        return LiveFeatures(tower), []
    root: Path = config.cache or config.output / "features"
    features = CachedFeatures(cache_folder(root, base.model, base.dialog, base.dtype), tower)
    problems = features.fill(samples, lambda items: tqdm(items, desc="vision features", unit="sample", leave=False))
    if features.misses:
        report(f"Vision features of {features.misses} clips and images computed in {features.seconds:.1f} s.")
    return features, problems


def remarks(config: TrainConfig, use_cache: bool) -> list[str]:
    """What a person should know of the chosen targets before hours are spent on them."""
    if config.targets == "language":
        return []
    cache = ["Vision features are not cached between epochs, because the tower itself is trained."] if use_cache else []
    return [
        *cache,
        "vLLM serves the language side of adapters only, and HerdLens shows base and tuned from one pass of the vision "
        f"tower: an adapter with targets {config.targets!r} can be used with PEFT, but not registered here.",
    ]


def _refuse(problems: Sequence[str]) -> None:
    """All problems at once, before anything is trained."""
    if problems:
        raise AnnotationError(f"The samples cannot be trained on ({len(problems)} problems).", tuple(problems))
