"""Fine-tune a Qwen-VL base on annotated clips: ``python training/Qlora_train.py --data FILE``.

Reads the source's annotation JSON, trains a LoRA adapter on the NF4 form of the base, and writes an adapter folder
that ``python -m agent adapters add`` takes. The defaults below may be edited; each is also a flag (``--help``).
Exit status: 0 done, 2 the data or the call is wrong (all problems are listed, nothing was trained), 3 the model is
missing or failed, 130 stopped by Ctrl-C with everything saved (go on with ``--resume``).
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # run as a file, Python puts this folder there instead

from services.errors import Cancelled, HerdLensError, InputError  # noqa: E402  (needs the path above)

DATA_FILE = ""
"""Annotation JSON; its media paths resolve against its folder. Empty: give --data."""
PROFILE = "demo"
"""Base model, frames and pixel budget come from this profile, so that training sees what serving shows."""
MODEL = ""
"""Another base than the profile's: a folder or a hub id that is already on this machine."""
OUTPUT = "runs/mounting"
NAME = "mounting"
TASK = "mounting"
TARGETS = "language"
RANK = 16
ALPHA = 32
DROPOUT = 0.05
EPOCHS = 6
BATCH = 16
ACCUMULATION = 1
LEARNING_RATE = 2e-3
"""Right for the demo model; real bases want about 2e-4."""
WARMUP_SHARE = 0.05
CLIP_NORM = 1.0
WEIGHT_DECAY = 0.0
PATIENCE = 3
VALIDATION_SHARE = 0.1
BARE_SHARE = 0.5
CONTEXT = "mixed"
CONTEXT_SHARE = 0.5
CONTEXT_NEIGHBOURS = 8
MAX_LENGTH = 2048
PRECISION = "bf16"
DEVICE = "auto"
EXPAND = "auto"
GRADIENT_CHECKPOINTING = False
SAVE_EVERY = 200
SEED = 0


