"""The command line of the evaluation: ``python -m evaluation COMMAND``.

Exit status as in ``agent.__main__``: 2 the input or the call is wrong, 3 a model is missing, 130 an interrupt.
"""

from __future__ import annotations

import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from agent.__main__ import RetrievalOption, VariantOption, main
from evaluation import retrieval_commands
from evaluation.quiet import quiet_settings

app = typer.Typer(
    help="Measure what retrieval and tuning are worth.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(retrieval_commands.app, name="retrieval")


class RunMode(StrEnum):
    """``rag`` and ``vlm``: the model alone, with and without references; ``text``: the same question without video;
    ``knn``: the references' vote; ``ensemble``: the verdict that users get."""

    rag = "rag"
    vlm = "vlm"
    text = "text"
    knn = "knn"
    ensemble = "ensemble"


class ContextOption(StrEnum):
    right = "right"
    wrong = "wrong"
    random = "random"
    none = "none"


class FramesOption(StrEnum):
    shuffled = "shuffled"
    one = "one"
    other = "other"


class TruthOption(StrEnum):
    mounting = "mounting"
    normal = "normal"


@app.command()
def published() -> None:
    """Compute the source's published results: the baseline row, with intervals."""
    from evaluation.baseline import baseline
    from evaluation.summary import baseline_lines

    for line in baseline_lines(baseline()):
        print(line)


@app.command()
def run(
    data: Annotated[Path, typer.Option(help="Annotation file, or a folder with 'mounting' and 'normal' clips.")],
    mode: Annotated[RunMode, typer.Option(help="What answers.")],
    out: Annotated[Path, typer.Option(help="Result file; a killed run goes on where it stopped.")],
    variant: Annotated[VariantOption, typer.Option(help="Which model answers.")] = VariantOption.both,
    retrieval: Annotated[RetrievalOption | None, typer.Option(help="Default: off for vlm, else the profile's.")] = None,
    context: Annotated[ContextOption | None, typer.Option(help="Show other cases: which of their labels.")] = None,
    swap_labels: Annotated[bool, typer.Option("--swap-labels", help="Turn the labels of all references.")] = False,
    frames: Annotated[FramesOption | None, typer.Option(help="Show the model other pictures.")] = None,
    scored_only: Annotated[bool, typer.Option("--scored-only", help="Score without writing an answer.")] = False,
    limit: Annotated[int | None, typer.Option(help="Only the first clips.")] = None,
    adapter: Annotated[str | None, typer.Option(help="Name of the adapter that 'tuned' runs with.")] = None,
    jobs: Annotated[int, typer.Option(min=1, max=3, help="Clips in work at the same time.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of random contexts and frames.")] = 0,
    profile: Annotated[str | None, typer.Option(help="Profile; default HERDLENS_PROFILE or demo.")] = None,
) -> None:
    """Run labelled clips and keep every answer, score, verdict and neighbour in one result file."""
    settings = quiet_settings()
    from evaluation.plan import planned, variants_of

    plan, items = planned(
        data,
        mode.value,
        profile or settings.profile,
        variants=() if mode is RunMode.knn else variants_of(variant.value),
        retrieval=retrieval.value if retrieval else None,
        context=context.value if context else None,
        swap_labels=swap_labels,
        frames=frames.value if frames else None,
        scored_only=scored_only,
        limit=limit,
        adapter=adapter,
        seed=seed,
    )
    from evaluation import runner
    from evaluation.summary import run_lines

    service = runner.open_service(settings, plan)
    try:
        (result,) = runner.run(service, [runner.Job(plan, items, out)], parallel=jobs, label=mode.value)
    finally:
        service.close()
    for line in run_lines(result, out.stem):
        print(line)
    failed = [clip for clip in result.clips if clip.error]
    for clip in failed:
        print(f"{clip.video}: {clip.error}", file=sys.stderr)
    raise typer.Exit(2 if failed else 0)


@app.command()
def judge(
    result: Annotated[Path, typer.Argument(metavar="RESULT.json", help="A result file of the source's scripts.")],
    truth: Annotated[TruthOption, typer.Option(help="What the clips of this file show.")],
    other: Annotated[Path | None, typer.Option(help="The same run's file of the other set.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Labels of retrieved clips: TSV or annotation file.")] = None,
    out: Annotated[Path | None, typer.Option(help="Also write a result file for 'report'.")] = None,
) -> None:
    """Judge the source's own result files by the same rules as ours."""
    from evaluation.baseline import FOLDER
    from evaluation.data import read_labels
    from evaluation.records import write_result
    from evaluation.source_results import read_source, source_result
    from evaluation.summary import run_lines

    known = read_labels(labels or FOLDER / "labels.tsv")
    records = read_source(result, truth.value, known)
    if other is not None:
        records += read_source(other, "normal" if truth.value == "mounting" else "mounting", known)
    judged = source_result([result] if other is None else [result, other], records)
    for line in run_lines(judged, result.stem):
        print(line)
    if out is not None:
        write_result(out, judged)


@app.command()
def leak(
    off: Annotated[Path, typer.Argument(metavar="OFF", help="Result of --mode ensemble --retrieval off.")],
    default: Annotated[Path, typer.Argument(metavar="DEFAULT", help="Result of --mode ensemble.")],
    swapped: Annotated[Path, typer.Argument(metavar="SWAPPED", help="Result of --mode ensemble --swap-labels.")],
) -> None:
    """How often the final verdict follows the references' labels instead of the video."""
    from evaluation.neighbours import following
    from evaluation.records import read_result
    from evaluation.summary import leak_lines

    for line in leak_lines(following(read_result(off), read_result(swapped), read_result(default))):
        print(line)


@app.command()
def report(
    results: Annotated[list[Path], typer.Argument(metavar="RESULT…", help="Result files of run or judge.")],
    out: Annotated[Path, typer.Option(help="Folder to write report.md, report.html and pictures to.")],
) -> None:
    """Tables and plots of results, side by side."""
    quiet_settings()
    from evaluation.report import read_runs, write_report

    for path in write_report(read_runs(results), out)[:2]:
        print(f"Written: {path}")


@app.command()
def demo(
    clips: Annotated[int | None, typer.Option(help="Held-out clips; default 400, an even number.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A handful of clips, to see that everything runs.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for clips, results and report.")] = Path("build/eval"),
    write: Annotated[Path | None, typer.Option(help="Also put the tables between the marks of this document.")] = None,
) -> None:
    """Draw held-out clips, run everything that matters on the demo bundle, and write its tables."""
    quiet_settings()
    started = time.perf_counter()
    from evaluation.held_out import CLIPS, QUICK_CLIPS, require_count
    from evaluation.marked_text import DEMO, require_marks, write_between

    count = clips if clips is not None else QUICK_CLIPS if quick else CLIPS
    require_count(count)
    if write is not None:
        require_marks(write, DEMO)
    from evaluation.demo import measure
    from evaluation.report import in_document, write_report

    found = measure(count, out)
    written = write_report(found, out / "report", f"The demo bundle on {count} held-out rendered clips")
    if write is not None:
        write_between(write, DEMO, in_document(found))
    print(written[0].read_text(encoding="utf-8"))
    minutes = (time.perf_counter() - started) / 60
    print(f"{count} held-out clips in {minutes:.1f} minutes. Written: {written[0]} and {written[1]}")


@app.command()
def calibration(
    clips: Annotated[int, typer.Option(help="Held-out clips, an even number.")] = 2000,
    out: Annotated[Path, typer.Option(help="Folder for clips and results.")] = Path("build/eval"),
    write: Annotated[Path | None, typer.Option(help="Also put the tables between the marks of this document.")] = None,
) -> None:
    """How far the demo bundle's probabilities can be trusted, on as many held-out clips as ECE wants."""
    quiet_settings()
    from evaluation.held_out import require_count
    from evaluation.marked_text import AT_SIZE, require_marks, write_between

    require_count(clips)
    if write is not None:
        require_marks(write, AT_SIZE)
    from evaluation.calibration_tables import at_size
    from evaluation.demo import measure_at_size
    from evaluation.report import as_markdown

    text = as_markdown(at_size(measure_at_size(clips, out)))
    if write is not None:
        write_between(write, AT_SIZE, text)
    print(text)


if __name__ == "__main__":
    sys.exit(main(app))
