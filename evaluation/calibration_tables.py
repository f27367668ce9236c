"""How far probabilities can be trusted, on many clips: the goal, every bin, and what staying silent buys."""

from __future__ import annotations

from collections.abc import Sequence

from evaluation import sections
from evaluation.document import Run, Section, Table
from evaluation.goals import goals
from evaluation.reliability import calibrated
from evaluation.summary import number, shown
from evaluation.views import View


def at_size(found: Sequence[Run]) -> list[Section]:
    """Sections about the headline view of the first run; ``found`` holds at least one."""
    asked = goals(found)
    measured = tuple(row for row in asked.tables[0].rows if row[1] != "not measured")
    asked.tables[0] = Table(asked.tables[0].head, measured)
    made = [asked, sections.what_was_run(found), sections.accuracy(found), sections.calibration(found)]
    made += [_bins(found[0].views[0]), sections.coverage(found)]
    return [section for section in made if section is not None]


def _bins(view: View) -> Section:
    """Said and found probability in each bin, the figures of the reliability diagram."""
    section = Section("Said and found probability", [f"{view.title}; bins with equally many clips."])
    rows = [(number(part.p), shown(part.share), str(part.share.n)) for part in calibrated(*view.scored()).bins]
    section.tables.append(Table(("said, mean", "found mounting", "clips"), tuple(rows)))
    return section
