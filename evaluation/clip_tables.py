"""Figures of retrieval between clips as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from evaluation.clip_retrieval import FUSIONS, AsServed, Worth, by_chance
from evaluation.clip_vectors import MOVING, WHOLE
from evaluation.data import Item
from evaluation.metrics import paired
from evaluation.summary import number, shown

GOAL = 0.85
PART = "retrieval between clips"
"""Name of the tables in a document."""


def lines(
    found: Mapping[str, Worth], ours: str, library: AsServed | None, items: Sequence[Item], marks: str
) -> Iterator[str]:
    """The whole account; ``ours`` is the way that the profile's embedder goes, ``marks`` says which models it is
    about."""
    kinds = len({str(item.metadata.get("kind", item.truth)) for item in items})
    yield (
        f"{len(items)} labelled clips, each asking all the others; by chance {number(by_chance(items, 'label'))} of "
        f"the neighbours share the label, {number(by_chance(items, 'kind'))} the behaviour (of {kinds}) and "
        f"{number(by_chance(items, 'light'))} the light. {marks}"
    )
    yield ""
    yield from _quality(found, ours)
    yield ""
    yield from _company(found, ours)
    yield ""
    yield from _judgement(found, ours, library)


def _quality(found: Mapping[str, Worth], ours: str) -> Iterator[str]:
    head = ("way", "right by 5 nearest", "label p@1", "label p@5", "label MRR", "label nDCG@10", "behaviour p@5",
            "behaviour MRR", "behaviour nDCG@10", "p")  # fmt: skip
    yield from _table_head(head)
    for name, w in found.items():
        if ", PCA" in name or ", whitened" in name:
            continue
        label = (w.label[m] for m in ("precision@1", "precision@5", "MRR", "nDCG@10"))
        behaviour = (w.behaviour[m] for m in ("precision@5", "MRR", "nDCG@10"))
        cells = map(shown, (w.right, *label, *behaviour))
        yield f"| {_title(name, ours)} | {' | '.join(cells)} | {_against(found, ours, name)} |"


def _company(found: Mapping[str, Worth], ours: str) -> Iterator[str]:
    """What neighbours have in common besides the act, and hubs before and after whitening."""
    yield from _table_head(
        ("way", "same light", "same viewpoint", "hubness", "with PCA: right", "hubness", "whitened: right", "hubness")
    )
    for name, w in found.items():
        if ", PCA" in name or ", whitened" in name:
            continue
        forms = [found.get(f"{name}, {form}") for form in ("PCA", "whitened")]
        after = [cell for f in forms for cell in ((shown(f.right), f"{f.hubness:.2f}") if f else ("–", "–"))]
        alike = (shown(w.alike["light"]), shown(w.alike["viewpoint"]))
        yield f"| {_title(name, ours)} | {' | '.join(alike)} | {w.hubness:.2f} | {' | '.join(after)} |"


def _judgement(found: Mapping[str, Worth], ours: str, library: AsServed | None) -> Iterator[str]:
    usual, whole, moving = found[ours], found[WHOLE], found[MOVING]
    best = max(found, key=lambda name: (found[name].right.value, found[name].label["precision@5"].value))
    yield (
        f"Best by its five nearest: {_title(best, ours)}, {shown(found[best].right)}, precision@5 "
        f"{shown(found[best].label['precision@5'])}. The goal of {GOAL} for the best is "
        f"{'met' if found[best].right.value >= GOAL else 'not met'}."
    )
    if best != ours:
        yield (
            f"Against the shipped way p = {_against(found, ours, best)}, not corrected for the {len(found)} ways that "
            f"it was picked from. As shipped ({ours}): {shown(usual.right)}, precision@5 "
            f"{shown(usual.label['precision@5'])}."
        )
    yield (
        f"What looking only at what moves changes: the five nearest are right for {shown(moving.right)} of the clips "
        f"instead of {shown(whole.right)}, and {shown(moving.alike['light'])} of the neighbours have the same light "
        f"instead of {shown(whole.alike['light'])}."
    )
    if library is not None:
        yield (
            f"The shipped library of {library.references} references, asked by these clips: right by its five nearest "
            f"{shown(library.right)}, precision@5 {shown(library.precision)}, same light {shown(library.same_light)}."
        )


def _against(found: Mapping[str, Worth], ours: str, name: str) -> str:
    """p of the exact McNemar test of two ways on the same clips."""
    if name == ours:
        return "–"
    p = paired(found[ours].each_right, found[name].each_right).p
    return f"{p:.3f}" if p >= 0.001 else f"{p:.0e}"


def _title(name: str, ours: str) -> str:
    return f"{name} (as shipped)" if name == ours else f"fusion by {name}" if name in FUSIONS else name


def _table_head(head: Sequence[str]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
