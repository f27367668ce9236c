"""Fine-tuning as one call: ``train`` is what the command line and the demo's builder both use."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from services.adapters import RECORD
from services.annotations import MediaKind
from services.errors import Cancelled, HerdLensError, InputError, ResourceError
from services.full_memory import full_memory_told
from services.schema import Frames, Sampling
from services.video import VideoReader
from training import checkpoints
from training.data import Sample
from training.disk import writing
from training.features import FrameReader
from training.loop import Run
from training.outputs import METRICS, Result, write_outputs
from training.precision import settled
from training.preparation import prepare
from training.progress import ProgressLog
from training.settings import TrainConfig


def train(
    config: TrainConfig,
    samples: Sequence[Sample],
    *,
    validation: Sequence[Sample] | None = None,
    references: Sequence[Sample] | None = None,
    vectors: Mapping[str, NDArray[np.float32]] | None = None,
    resume: bool = False,
    use_cache: bool = True,
    report: Callable[[str], None] = print,
    cancelled: threading.Event | None = None,
    begun: Callable[[], None] = lambda: None,
) -> Result:
    """Fine-tune ``config.model`` on ``samples`` and write the adapter folder ``config.output``.

    One process works in a folder at a time. A finished adapter is never trained over: with ``resume`` it is the result,
    without it the folder is refused (InputError). ``validation``: held-out samples (default: a stratified share of
    ``samples``). ``references``: where the cases of the context come from (default: the training samples), ``vectors``
    their and the samples' embeddings by digest. Files are read by services.video with the run's sampling. Raises
    AnnotationError with every problem of the samples before anything is trained; Cancelled after Ctrl-C, SIGTERM or
    ``cancelled``, with all work saved for ``resume``; ResourceError when disk or memory is full, with the last
    checkpoint kept. ``begun`` is called once the folder is this run's, unless it goes on with a checkpoint. How it
    ended is the last line of the run's log.
    """
    config = _settled(config, resume)
    with _alone(config.output):
        finished = _finished(config, resume)
        if finished is not None:
            report(f"The run in {config.output} is finished; there is nothing to go on with.")
            return finished
        if checkpoints.present(config.output) is None:
            begun()
        with _ending_logged(config), full_memory_told(ResourceError, FULL), media_reader(config) as read:
            prepared = prepare(config, samples, validation, references, vectors, read, use_cache, report)
            run = Run(config, prepared, report, cancelled or threading.Event())
            run.start(resume)
            with _interruptible(run.cancelled):
                run.train()
            spared = prepared.examples.features.told()
            if spared:
                report(spared)
            with writing(config.output):
                result = write_outputs(config, prepared.base, run.history(), run.best_weights())
            checkpoints.remove_all(config.output)
            if config.cache is None:
                shutil.rmtree(config.output / "features", ignore_errors=True)
            report(f"Adapter written to {config.output}.")
        return result


def _settled(config: TrainConfig, resume: bool) -> TrainConfig:
    """With the precision that it leaves open: that of the run it goes on with, on whatever machine that was begun."""
    begun = checkpoints.state(config.output) if resume and config.precision == "auto" else None
    return settled(config) if begun is None else replace(config, precision=begun.get("precision", "bf16"))


@contextmanager
def _alone(output: Path) -> Iterator[None]:
    """Two runs in one folder would take each other's checkpoints away."""
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
    lock = FileLock(output / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise InputError(f"Another training is at work in {output}; wait for it, or take another --output.") from error
    try:
        yield
    finally:
        with suppress(OSError):
            os.unlink(lock.lock_file)
        lock.release()


def _finished(config: TrainConfig, resume: bool) -> Result | None:
    """What a finished run left in the output folder, for ``resume``; InputError where it would be trained over."""
    if not (config.output / RECORD).is_file() or checkpoints.present(config.output):
        return None
    if not resume:
        raise InputError(f"A finished adapter lies in {config.output}; take another --output, or delete it.")
    try:
        return Result(config.output, json.loads((config.output / METRICS).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise InputError(f"{config.output / METRICS} cannot be read; take another --output.") from error


FULL = (
    "The GPU ran out of memory; take a smaller --batch with more --accumulation, --gradient-checkpointing or a profile "
    "with fewer pixels, and start again (--dry-run tells what is needed)."
)


@contextmanager
def _ending_logged(config: TrainConfig) -> Iterator[None]:
    """The log's last line, whatever happens."""
    log = ProgressLog(config.output)
    try:
        yield
    except (Cancelled, KeyboardInterrupt) as error:
        log.end("stopped", str(error) or "Stopped at once; the last checkpoint, if there was one, is kept.")
        raise
    except HerdLensError as error:
        log.end("failed", str(error), getattr(error, "problems", ()))
        raise
    except BaseException as error:
        log.end("failed", f"An internal error: {type(error).__name__}: {error}")
        raise
    log.end("done", f"Adapter written to {config.output}.")


@contextmanager
def media_reader(config: TrainConfig) -> Iterator[FrameReader]:
    """Reads a file's pictures as serving does: a clip's default window with the run's sampling, an image as it is."""
    sampling = Sampling(frames=config.frames, window_s=config.window_s)
    reader = VideoReader()
    never = threading.Event()

    def read(path: Path, kind: MediaKind) -> Frames:
        if kind == "image":
            return reader.open_still(str(path), sampling, never)[1]
        return reader.open(str(path), sampling, None, never)[1]

    try:
        yield read
    finally:
        reader.close()


@contextmanager
def _interruptible(cancelled: threading.Event) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM asks the run to save and stop, the second one stops it at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        if cancelled.is_set():
            raise KeyboardInterrupt
        cancelled.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
