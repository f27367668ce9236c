"""The loop of one run: steps, validation after each epoch, early stopping, checkpoints."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import torch
from tqdm import tqdm

from services.errors import Cancelled, InputError, ResourceError
from services.schema import digest_of
from services.training_runs import START
from training import checkpoints
from training.preparation import Prepared
from training.progress import ProgressLog
from training.settings import TrainConfig
from training.steps import losses, plan, rate, step_counts
from training.validation import Validation, validate

_NOT_BINDING = ("output", "save_every", "cache", "patience", "name", "start")
"""Settings that may change between an interrupted run and its resumption; of ``start`` the weights bind."""


@dataclass(slots=True)
class _Progress:
    """Counters of a run; all of it goes through JSON. ``step`` counts optimizer steps, ``epoch`` and ``position``
    (batches of that epoch) say where the next one starts; ``rows`` become loss.csv, the one of step 0 is the base;
    ``seconds`` of steps and validations."""

    step: int = 0
    epoch: int = 0
    position: int = 0
    best_loss: float | None = None
    best_epoch: int | None = None
    stale: int = 0
    finished: bool = False
    rows: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0


class Run:
    """State of one run between its first and last step."""

    def __init__(
        self,
        config: TrainConfig,
        prepared: Prepared,
        report: Callable[[str], None],
        cancelled: threading.Event,
    ) -> None:
        training, held = prepared.training, prepared.held
        self.config = config
        self.base = prepared.base
        self.started_from = prepared.start
        self.examples = prepared.examples
        self.training = training
        self.held = held
        self.lengths = prepared.lengths[: len(training)]
        self.held_order = plan(prepared.lengths[len(training) :], config.batch, config.seed, epoch=0)
        self.report = report
        self.cancelled = cancelled
        self.log = ProgressLog(config.output)
        self.progress = _Progress()
        self.names = checkpoints.trained(self.base.peft)
        self.best: dict[str, torch.Tensor] = {}
        self.optimizer = torch.optim.AdamW(
            self.names.values(), lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.99)
        )
        self.total = step_counts(config, len(training))[1]
        self.fingerprint = digest_of(
            [
                {key: value for key, value in asdict(config).items() if key not in _NOT_BINDING},
                [[s.digest, s.label, s.reason, [t.text for t in s.conversations]] for s in (*training, *held)],
                [prepared.weights, prepared.examples.cases.digest],
                *([prepared.start.digest] if prepared.start else ()),
            ]
        )

    def start(self, resume: bool) -> None:
        """Begin anew, or where the newest checkpoint stands."""
        found = checkpoints.latest(self.config.output) if resume else None
        if not resume and checkpoints.present(self.config.output):
            raise InputError(
                f"An unfinished run lies in {self.config.output}; use --resume, another folder, or delete it."
            )
        if found is None:
            torch.manual_seed(self.config.seed)
            if resume:
                self.report("There is no checkpoint to resume from; starting anew.")
            self._begin_log()
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
        self._begin_log()

    def train(self) -> None:
        """All remaining epochs; returns early when validation stops improving."""
        state = self.progress
        self.base.model.train()
        seldom = 0.2 if sys.stderr.isatty() else 20.0  # seconds between lines: a log file needs few
        if state.step == 0 and not state.rows:
            self._measure_base()
        with tqdm(total=self.total, initial=state.step, unit="step", desc="training", mininterval=seldom) as bar:
            while not state.finished:
                self._epoch(bar)
                self._validate(bar)
                state.epoch, state.position = state.epoch + 1, 0
                state.finished = state.step >= self.total or self._stale()
                self._save()

    def history(self) -> Mapping[str, Any]:
        """What is written as metrics: counters and rows. ``vision_seconds``: what filling the cache took."""
        return asdict(self.progress) | {
            "samples": len(self.training),
            "held_out": len(self.held),
            "training_strata": dict(sorted(Counter(sample.stratum for sample in self.training).items())),
            "held_out_strata": dict(sorted(Counter(sample.stratum for sample in self.held).items())),
            "vision_seconds": self.examples.features.seconds,
            "total_steps": self.total,
            "started_from": self._start(),
        }

    def _start(self) -> dict[str, str] | None:
        """The adapter that the run goes on from."""
        if (start := self.started_from) is None:
            return None
        return {"name": start.name, "digest": start.digest, "created_at": start.created_at}

    def _begin_log(self) -> None:
        """First line of the log, and the lines up to the checkpoint: what came after it is done again."""
        head = {
            "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "resumed_at_step": self.progress.step,
            "total_steps": self.total,
            "samples": len(self.training),
            "held_out": len(self.held),
            "settings": asdict(self.config),
        }
        self.log.begin(head, self.progress.rows)

    def _note(self, row: dict[str, Any], begun: float) -> None:
        """Add ``row`` to history and log; its work began at ``begun``."""
        state = self.progress
        state.seconds += time.perf_counter() - begun
        timed = {"step": state.step, "epoch": state.epoch, **row, "seconds": round(state.seconds, 2)}
        if state.step:
            timed["left_s"] = round(state.seconds / state.step * (self.total - state.step), 1)
        state.rows.append(timed)
        self.log.row(timed)

    def best_weights(self) -> Mapping[str, torch.Tensor]:
        """Of the epoch with the lowest validation loss; the last ones without validation."""
        return self.best or {name: parameter.detach().cpu() for name, parameter in self.names.items()}

    def _stale(self) -> bool:
        return bool(self.held) and self.progress.stale >= self.config.patience

    def _epoch(self, bar: Any) -> None:
        state, config = self.progress, self.config
        batches = plan(self.lengths, config.batch, config.seed, state.epoch)
        while state.position < len(batches) and state.step < self.total:
            group = batches[state.position : state.position + config.accumulation]
            begun = time.perf_counter()
            row = self._step(group)
            row["samples_per_s"] = round(sum(map(len, group)) / (time.perf_counter() - begun), 2)
            state.position += len(group)
            state.step += 1
            self._note(row, begun)
            bar.update(1)
            recent = [r["loss"] for r in state.rows[-20:] if "loss" in r]
            bar.set_postfix(loss=f"{sum(recent) / len(recent):.4f}", clips_s=row["samples_per_s"], refresh=False)
            if self.cancelled.is_set():
                self._save()
                raise Cancelled(f"Stopped after step {state.step} of {self.total}; go on with --resume.")
            if state.step % config.save_every == 0:
                self._save()

    def _step(self, group: Sequence[Sequence[int]]) -> dict[str, Any]:
        now = rate(self.config, self.progress.step, self.total)
        for settings in self.optimizer.param_groups:
            settings["lr"] = now
        total = 0.0
        for indices in group:
            batch = self.examples.batch([self.training[i] for i in indices], self.progress.epoch)
            share = len(indices) / sum(map(len, group))  # every sample counts the same, also those of a short pass
            loss = (losses(self.base, batch) * batch.weight.to(self.base.device)).sum() * share
            loss.backward()
            total += float(loss.detach())
        norm = torch.nn.utils.clip_grad_norm_(self.names.values(), self.config.clip_norm)
        if not math.isfinite(total) or not math.isfinite(float(norm)):
            raise ResourceError(
                f"The loss became {total} at step {self.progress.step + 1}; lower the learning rate and start again."
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return {"loss": total, "learning_rate": now, "grad_norm": float(norm)}

    def _measure_base(self) -> None:
        """The held-out clips before the first step: what the base makes of them, measured as the adapter will be. A new
        adapter changes nothing yet; one that the run goes on from is left out, and then measured by itself."""
        if not self.held:
            return
        begun = time.perf_counter()
        with self.base.peft.disable_adapter() if self.started_from else nullcontext():
            found = self._measured()
        row = _row(found)
        self.report(f"The base on the held-out clips: {found.text()}")
        if self.started_from:
            found = self._measured()
            row |= {f"{START}{key}": value for key, value in _row(found).items()}
            self.report(f"The adapter that it goes on from: {found.text()}")
        self._note(row, begun)

    def _measured(self) -> Validation:
        return validate(self.base, self.examples, self.held, self.held_order)

    def _validate(self, bar: Any) -> None:
        state = self.progress
        if not self.held:
            return
        begun = time.perf_counter()
        found = self._measured()
        self._note(_row(found), begun)
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
                state={
                    "fingerprint": self.fingerprint,
                    "precision": self.config.precision,
                    "progress": asdict(self.progress),
                },
                weights={name: parameter.detach().cpu() for name, parameter in self.names.items()},
                best=self.best,
                optimizer=checkpoints.optimizer_tensors(self.optimizer, self.names),
                rng=checkpoints.rng_tensors(),
            ),
        )


def _row(found: Validation) -> dict[str, float]:
    """The values of a validation by their columns."""
    balanced = {f"balanced_accuracy_{mode}": value for mode, value in found.balanced.items()}
    return {"validation_loss": found.loss} | balanced
