"""Fine-tune a Qwen-VL base on annotated clips: ``python training/Qlora_train.py --data FILE``.

Reads the source's annotation JSON, trains a LoRA adapter on the NF4 form of the base, and writes an adapter folder
that ``python -m agent adapters add`` takes. ``--dry-run`` tells what would be done and what memory it needs. The
defaults below may be edited; each is also a flag (``--help``) and a key of a YAML file (``--config``); flags win over
the file.
Exit status: 0 done, 2 the data or the call is wrong (all problems are listed, nothing was trained), 3 the model is
missing or failed, 130 stopped by Ctrl-C with everything saved (go on with ``--resume``).
"""

from __future__ import annotations

import logging
import sys
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # run as a file, Python puts this folder there instead

from services.errors import AnnotationError, Cancelled, HerdLensError, InputError  # noqa: E402  (needs the path above)

DATA_FILE = ""
"""Annotation JSON; its media paths resolve against its folder. Empty: give --data."""
PROFILE = "demo"
"""Base model, frames and pixel budget come from this profile, so that training sees what serving shows."""
MODEL = ""
"""Another base than the profile's: a folder or a hub id that is already on this machine."""
OUTPUT = "runs/mounting"
NAME = "mounting"
TASK = "mounting"
START = ""
"""A finished adapter's folder to go on from, with new clips or another way of asking. Empty: random weights."""
TARGETS = "language"
"""language, vision or all; only adapters of the language side can be served (here, and by vLLM)."""
RANK: int | None = None
ALPHA: int | None = None
"""None: 16 and 32, or those of the adapter that is gone on from."""
DROPOUT = 0.05
EPOCHS = 6
MAX_STEPS: int | None = None
BATCH: int | None = None
ACCUMULATION: int | None = None
LEARNING_RATE: float | None = None
GRADIENT_CHECKPOINTING: bool | None = None
MAX_LENGTH: int | None = None
"""None is the profile's (services/profiles.toml): batches of 16 at 2e-3 for the demo model; for real bases 16 passes of
one clip at 2e-4 with checkpointing, which fits 8 GB; and as many tokens as a clip of the profile's size needs."""
WARMUP_SHARE = 0.05
CLIP_NORM = 1.0
WEIGHT_DECAY = 0.0
PATIENCE = 3
VALIDATION_SHARE = 0.1
BARE_SHARE = 0.5
CONTEXT = "mixed"
CONTEXT_SHARE = 0.5
CONTEXT_NEIGHBOURS = 8
PRECISION = "auto"
DEVICE = "auto"
EXPAND = "auto"
SAVE_EVERY = 200
SEED = 0


def _from_file(context: typer.Context, file: Path | None) -> Path | None:
    """Make the values of ``file`` the defaults of all flags; click's own way, so that flags win."""
    if file is not None:
        from training.run_file import read

        known = {str(parameter.name) for parameter in context.command.params} - _NOT_SETTINGS
        context.default_map = read(file, known)
    return file


def main(
    config: Annotated[
        Path | None, typer.Option(is_eager=True, callback=_from_file, help="YAML file of settings; flags win over it.")
    ] = None,
    data: Annotated[str, typer.Option(help="Annotation JSON (list of conversations about clips).")] = DATA_FILE,
    model: Annotated[str, typer.Option(help="Base model: folder or hub id; default the profile's.")] = MODEL,
    output: Annotated[Path, typer.Option(help="Folder of the adapter and, meanwhile, of checkpoints.")] = Path(OUTPUT),
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint in the output folder.")
    ] = False,
    profile: Annotated[str, typer.Option(help="Profile whose base, frames and pixel budget are used.")] = PROFILE,
    name: Annotated[str, typer.Option(help="Name of the adapter.")] = NAME,
    task: Annotated[str, typer.Option(help="mounting or quality; written into its record.")] = TASK,
    media_root: Annotated[Path | None, typer.Option(help="Folder that media paths may also lie in.")] = None,
    vectors: Annotated[Path | None, typer.Option(help="Safetensors: clip digest to vector, for similar cases.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Keep vision features here for later runs.")] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Compute vision features anew each time.")] = False,
    start: Annotated[Path | None, typer.Option(help="Folder of a finished adapter to go on from.")] = (
        Path(START) if START else None
    ),
    targets: Annotated[str, typer.Option(help="What LoRA attaches to: language, vision, all.")] = TARGETS,
    rank: Annotated[int | None, typer.Option(help="Default 16, or that of --start.")] = RANK,
    alpha: Annotated[int | None, typer.Option(help="Default 32, or that of --start.")] = ALPHA,
    dropout: Annotated[float, typer.Option()] = DROPOUT,
    epochs: Annotated[int, typer.Option()] = EPOCHS,
    max_steps: Annotated[int | None, typer.Option(help="Stop after so many steps.")] = MAX_STEPS,
    batch: Annotated[int | None, typer.Option(help="Clips in one pass.")] = BATCH,
    accumulation: Annotated[int | None, typer.Option(help="Passes that make one step.")] = ACCUMULATION,
    learning_rate: Annotated[float | None, typer.Option(help="At its highest.")] = LEARNING_RATE,
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
    max_length: Annotated[int | None, typer.Option(help="Most tokens of a question with its answer.")] = MAX_LENGTH,
    precision: Annotated[str, typer.Option(help="bf16, fp32 or auto: what is faster here.")] = PRECISION,
    gradient_checkpointing: Annotated[bool | None, typer.Option(help="Less memory, slower.")] = GRADIENT_CHECKPOINTING,
    expand: Annotated[str, typer.Option(help="Hold NF4 weights dequantised: auto (on CPU), on, off.")] = EXPAND,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = SAVE_EVERY,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = DEVICE,
    seed: Annotated[int, typer.Option()] = SEED,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be done and needed; train nothing.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show where an internal error came from; list every sample.")
    ] = False,
) -> None:
    """Fine-tune a Qwen-VL base on annotated clips (QLoRA) and write an adapter folder."""
    given = {key: value for key, value in locals().items() if key not in _NOT_SETTINGS}
    try:
        _run(given, resume=resume, dry=dry_run, verbose=verbose)
    except (HerdLensError, KeyboardInterrupt):
        raise
    except Exception as error:
        if verbose:
            raise
        raise HerdLensError(
            f"An internal error: {type(error).__name__}: {' '.join(str(error).split())} (--verbose shows where)."
        ) from error


