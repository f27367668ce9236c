"""A measurement of retrieval as plain lines and Markdown tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evaluation.ranking import CUTS
from evaluation.retrieval import Found
from evaluation.summary import number, shown


def lines(found: Found, grade: int, top: int) -> Iterator[str]:
    """Measures of every form, where the forms lie, and what is to be minded. ``grade``: from which records are
    relevant; ``top``: how many the reranker ordered anew."""
    store = found.store
    yield (
        f"{len(store)} records ({', '.join(store.modalities)}), {store.dimension} numbers, {store.provenance.pooling}; "
        f"relevant from grade {grade} on; nDCG uses all grades. 95 % intervals over queries."
    )
    for name in ("hit", "recall", "nDCG"):
        heads = [f"{name}@{k}" for k in CUTS] + (["MRR"] if name == "hit" else [])
        yield ""
        yield from _head(("queries", "reranked", "n", *heads))
        for row in found.rows:
            cells = " | ".join(shown(row.measures[head]) for head in heads)
            yield f"| {row.form} | {f'first {top}' if row.reranked else 'no'} | {row.queries} | {cells} |"
    yield ""
    yield "Mean cosine of the queries of each form:"
    yield ""
    yield from _head(("queries", "among themselves", "to their nearest record", "to themselves in the records' form"))
    for region in found.regions:
        own = "–" if region.to_own is None else number(region.to_own)
        yield f"| {region.form} | {number(region.among)} | {number(region.to_nearest)} | {own} |"
    yield ""
    for row in found.rows:
        if row.reranked:
            changed = f"{row.reordered} of the {row.queries} {row.form} queries"
            yield f"The reranker changed the order of the records of {changed}."
    for warning in dict.fromkeys(w for row in found.rows for w in row.warnings):
        yield f"Warning: {warning}"
    left = {row.form: row.left_out for row in found.rows if row.left_out}
    for form, count in left.items():
        yield f"{count} of the queries have no {form} or no relevant record; they are left out."


def _head(names: Sequence[str]) -> Iterator[str]:
    yield f"| {' | '.join(names)} |"
    yield "|---" * len(names) + "|"
