"""The state of one analysis as it moves through the graph. Value objects only: no tensors, no pictures."""

from __future__ import annotations

import operator
from typing import Annotated, TypedDict

from services.schema import Answer, Clip, Neighbourhood, Novelty, Quality, Report, Request, VariantName


def merged(left: dict[str, float], right: dict[str, float]) -> dict[str, float]:
    """Reducer of ``timings``: later keys are added; the two branches of classify keep the longer time."""
    return left | {key: max(value, left.get(key, 0.0)) for key, value in right.items()}


class AnalysisState(TypedDict, total=False):
    """Fields in the order in which the steps write them."""

    request: Request
    """What the user asked for; the graph's input."""
    clip: Clip
    """inspect: the probed clip; its frames stay with the services under ``clip.key``."""
    quality: Quality
    """inspect: measured picture quality."""
    frame_times_s: tuple[float, ...]
    """inspect: presentation times of the sampled frames, seconds from the first frame of the file."""
    novelty: Novelty
    """retrieve: distance from what the models were trained on."""
    neighbourhood: Neighbourhood
    """retrieve: reference clips shown and voting."""
    answers: Annotated[list[Answer], operator.add]
    """classify: one per variant, in the order in which they finished."""
    warnings: Annotated[list[str], operator.add]
    """Any step: sentences for the user."""
    timings: Annotated[dict[str, float], merged]
    """Any step: seconds, keys ``inspect_s``, ``retrieve_s``, ``classify_s``, ``total_s``."""
    report: Report
    """report: the result."""


class ClassifyTask(TypedDict, total=False):
    """What ``Send`` hands to one branch of classify; without a ``neighbourhood`` for the task ``quality``."""

    clip: Clip
    neighbourhood: Neighbourhood
    variant: VariantName
    adapter: str | None
    together: int
