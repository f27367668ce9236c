"""The run: prepare, train, validate, save. ``train`` is what the command line and the demo's builder both call."""

from __future__ import annotations

import math
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from services.errors import AnnotationError, Cancelled, InputError, ResourceError
from services.schema import Frames, Sampling, digest_of
from training import checkpoints
from training.base import Base, load_base, load_dialog
from training.collator import Collator
from training.context import Cases
from training.data import Sample, conflicts, split
from training.features import CachedFeatures, FrameReader, LiveFeatures, Tower, cache_folder
from training.outputs import Result, write_outputs
from training.questions import Questions
from training.settings import TrainConfig
from training.steps import Examples, losses, plan
from training.validation import Validation, validate

Report = Callable[[str], None]
_NOT_BINDING = ("output", "save_every", "cache", "patience", "name")
"""Settings that may change between an interrupted run and its resumption."""


@dataclass(slots=True)
class _Progress:
    """Counters of a run; all of it goes through JSON. ``step`` counts optimizer steps, ``epoch`` and ``position``
    (batches of that epoch) say where the next one starts; ``rows`` become loss.csv."""

    step: int = 0
    epoch: int = 0
    position: int = 0
    best_loss: float | None = None
    best_epoch: int | None = None
    stale: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0


def train(
    config: TrainConfig,
    samples: Sequence[Sample],
    *,
    validation: Sequence[Sample] | None = None,
    references: Sequence[Sample] | None = None,
    vectors: Mapping[str, NDArray[np.float32]] | None = None,
    read: FrameReader | None = None,
    resume: bool = False,
    use_cache: bool = True,
    report: Report = print,
    cancelled: threading.Event | None = None,
) -> Result:
    """Fine-tune ``config.model`` on ``samples`` and write the adapter folder ``config.output``.

    ``validation``: held-out samples (default: a stratified share of ``samples``). ``references``: where the cases of
    the context come from (default: the training samples), ``vectors`` their and the samples' embeddings by digest.
    ``read`` opens a sample's file (default: services.video by the run's sampling). Raises AnnotationError with every
    problem of the samples before anything is trained; Cancelled after Ctrl-C or ``cancelled``, with all work saved.
    """
    problems = conflicts(samples)
    if problems:
        raise AnnotationError("The samples cannot be trained on.", tuple(problems))
    torch.manual_seed(config.seed)
    dialog = load_dialog(config)
    base = load_base(config, dialog)
    for line in base.describe():
        report(line)

    tower_dtype = base.dtype
    tower = Tower(base.model, dialog, read or video_reader(config), tower_dtype)
    training, held = (list(samples), list(validation)) if validation is not None else split(
        samples, config.validation_share, config.seed
    )
    _refuse_overlap(training, held)
    everything = [*training, *held]
    features: CachedFeatures | LiveFeatures = LiveFeatures(tower)
    if use_cache:
        root = config.cache or config.output / "features"
        features = CachedFeatures(cache_folder(root, base.model, dialog, tower_dtype), tower)
        begun = time.perf_counter()
        problems = features.fill(everything, lambda items: tqdm(items, desc="vision features", unit="clip", leave=False))
        if problems:
            raise AnnotationError(f"{len(problems)} clips cannot be used.", tuple(problems))
        if features.misses:
            report(f"Vision features of {features.misses} clips computed in {time.perf_counter() - begun:.1f} s.")

    cases = Cases(references or training, seed=config.seed, neighbours=config.context_neighbours, vectors=vectors)
    if config.context != "off" and any(s.label for s in everything) and not cases.available:
        raise InputError("Reference cases need two labelled clips with a reason of each label; add some or use --context off.")
    tokenizer = dialog.tokenizer
    collator = Collator(
        base.model, tokenizer.pad_token_id, base.model.config.video_token_id, base.model.config.image_token_id
    )
    examples = Examples(config, Questions(dialog, config.bare_share), collator, features, cases)
    lengths = _lengths(examples, everything)
    problems = [
        f"{sample.title}: {length} tokens, but at most {config.max_length} are trained on; shorten it or raise max_length"
        for sample, length in zip(everything, lengths, strict=True)
        if length > config.max_length
    ]
    if problems:
        raise AnnotationError(f"{len(problems)} samples are too long.", tuple(problems))
    report(f"{len(training)} samples to train on, {len(held)} held out; longest {max(lengths)} tokens.")

    run = _Run(config, base, examples, training, held, lengths, report, cancelled or threading.Event())
    run.start(resume)
    with _interruptible(run.cancelled):
        run.train()
    result = write_outputs(config, base, run.history(), run.best_weights())
    checkpoints.remove_all(config.output)
    if use_cache and config.cache is None:
        shutil.rmtree(config.output / "features", ignore_errors=True)
    report(f"Adapter written to {config.output}.")
    return result