def main(
    data: Annotated[str, typer.Option(help="Annotation JSON (list of conversations about clips).")] = DATA_FILE,
    model: Annotated[str, typer.Option(help="Base model: folder or hub id; default the profile's.")] = MODEL,
    output: Annotated[Path, typer.Option(help="Folder of the adapter and, meanwhile, of checkpoints.")] = Path(OUTPUT),
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint in the output folder.")
    ] = False,
    profile: Annotated[str, typer.Option(help="Profile whose base, frames and pixel budget are used.")] = PROFILE,
    name: Annotated[str, typer.Option(help="Name of the adapter.")] = NAME,
    task: Annotated[str, typer.Option(help="Task written into its record.")] = TASK,
    media_root: Annotated[Path | None, typer.Option(help="Folder that media paths may also lie in.")] = None,
    vectors: Annotated[Path | None, typer.Option(help="Safetensors: clip digest to vector, for similar cases.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Keep vision features here for later runs.")] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Compute vision features anew each time.")] = False,
    targets: Annotated[str, typer.Option(help="What LoRA attaches to: language.")] = TARGETS,
    rank: Annotated[int, typer.Option()] = RANK,
    alpha: Annotated[int, typer.Option()] = ALPHA,
    dropout: Annotated[float, typer.Option()] = DROPOUT,
    epochs: Annotated[int, typer.Option()] = EPOCHS,
    max_steps: Annotated[int | None, typer.Option(help="Stop after so many steps.")] = None,
    batch: Annotated[int, typer.Option(help="Clips in one pass.")] = BATCH,
    accumulation: Annotated[int, typer.Option(help="Passes that make one step.")] = ACCUMULATION,
    learning_rate: Annotated[float, typer.Option()] = LEARNING_RATE,
    warmup_share: Annotated[float, typer.Option(help="Share of the steps in which the rate rises.")] = WARMUP_SHARE,
    clip_norm: Annotated[float, typer.Option(help="Largest norm of a step's gradient.")] = CLIP_NORM,
    weight_decay: Annotated[float, typer.Option()] = WEIGHT_DECAY,
    patience: Annotated[int, typer.Option(help="Epochs without a better validation loss before stopping.")] = PATIENCE,
    validation_share: Annotated[float, typer.Option(help="Share of the clips held out.")] = VALIDATION_SHARE,
    bare_share: Annotated[
        float, typer.Option(help="Weight of the bare verdict against reason + verdict.")
    ] = BARE_SHARE,
    context: Annotated[str, typer.Option(help="Reference cases: off, contrastive or mixed.")] = CONTEXT,
    context_share: Annotated[float, typer.Option(help="How often mixed also asks with cases.")] = CONTEXT_SHARE,
    context_neighbours: Annotated[int, typer.Option(help="With --vectors: how near cases are.")] = CONTEXT_NEIGHBOURS,
    max_length: Annotated[int, typer.Option(help="Most tokens of one question with its answer.")] = MAX_LENGTH,
    precision: Annotated[str, typer.Option(help="bf16 or fp32.")] = PRECISION,
    gradient_checkpointing: Annotated[bool, typer.Option(help="Less memory, slower.")] = GRADIENT_CHECKPOINTING,
    expand: Annotated[str, typer.Option(help="Hold NF4 weights dequantised: auto (on CPU), on, off.")] = EXPAND,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = SAVE_EVERY,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = DEVICE,
    seed: Annotated[int, typer.Option()] = SEED,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show where an internal error came from.")] = False,
) -> None:
    """Fine-tune a Qwen-VL base on annotated clips (QLoRA) and write an adapter folder."""
    given = {key: value for key, value in locals().items() if key in _PASSED_ON}
    try:
        _run(data, profile, model, output, cache, media_root, vectors, resume, not no_cache, given)
    except HerdLensError as error:
        for line in (*getattr(error, "problems", ()), str(error)):
            print(line, file=sys.stderr)
        raise typer.Exit(error.exit_status) from None
    except KeyboardInterrupt:
        print("Stopped; the last checkpoint, if there was one, is kept.", file=sys.stderr)
        raise typer.Exit(Cancelled.exit_status) from None
    except Exception as error:
        if verbose:
            raise
        print(f"An internal error: {type(error).__name__}: {error} (--verbose shows where).", file=sys.stderr)
        raise typer.Exit(1) from None


def _run(
    data: str,
    profile: str,
    model: str,
    output: Path,
    cache: Path | None,
    media_root: Path | None,
    vectors: Path | None,
    resume: bool,
    use_cache: bool,
    given: dict[str, Any],
) -> None:
    """Check the cheap things first: a wrong flag or entry is told before torch is loaded."""
    from training.data import from_annotations
    from training.settings import from_profile

    if not data:
        raise InputError("Which annotations? Give --data FILE or set DATA_FILE at the top of this script.")
    config = from_profile(profile, model or None, output=output, cache=cache, **given)
    samples = from_annotations(Path(data), media_root)
    near = _vectors(vectors)

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it reports optional kernels that are not needed
    from training.trainer import train

    train(config, samples, vectors=near, resume=resume, use_cache=use_cache, report=_say)


_PASSED_ON = frozenset(
    {"name", "task", "targets", "rank", "alpha", "dropout", "epochs", "max_steps", "batch", "accumulation"}
    | {"learning_rate", "warmup_share", "clip_norm", "patience", "validation_share", "bare_share", "context"}
    | {"context_share", "max_length", "precision", "gradient_checkpointing", "device", "seed"}
    | {"weight_decay", "context_neighbours", "expand", "save_every"}
)
"""Flags that are settings of the run under the same name."""


def _say(line: str) -> None:
    print(line, flush=True)


def _vectors(file: Path | None) -> Any:
    """Digest to vector from a safetensors file."""
    if file is None:
        return None
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise InputError(f"The vectors file {file} cannot be read; give a safetensors file.") from error


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    app()
