"""The command line: ``python -m agent COMMAND``.

Exit status: 0 done; 2 the input or the call is wrong; 3 a model or server is missing; 1 an internal error; 130 an
interrupt; with several clips the highest of all. Failures are one plain line each on standard error. Heavy modules are
imported inside the commands, so that ``--help`` is instant.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.exceptions import TyperException

from services.errors import AdapterError, HerdLensError, InputError

if TYPE_CHECKING:
    from services.model_service import ModelService
    from services.schema import VariantName, Window
    from services.settings import Profile, Settings

app = typer.Typer(
    help="Find out from barn video whether a cow is mounting.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
library_app = typer.Typer(help="The reference clips that every analysis is compared with.", no_args_is_help=True)
adapters_app = typer.Typer(help="Fine-tuned adapters.", no_args_is_help=True)
app.add_typer(library_app, name="library")
app.add_typer(adapters_app, name="adapters")


class VariantOption(StrEnum):
    base = "base"
    tuned = "tuned"
    both = "both"


VARIANTS: dict[VariantOption, tuple[VariantName, ...]] = {
    VariantOption.base: ("base",),
    VariantOption.tuned: ("tuned",),
    VariantOption.both: ("base", "tuned"),
}


class RetrievalOption(StrEnum):
    contrastive = "contrastive"
    nearest = "nearest"
    off = "off"


class TaskOption(StrEnum):
    mounting = "mounting"
    quality = "quality"


class ServerDevice(StrEnum):
    cpu = "cpu"
    gpu = "gpu"


ProfileOption = Annotated[str | None, typer.Option("--profile", help="Profile; default HERDLENS_PROFILE or demo.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", help="Say on standard error what happens.")]


@app.command()
def analyze(
    clips: Annotated[list[str], typer.Argument(metavar="CLIP…", help="Video files; for quality pictures too.")],
    variant: Annotated[VariantOption, typer.Option(help="Which model answers.")] = VariantOption.both,
    retrieval: Annotated[RetrievalOption | None, typer.Option(help="How reference clips are used.")] = None,
    adapter: Annotated[str | None, typer.Option(help="Name of the adapter that 'tuned' runs with.")] = None,
    task: Annotated[TaskOption, typer.Option(help="What is asked: is a cow mounting, or how good the picture is.")] = (
        TaskOption.mounting
    ),
    start: Annotated[float | None, typer.Option(help="Look from this second on.")] = None,
    length: Annotated[float | None, typer.Option(help="Look at this many seconds.")] = None,
    profile: ProfileOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per clip and line.")] = False,
    verbose: VerboseOption = False,
) -> None:
    """Analyse clips and print the verdict on each."""
    window = _window(start, length)
    service = _service(profile, verbose)
    from agent import console
    from agent.events import Failed, Finished, StepFinished
    from agent.graph import analyze as run
    from services.schema import Request

    cancelled = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: cancelled.set())
    variants = VARIANTS[variant]
    status = 0
    for path in clips:
        mode = retrieval.value if retrieval else service.profile.retrieval
        request = Request(path, variants, mode, adapter, window, task.value)
        for event in run(request, service, cancelled):
            if isinstance(event, Finished):
                report = event.report
                text = json.dumps(report.to_json(), ensure_ascii=False) if as_json else "\n".join(console.lines(report))
                print(text, flush=True)
            elif isinstance(event, Failed):
                status = max(status, event.exit_status)
                print(f"{path}: {event.message}", file=sys.stderr)
            elif verbose and isinstance(event, StepFinished):
                print(f"{path}: {event.step} {event.variant or ''} {event.seconds:.2f} s", file=sys.stderr)
        if cancelled.is_set():
            raise typer.Exit(130)
    raise typer.Exit(status)


@app.command()
def doctor(profile: ProfileOption = None, verbose: VerboseOption = False) -> None:
    """Check profile, models, device, adapters and library; say what is missing and how to get it."""
    service = _service(profile, verbose)
    from agent.doctor import examine

    missing = 0
    for finding in examine(service):
        missing += not finding.good
        print(f"{'ok ' if finding.good else '-- '} {finding.what}: {finding.value}")
        if finding.remedy:
            print(f"     {finding.remedy}")
    raise typer.Exit(3 if missing else 0)


@app.command()
def download(
    without_weights: Annotated[
        bool, typer.Option("--without-weights", help="Only the base model's small files: its weights are on a server.")
    ] = False,
    profile: ProfileOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Fetch the weights of the profile, with progress and resume."""
    _quiet(verbose, progress=True)
    from services.model_files import download as fetch
    from services.settings import load_settings, located
    from services.settings import profile as find_profile

    chosen = find_profile(profile or load_settings().profile)
    for name in (chosen.base_model, chosen.embedder):
        if located(name) is not None:
            print(f"{name} is part of the project; nothing to download.")
            continue
        weights = not (without_weights and name == chosen.base_model)
        print(f"{name} is at {fetch(name, weights=weights)}.")