class _Run:
    """State of one run between its first and last step."""

    def __init__(
        self,
        config: TrainConfig,
        base: Base,
        examples: Examples,
        training: Sequence[Sample],
        held: Sequence[Sample],
        lengths: Sequence[int],
        report: Report,
        cancelled: threading.Event,
    ) -> None:
        self.config = config
        self.base = base
        self.examples = examples
        self.training = training
        self.held = held
        self.lengths = lengths[: len(training)]
        self.held_order = plan(lengths[len(training) :], config.batch, config.seed, epoch=0)
        self.report = report
        self.cancelled = cancelled
        self.progress = _Progress()
        self.names = checkpoints.trained(base.peft)
        self.best: dict[str, torch.Tensor] = {}
        self.optimizer = torch.optim.AdamW(
            self.names.values(), lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.99)
        )
        per_epoch = math.ceil(math.ceil(len(training) / config.batch) / config.accumulation)
        self.total = min(per_epoch * config.epochs, config.max_steps or per_epoch * config.epochs)
        self.fingerprint = digest_of(
            [
                {key: value for key, value in asdict(config).items() if key not in _NOT_BINDING},
                [[s.digest, s.label, s.reason, [t.text for t in s.conversations]] for s in (*training, *held)],
            ]
        )

    def start(self, resume: bool) -> None:
        """Begin anew, or where the newest checkpoint stands."""
        self.config.output.mkdir(parents=True, exist_ok=True)
        found = checkpoints.latest(self.config.output) if resume else None
        if found is None:
            checkpoints.remove_all(self.config.output)
            torch.manual_seed(self.config.seed)
            if resume:
                self.report("There is no checkpoint to resume from; starting anew.")
            return
        if found.state["fingerprint"] != self.fingerprint:
            raise InputError(
                f"The checkpoint in {self.config.output} was made with other settings or data; "
                "use the same again, or start anew without --resume."
            )
        self.progress = _Progress(**found.state["progress"])
        self.best = dict(found.best)
        with torch.no_grad():
            for name, parameter in self.names.items():
                parameter.copy_(found.weights[name])
        checkpoints.load_optimizer(self.optimizer, self.names, found.optimizer)
        checkpoints.load_rng(found.rng)
        self.report(f"Resumed after step {self.progress.step} of {self.total}.")

    def train(self) -> None:
        """All remaining epochs; returns early when validation stops improving."""
        state = self.progress
        self.base.model.train()
        with tqdm(total=self.total, initial=state.step, unit="step", desc="training") as bar:
            while state.step < self.total and not self._stopped():
                self._epoch(bar)
                self._validate(bar)
                state.epoch, state.position = state.epoch + 1, 0
                self._save()

    def history(self) -> Mapping[str, Any]:
        """What is written as metrics: counters and rows."""
        return asdict(self.progress) | {
            "samples": len(self.training),
            "held_out": len(self.held),
            "total_steps": self.total,
        }

    def best_weights(self) -> Mapping[str, torch.Tensor]:
        """Of the epoch with the lowest validation loss; the last ones without validation."""
        return self.best or {name: parameter.detach().cpu() for name, parameter in self.names.items()}

    def _stopped(self) -> bool:
        return bool(self.held) and self.progress.stale >= self.config.patience

    def _epoch(self, bar: Any) -> None:
        state, config = self.progress, self.config
        batches = plan(self.lengths, config.batch, config.seed, state.epoch)
        while state.position < len(batches) and state.step < self.total:
            group = batches[state.position : state.position + config.accumulation]
            begun = time.perf_counter()
            row = self._step(group)
            row["samples_per_s"] = round(sum(map(len, group)) / (time.perf_counter() - begun), 2)
            state.seconds += time.perf_counter() - begun
            state.position += len(group)
            state.step += 1
            state.rows.append({"step": state.step, "epoch": state.epoch, **row})
            bar.update(1)
            recent = [r["loss"] for r in state.rows[-20:] if "loss" in r]
            bar.set_postfix(loss=f"{sum(recent) / len(recent):.4f}", clips_s=row["samples_per_s"], refresh=False)
            if self.cancelled.is_set():
                self._save()
                raise Cancelled(f"Stopped after step {state.step} of {self.total}; go on with --resume.")
            if state.step % config.save_every == 0:
                self._save()

    def _step(self, group: Sequence[Sequence[int]]) -> dict[str, Any]:
        rate = self._rate()
        for settings in self.optimizer.param_groups:
            settings["lr"] = rate
        total = 0.0
        for indices in group:
            batch = self.examples.batch([self.training[i] for i in indices], self.progress.epoch)
            loss = (losses(self.base, batch) * batch.weight.to(self.base.device)).sum() / len(group)
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        norm = torch.nn.utils.clip_grad_norm_(self.names.values(), self.config.clip_norm)
        if not math.isfinite(total) or not math.isfinite(float(norm)):
            raise ResourceError(
                f"The loss became {total} at step {self.progress.step + 1}; lower the learning rate and start again."
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return {"loss": total, "learning_rate": rate, "grad_norm": float(norm)}

    def _rate(self) -> float:
        """Linear warm-up, then a half cosine to zero."""
        warm = max(1, round(self.total * self.config.warmup_share))
        step = self.progress.step
        if step < warm:
            return self.config.learning_rate * (step + 1) / warm
        done = (step - warm) / max(1, self.total - warm)
        return self.config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done))

    def _validate(self, bar: Any) -> None:
        state = self.progress
        if not self.held:
            return
        found: Validation = validate(self.base, self.examples, self.held, self.held_order)
        state.rows.append(
            {"step": state.step, "epoch": state.epoch, "validation_loss": found.loss}
            | {f"balanced_accuracy_{mode}": value for mode, value in found.balanced.items()}
        )
        bar.clear()
        self.report(f"Epoch {state.epoch + 1}, step {state.step}: {found.text()}")
        if state.best_loss is None or found.loss < state.best_loss - 1e-5:
            state.best_loss, state.best_epoch, state.stale = found.loss, state.epoch, 0
            self.best = {name: parameter.detach().cpu().clone() for name, parameter in self.names.items()}
        else:
            state.stale += 1

    def _save(self) -> None:
        checkpoints.save(
            self.config.output,
            self.progress.step,
            checkpoints.Checkpoint(
                state={"fingerprint": self.fingerprint, "progress": asdict(self.progress)},
                weights={name: parameter.detach().cpu() for name, parameter in self.names.items()},
                best=self.best,
                optimizer=checkpoints.optimizer_tensors(self.optimizer, self.names),
                rng=checkpoints.rng_tensors(),
            ),
        )


