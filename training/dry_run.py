"""What a run would do, told without doing it: data, tokens, split, steps, where LoRA attaches, memory.

Only the base's configuration and processor are loaded, never its weights. Media are read as training reads them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from services.adapters import AdapterRecord
from services.architectures import architectures
from services.errors import AnnotationError, ClipError
from services.memory import CONTEXT, ELEMENT, GIB, Estimate, Form, Sizes, inference, sizes
from services.settings import Profile
from training.architectures import attach_report
from training.base import base_folder, expands, load_dialog
from training.counts import Counts, count
from training.data import Medium, Sample
from training.features import KEYS, Expander, FrameReader
from training.memory import attention_bytes, training
from training.outputs import check_record
from training.packing import pack
from training.precision import device_of, settled
from training.preparation import arranged, remarks
from training.questions import Questions
from training.settings import TrainConfig
from training.start import check_start, going_on
from training.steps import VALIDATION_EPOCH, plan, step_counts, warm_up, ways
from training.views import as_views


@dataclass(frozen=True, slots=True)
class Row:
    """One sample in a batch, asked in every way: ``places`` of its packed sequence, ``answers`` among them that the
    head sees, ``asked`` tokens of its longest question, ``patches`` of its media."""

    places: int
    answers: int
    asked: int
    patches: int


@dataclass(slots=True)
class Examined:
    """``training`` and ``held`` as split, ``rows`` of both in this order (empty where a sample cannot be read);
    ``start``: the adapter that the run would go on from."""

    training: list[Sample]
    held: list[Sample]
    start: AdapterRecord | None = None
    counts: Counts = field(default_factory=Counts)
    rows: list[Row] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def examine(
    config: TrainConfig,
    samples: Sequence[Sample],
    vectors: Mapping[str, NDArray[np.float32]] | None,
    read: FrameReader,
    problems: Sequence[str] = (),
) -> Examined:
    """Count ``samples`` and find every problem of them, after the ``problems`` that are known already."""
    sides = arranged(config, samples, None, None, vectors)
    own, held, cases, more = sides
    dialog = load_dialog(config)
    start = check_start(config, check_record(config, dialog))
    if dialog.rule.views is not None:
        own, held = (as_views(part, dialog.rule, read) for part in (own, held))
    found = Examined(own, held, start, problems=[*problems, *more])
    expander, questions = Expander(dialog, read), Questions(dialog, config.bare_share)
    known: dict[str, tuple[str, int] | ClipError] = {}

    def seen(medium: Medium) -> tuple[str, int]:
        if medium.digest not in known:
            try:
                inputs = expander.inputs((medium.kind, expander.frames(medium)))
                patches = int(inputs[KEYS[medium.kind][1]].prod())
                known[medium.digest] = (expander.expansion(inputs, medium.kind), patches)
            except ClipError as error:
                known[medium.digest] = error
        value = known[medium.digest]
        if isinstance(value, ClipError):
            raise value
        return value

    everything = [*own, *held]
    found.counts = count(questions, lambda medium: seen(medium)[0], everything, config.max_length)
    found.problems += found.counts.unreadable + found.counts.long
    if found.problems:
        return found
    for sample in everything:
        media = [seen(medium) for medium in sample.media]
        branches = questions.branches(
            sample, [text for text, _ in media], ways(config, cases, sample, VALIDATION_EPOCH)
        )
        packed = pack(branches)
        longest = max(len(branch.ids) for branch in branches)
        found.rows.append(Row(len(packed.ids), len(packed.source), longest, sum(patches for _, patches in media)))
    return found


def dry_run(
    config: TrainConfig,
    profile: Profile,
    samples: Sequence[Sample],
    vectors: Mapping[str, NDArray[np.float32]] | None,
    read: FrameReader,
    *,
    problems: Sequence[str] = (),
    use_cache: bool = True,
    every_sample: bool = False,
    report: Callable[[str], None] = print,
) -> None:
    """Report what a run with these settings would do. AnnotationError at the end lists every problem of the data."""
    config = settled(config)
    found = examine(config, samples, vectors, read, problems)
    for part in (_data(config, found, every_sample), _attached(config, found.start), remarks(config, use_cache)):
        for line in part:
            report(line)
    if found.problems:
        raise AnnotationError(
            f"The samples cannot be trained on ({len(found.problems)} problems).", tuple(found.problems)
        )
    for line in _memory(config, profile, found, use_cache):
        report(line)
    report("Nothing was trained (--dry-run).")


def _data(config: TrainConfig, found: Examined, every_sample: bool) -> Iterator[str]:
    """Split, steps and tokens."""
    for name, side in (("to train on", found.training), ("held out", found.held)):
        strata = Counter(sample.stratum for sample in side)
        mixed = ", ".join(f"{number} {key}" for key, number in sorted(strata.items()))
        yield f"{len(side)} samples {name}" + (f" ({mixed})" if mixed else "") + f", seed {config.seed}."
    if not found.counts.samples:
        return
    tokens = [item.tokens for item in found.counts.samples]
    media = [size for item in found.counts.samples for size in item.media]
    yield (
        f"Tokens of a question with its answer, without reference cases: {min(tokens)} to {max(tokens)}, median "
        f"{median(tokens):.0f}; at most {config.max_length}. Of a clip or image: {min(media)} to {max(media)}."
    )
    if found.rows:
        places = [row.places for row in found.rows]
        yield (
            f"Places of a sample, all its questions and cases packed: {min(places)} to {max(places)}, of which "
            f"{max(row.answers for row in found.rows)} answer tokens at most."
        )
    each, total = step_counts(config, len(found.training))
    yield (
        f"Steps: {total} ({each} an epoch, {warm_up(config, total)} of warm-up), {config.batch} samples in a pass, "
        f"{config.accumulation} passes in a step; early stopping after {config.patience} epochs without a gain."
    )
    if every_sample:
        yield f"{'tokens':>7} {'media':>14}  sample"
        for item in found.counts.samples:
            yield f"{item.tokens:>7} {'+'.join(map(str, item.media)):>14}  {item.title}"
    else:
        yield "The tokens of every sample: --verbose."


def _attached(config: TrainConfig, start: AdapterRecord | None) -> Iterator[str]:
    """Where LoRA attaches on this base and, by the same rule, on the published architectures."""
    yield from going_on(start)
    own = attach_report(str(base_folder(config.model)), config.targets, config.rank)
    yield f"LoRA here: {own.line()}"
    yield "The same targets on the published architectures (built without weights):"
    for name in architectures():
        yield f"  {attach_report(name, config.targets, config.rank).line()}"


def _memory(config: TrainConfig, profile: Profile, found: Examined, use_cache: bool) -> Iterator[str]:
    """Estimates for the device at hand, and a sentence where they exceed it."""
    model = sizes(str(base_folder(config.model)))
    device = device_of(config)
    needed = _training(config, model, found, device, use_cache)
    yield f"Memory of training, estimated, on {_named(device)}:"
    yield from (f"  {line}" for line in needed.lines())
    if device.type == "cpu":
        yield "  (besides Python and its libraries)"
    served = inference(
        model,
        form=profile.quantisation,
        dtype=profile.dtype,
        frames=config.frames,
        pixels=config.max_pixels,
        text_tokens=max(row.asked for row in found.rows),
        new_tokens=profile.max_tokens,
        context=CONTEXT if profile.device == "cuda" else 0,
    )
    yield f"Memory of an analysis with base and tuned, estimated, profile {profile.name!r}:"
    yield from (f"  {line}" for line in served.lines())
    there = _there(device)
    if needed.total > there:
        yield (
            f"This is more than {_named(device)} has ({there / GIB:.1f} GB): lower --batch (with more --accumulation), "
            "add --gradient-checkpointing, or choose a smaller base."
        )


def _training(config: TrainConfig, model: Sizes, found: Examined, device: torch.device, use_cache: bool) -> Estimate:
    """The fullest batch of the first epoch's plan, every question asked with cases."""
    lengths = [item.tokens for item in found.counts.samples[: len(found.training)]]
    batches = [[found.rows[i] for i in batch] for batch in plan(lengths, config.batch, config.seed, epoch=0)]
    fullest = max(batches, key=lambda rows: len(rows) * max(row.places for row in rows))
    length, cpu = max(row.places for row in fullest), device.type == "cpu"
    form: Form = "none" if expands(config, model.projections, device) else "nf4"
    dtype = "bfloat16" if config.precision == "bf16" else "float32"
    return training(
        model,
        trained=attach_report(str(base_folder(config.model)), config.targets, config.rank).trained,
        tokens=len(fullest) * length,
        answer_tokens=max(sum(row.answers for row in rows) for rows in batches),
        patches=max(sum(row.patches for row in rows) for rows in batches),
        targets=config.targets,
        rank=config.rank,
        dropout=config.dropout,
        form=form,
        dtype=dtype,
        checkpointing=config.gradient_checkpointing,
        features_cached=use_cache,
        attention=attention_bytes(model, len(fullest), length, dtype) if cpu else 0,
        mask=ELEMENT[dtype] if cpu else 1,
        context=0 if cpu else CONTEXT,
    )


def _named(device: torch.device) -> str:
    return "this CPU" if device.type == "cpu" else torch.cuda.get_device_name(device)


def _there(device: torch.device) -> int:
    """Bytes of memory that ``device`` has: the GPU's, or what is free in this machine."""
    if device.type == "cpu":
        return int(psutil.virtual_memory().available)
    return int(torch.cuda.get_device_properties(device).total_memory)