@app.command()
def serve(
    device: Annotated[ServerDevice, typer.Option(help="What the server's environment was installed for.")],
    more: Annotated[list[str] | None, typer.Argument(metavar="[-- OPTION…]", help="Further options for vLLM.")] = None,
    profile: ProfileOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Start the vLLM server for the profile; 'make serve' calls this."""
    _quiet(verbose)
    from services.serving import serving
    from services.settings import become, load_settings
    from services.settings import profile as find_profile

    settings = load_settings()
    chosen = find_profile(profile or settings.profile)
    started = serving(settings, chosen, device.value, tuple(more or ()))
    for sentence in started.left_out:
        print(sentence, file=sys.stderr)
    print(f"Serving {chosen.base_model} at {started.url}, adapters: {', '.join(started.adapters) or 'none'}.")
    print("It is ready when it says 'Application startup complete'; Ctrl-C ends it.", flush=True)
    become(started.command, started.environment)


@library_app.command("list")
def library_list(profile: ProfileOption = None, verbose: VerboseOption = False) -> None:
    """Print id, label, origin and description of every reference clip."""
    for reference in _service(profile, verbose).library.list():
        if not reference.hidden:
            print(f"{reference.id}\t{reference.label}\t{reference.origin}\t{reference.description}")


@library_app.command("add")
def library_add(
    file: Annotated[Path, typer.Argument(metavar="ANNOTATIONS.json")],
    profile: ProfileOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Embed the clips of an annotation file and file them under their labels."""
    service = _service(profile, verbose)
    from services.annotations import read

    added, failed = 0, 0
    for entry in read(file):
        if entry.label is None:
            print(f"entry {entry.index}: no 'Answer: YES' or 'Answer: NO', so it was left out.", file=sys.stderr)
            failed += 1
            continue
        try:
            service.add_reference(str(entry.media[0]), entry.label, entry.reason or "")
            added += 1
        except InputError as error:
            print(f"{entry.media[0]}: {error}", file=sys.stderr)
            failed += 1
    print(f"{added} reference clips added.")
    raise typer.Exit(2 if failed else 0)


@library_app.command("remove")
def library_remove(
    id: Annotated[str, typer.Argument(metavar="ID")], profile: ProfileOption = None, verbose: VerboseOption = False
) -> None:
    """Remove one of your reference clips, or hide a shipped one."""
    library = _service(profile, verbose).library
    if library.get(id).origin == "shipped":
        library.hide(id)
        print(f"{id} is shipped with HerdLens; it is hidden from now on.")
    else:
        library.remove(id)
        print(f"{id} was removed.")


@library_app.command("export")
def library_export(
    file: Annotated[Path, typer.Argument(metavar="FILE")], profile: ProfileOption = None, verbose: VerboseOption = False
) -> None:
    """Write the library as an annotation file, with copies of the clips that are there."""
    _service(profile, verbose).library.export(file)
    print(f"The library was written to {file}.")


@adapters_app.command("list")
def adapters_list(profile: ProfileOption = None, verbose: VerboseOption = False) -> None:
    """Print name, task, base model, metrics, rank and date of every adapter; name the folders that are none."""
    from services.adapters import AdapterRegistry

    registry = AdapterRegistry.of(*_settings(profile, verbose))
    for record in registry.list():
        figures = json.dumps(record.metrics)
        print(f"{record.name}\t{record.task}\t{record.base_model}\t{figures}\trank {record.rank}\t{record.created_at}")
    for problem in registry.problems().values():
        print(problem, file=sys.stderr)


@adapters_app.command("add")
def adapters_add(
    folder: Annotated[Path, typer.Argument(metavar="DIR")],
    name: Annotated[str | None, typer.Option(help="Name; default the folder's own.")] = None,
    profile: ProfileOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Check an adapter folder, try it on the profile's base, and register it."""
    service = _service(profile, verbose)
    try:
        record = service.add_adapter(folder, name)
    except AdapterError as error:  # here the folder is the input, not something that an analysis misses
        raise InputError(str(error)) from error
    print(f"The adapter {record.name!r} was added.")


@adapters_app.command("remove")
def adapters_remove(
    name: Annotated[str, typer.Argument(metavar="NAME")], profile: ProfileOption = None, verbose: VerboseOption = False
) -> None:
    """Remove a registered adapter."""
    from services.adapters import AdapterRegistry

    AdapterRegistry.of(*_settings(profile, verbose)).remove(name)
    print(f"The adapter {name!r} was removed.")


def _service(profile: str | None, verbose: bool) -> ModelService:
    settings, _ = _settings(profile, verbose)  # a wrong name is told before the models' libraries load
    from services.model_service import build

    return build(settings, profile)


def _settings(profile: str | None, verbose: bool) -> tuple[Settings, Profile]:
    _quiet(verbose)
    from services.settings import load_settings
    from services.settings import profile as find_profile

    settings = load_settings()
    chosen = find_profile(profile or settings.profile)
    log_to(settings.data)
    return settings, chosen


def _window(start: float | None, length: float | None) -> Window | None:
    from services.schema import Window

    if start is None and length is None:
        return None
    if (start is not None and start < 0) or (length is not None and length <= 0):
        raise InputError("--start must be 0 or more and --length above 0 seconds.")
    begin = start or 0.0
    return Window(begin, begin + length if length is not None else float("inf"))


def _quiet(verbose: bool, *, progress: bool = False) -> None:
    """Libraries write warnings and progress bars to standard error; the contract allows one line per failure."""
    if verbose:
        return
    from services.settings import quiet_libraries

    warnings.filterwarnings("ignore")
    quiet_libraries(progress=progress)


def log_to(data: Path) -> None:
    """Send the log to ``data``; InputError where that folder cannot be written."""
    folder = data / "log"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handler = logging.handlers.RotatingFileHandler(folder / "herdlens.log", maxBytes=1 << 20, backupCount=2)
    except OSError as error:
        raise InputError(f"The data folder {data} cannot be written; set HERDLENS_DATA to another folder.") from error
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # a line for every request to a server is no news
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.INFO)


def main(run: Callable[..., object] = app) -> int:
    """Run the command line; every failure becomes one line and an exit status."""
    try:
        result = run(standalone_mode=False)
        return result if isinstance(result, int) else 0
    except HerdLensError as error:
        print(str(error), file=sys.stderr)
        return error.exit_status
    except typer.Exit as error:
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        print("Interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except TyperException as error:
        asked_for_nothing = len(sys.argv) < 3
        print(error.format_message() if asked_for_nothing else _one_line(error.format_message()), file=sys.stderr)
        return error.exit_code
    except Exception as error:
        logging.getLogger(__name__).exception("internal error")
        print(f"Something went wrong inside HerdLens ({type(error).__name__}); see the log.", file=sys.stderr)
        return 1


def _one_line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    sys.exit(main())