def video_reader(config: TrainConfig) -> FrameReader:
    """Reads a file's frames as serving does: the clip's default window, the run's sampling."""
    sampling = Sampling(frames=config.frames, window_s=config.window_s)

    def read(path: Path) -> Frames:
        from services.video import VideoReader

        return VideoReader().open(str(path), sampling, None, threading.Event())[1]

    return read


def _lengths(examples: Examples, samples: Sequence[Sample]) -> list[int]:
    """Tokens of each sample's longest branch, asked without context: enough to form batches and to find overlong
    answers. Cases add a bounded number (agent.prompts.DESCRIPTION_LIMIT)."""
    lengths = []
    for sample in samples:
        expansion = examples.features.get([sample])[0].expansion
        branches = examples.questions.branches(sample, expansion, [()])
        lengths.append(max(len(branch.ids) for branch in branches))
    return lengths


def _refuse_overlap(training: Sequence[Sample], held: Sequence[Sample]) -> None:
    known = {sample.digest for sample in training}
    both = sorted({sample.title for sample in held if sample.digest in known})
    if both:
        raise AnnotationError(
            "Training and validation share clips.",
            tuple(f"{title}: the same content stands in training and validation; remove one" for title in both),
        )


@contextmanager
def _interruptible(cancelled: threading.Event) -> Iterator[None]:
    """The first Ctrl-C asks the run to save and stop, the second one stops it at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        if cancelled.is_set():
            raise KeyboardInterrupt
        cancelled.set()

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
