"""What happens during an analysis, as typed events; ``analyze`` turns the graph's streams into them.

Browser and command line read only these. Order: ``StepStarted(inspect)`` … ``StepFinished(inspect)``, the same
for retrieve (the quality task has no such step), then classify (tokens of both variants interleave), then report, then
exactly one of ``Finished`` and ``Failed``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from services.schema import Clip, Neighbourhood, Quality, Report, Task, VariantName

Step = Literal["inspect", "retrieve", "classify", "report"]
STEPS: tuple[Step, ...] = ("inspect", "retrieve", "classify", "report")
STEPS_OF: dict[Task, tuple[Step, ...]] = {"mounting": STEPS, "quality": ("inspect", "classify", "report")}


@dataclass(frozen=True, slots=True)
class StepStarted:
    step: Step
    variant: VariantName | None = None


@dataclass(frozen=True, slots=True)
class StepFinished:
    """``variant`` is set for classify, which runs once per variant."""

    step: Step
    seconds: float
    variant: VariantName | None = None


@dataclass(frozen=True, slots=True)
class Inspected:
    clip: Clip
    quality: Quality
    frame_times_s: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Retrieved:
    neighbourhood: Neighbourhood


@dataclass(frozen=True, slots=True)
class QueuePlace:
    """Place in the model's line; 0 means that it is running."""

    variant: VariantName
    place: int


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of generated text; ``channel`` is ``reasoning`` (inside think tags) or ``answer``."""

    variant: VariantName
    channel: str
    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    report: Report


@dataclass(frozen=True, slots=True)
class Failed:
    """One sentence and the exit status of ``services.errors``; 130 means cancelled."""

    message: str
    exit_status: int


Event = StepStarted | StepFinished | Inspected | Retrieved | QueuePlace | Token | Finished | Failed
