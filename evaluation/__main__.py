"""The command line of the evaluation: ``python -m evaluation COMMAND``.

Exit status as in ``agent.__main__``: 2 the input or the call is wrong, 3 a model is missing, 130 an interrupt.
"""

from __future__ import annotations

import sys

import typer

from agent.__main__ import main

app = typer.Typer(
    help="Measure what retrieval and tuning are worth.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command()
def published() -> None:
    """Compute the source's published results: the baseline row, with intervals."""
    from evaluation.baseline import baseline, lines

    for line in lines(baseline()):
        print(line)


@app.callback()
def _commands() -> None:
    """Keeps ``published`` a command of its own."""


if __name__ == "__main__":
    sys.exit(main(app))
