"""The classical measures' own answer to the quality task: which of five classes, and how strongly of four steps.

The class is that of the worst finding. The steps' borders lie halfway (geometrically) between what the four strengths
of each degradation measure on rendered clips by day and night (``training.demo.degrade``, coded as the renderer does).
"""

from __future__ import annotations

from collections.abc import Sequence

from services.schema import GRADES, Degradation, Finding, Grade

CLASSES: dict[str, Degradation] = {
    "blur": "blur",
    "noise": "noise",
    "low_resolution": "low_resolution",
    "dark": "dark_or_covered",
    "covered": "dark_or_covered",
}
"""Kinds of findings to classes; over-exposed and frozen pictures belong to none."""

# Where severity 2, 3 and 4 begin, in the units of the findings (pixels, grey levels, pixels, grey levels, share).
BORDERS: dict[str, tuple[float, float, float]] = {
    "blur": (1.60, 2.15, 2.75),
    "noise": (15.0, 24.0, 36.0),
    "low_resolution": (108.0, 70.0, 45.0),
    "dark": (48.0, 31.0, 17.5),
    "covered": (0.24, 0.40, 0.59),
}
_LESS_IS_WORSE = frozenset({"low_resolution", "dark"})


def grade_of(worst_first: Sequence[Finding]) -> Grade:
    """The grade of the first finding that has a class; clean without one."""
    finding = next((finding for finding in worst_first if finding.kind in CLASSES), None)
    if finding is None:
        return GRADES[0]
    sign = -1.0 if finding.kind in _LESS_IS_WORSE else 1.0
    passed = sum(sign * finding.value > sign * border for border in BORDERS[finding.kind])
    return Grade(CLASSES[finding.kind], 1 + passed)
