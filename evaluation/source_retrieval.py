"""What the fourth source's Top-k can mean, from its published figures alone.

If Top-k were the share of queries with a relevant record among the first k (hit@k), the figures would bound the MRR: a
first relevant record at rank 2 or 3 counts at most 1/2, at 4 or 5 at most 1/4, at 6 to 10 at most 1/6, later at most
1/11. And since the MRR lies between hit@1 and (1 + hit@1) / 2, it bounds hit@1; recall@1 is hit@1 divided by the number
of relevant records, where all queries have equally many.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

from evaluation.summary import number

PUBLISHED = Path(__file__).parent / "published" / "retrieval.csv"
PART = "published figures"
"""Name of the table in a document."""


def highest_mrr(hits: Mapping[int, float]) -> float:
    """The largest MRR that goes with hit@k for each k of ``hits``; one record at least is relevant and ranked."""
    total, last, rank = 0.0, 0.0, 1
    for k in sorted(hits):
        total += (hits[k] - last) / rank
        last, rank = hits[k], k + 1
    return total + (1 - last) / rank


def relevant_records(recall_1: float, mrr: float) -> tuple[float, float]:
    """(fewest, most) relevant records a query, if all have equally many and ``recall_1`` is recall@1."""
    return max(1.0, (2 * mrr - 1) / recall_1), mrr / recall_1


def lines() -> Iterator[str]:
    """The published figures as a table, with what they allow."""
    heads = ("queries", "n", "Top-1", "Top-3", "Top-5", "Top-10", "MRR", "highest MRR if Top-k were hit@k",
             "relevant records a query if Top-1 is recall@1")  # fmt: skip
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    for row in _published():
        hits = {k: float(row[f"top{k}"]) for k in (1, 3, 5, 10)}
        mrr = float(row["mrr"])
        fewest, most = relevant_records(hits[1], mrr)
        cells = (row["queries"], row["n"], *map(number, hits.values()), number(mrr), number(highest_mrr(hits)),
                 f"{fewest:.1f} to {most:.1f}")  # fmt: skip
        yield f"| {' | '.join(cells)} |"


def _published() -> list[dict[str, str]]:
    with PUBLISHED.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))
