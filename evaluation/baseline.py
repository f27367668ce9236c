"""The source's published results, computed from its answers: the row that every later table is compared with.

``published/`` holds one CSV per arm and set (the answer judged by its last ``Status:`` line, the retrieved clip) and
``labels.tsv``, the annotation of each reference clip.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas

from evaluation.data import read_labels
from evaluation.metrics import Confusion, Estimate, Paired, Scores, confusion, paired, scores
from evaluation.neighbours import Pull, pull
from evaluation.records import ClipRecord, ResultFile, VariantRecord
from evaluation.source_results import cases, source_result
from evaluation.views import View, common, main_view
from services.errors import InputError

FOLDER = Path(__file__).parent / "published"
ARMS = {"VLM only": "vlm", "with retrieval": "rag"}
SETS = ("mounting", "normal")
_COLUMNS = ("video", "truth", "retrieved_video", "predicted")


@dataclass(frozen=True, slots=True)
class Baseline:
    """The published arms; ``paired`` compares them on the ``paired.n`` clips that both saw."""

    views: dict[str, View]
    confusion: dict[str, Confusion]
    scores: dict[str, Scores]
    pull: Pull
    paired: Paired

    @property
    def neighbour_alone(self) -> Estimate:
        return self.pull.alone


def published_arm(prefix: str, folder: Path = FOLDER) -> ResultFile:
    """One arm (``vlm`` or ``rag``), mounting and normal set together."""
    labels = read_labels(folder / "labels.tsv")
    paths = [folder / f"{prefix}_{name}.csv" for name in SETS]
    records: list[ClipRecord] = []
    for path in paths:
        try:
            table = pandas.read_csv(path, dtype=str, keep_default_na=False)
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read as CSV ({error}); restore it from the repository.") from error
        if missing := [name for name in _COLUMNS if name not in table.columns]:
            raise InputError(f"{path.name} lacks the column {missing[0]!r}; restore it from the repository.")
        for row in table.to_dict("records"):
            variant = VariantRecord(name="base", text_verdict=row["predicted"])
            shown = cases(row["retrieved_video"] or None, labels)
            records.append(
                ClipRecord(video=row["video"], truth=row["truth"], variants=(variant,), shown=shown, rule="text only")
            )
    return source_result(paths, records)


def baseline(folder: Path = FOLDER) -> Baseline:
    """Everything the published answers say."""
    arms = {title: main_view(published_arm(prefix, folder), title) for title, prefix in ARMS.items()}
    counts = {title: confusion(view.truth, view.answers) for title, view in arms.items()}
    pairs = common(arms["VLM only"], arms["with retrieval"])
    found = pull(arms["with retrieval"])
    if found is None:
        raise InputError(f"{folder} names no retrieved clips; restore it from the repository.")
    return Baseline(
        views=arms,
        confusion=counts,
        scores={title: scores(count) for title, count in counts.items()},
        pull=found,
        paired=paired([a.right for a, _ in pairs], [b.right for _, b in pairs]),
    )