def _run(given: dict[str, Any], *, resume: bool, dry: bool, verbose: bool) -> None:
    """Check the cheap things first: a wrong flag or entry is told before torch is loaded."""
    from services.adapters import validate
    from services.settings import profile
    from training.data import collect
    from training.settings import TrainConfig, from_profile

    if not given["data"]:
        raise InputError("Which annotations? Give --data FILE or set DATA_FILE at the top of this script.")
    own = {key: value for key, value in given.items() if key in {field.name for field in fields(TrainConfig)}}
    if own["start"] is not None:
        known = validate(own["start"])
        usual = {"rank": known.rank, "alpha": max(1, int(known.alpha))}
        own |= {key: value if own[key] is None else own[key] for key, value in usual.items()}
    config = from_profile(given["profile"], **own | {"model": given["model"] or None})
    samples, problems = collect(Path(given["data"]), given["media_root"])
    vectors = _vectors(given["vectors"])

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it reports optional kernels that are not needed
    from training.dry_run import dry_run, examine
    from training.precision import settled
    from training.progress import ProgressLog
    from training.run_file import write
    from training.trainer import media_reader, train

    cached = not given["no_cache"]
    if dry:
        with media_reader(config) as read:
            dry_run(
                config,
                profile(given["profile"]),
                samples,
                vectors,
                read,
                problems=problems,
                use_cache=cached,
                every_sample=verbose,
                report=_say,
            )
        return
    if problems:
        with media_reader(config) as read:
            problems = examine(config, samples, vectors, read, problems).problems
        failure = AnnotationError(f"The samples cannot be trained on ({len(problems)} problems).", tuple(problems))
        if config.output.is_dir() and not any(config.output.iterdir()):  # made for this run: who watches it reads why
            ProgressLog(config.output).end("failed", str(failure), failure.problems)
        raise failure
    chosen = {key: getattr(config, key) for key, value in own.items() if value is None}

    chosen["precision"] = settled(config).precision

    def begun() -> None:
        write(config.output, _absolute(given | chosen))

    train(config, samples, vectors=vectors, resume=resume, use_cache=cached, report=_say, begun=begun)


_NOT_SETTINGS = frozenset({"config", "resume", "dry_run", "verbose", "help"})
"""Flags that are no settings of a run."""


def _absolute(given: dict[str, Any]) -> dict[str, Any]:
    """The settings as they can be repeated from any folder."""
    model = Path(given["model"]).absolute() if given["model"] and Path(given["model"]).exists() else given["model"]
    return given | {"data": Path(given["data"]), "model": model or None}


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


def run() -> int:
    """The command line; every failure becomes one line (bad data: one a problem) and an exit status."""
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False, rich_markup_mode=None)
    app.command()(main)
    try:
        result = app(standalone_mode=False)
        return result if isinstance(result, int) else 0
    except HerdLensError as error:
        for line in (*getattr(error, "problems", ()), str(error)):
            print(line, file=sys.stderr)
        return error.exit_status
    except TyperException as error:
        print(" ".join(error.format_message().split()), file=sys.stderr)
        return error.exit_code
    except typer.Exit as error:
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        print("Stopped; the last checkpoint, if there was one, is kept.", file=sys.stderr)
        return Cancelled.exit_status


if __name__ == "__main__":
    sys.exit(run())
