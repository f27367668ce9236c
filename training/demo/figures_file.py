"""The figures file beside the bundle's card: tables by title, and which weights each of them is of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock

ROWS = dict[str, str]
BUILT = ("test", "new", "second")
"""Sets that the build measures."""
MORE = "more"
"""The set that it leaves out, for time."""
TITLES = {
    "test": "training viewpoints",
    "new": "new viewpoints",
    "second": "second style",
    MORE: "new viewpoints, more clips",
}
FILES = {
    "base": "base/model.safetensors",
    "mounting adapter": "adapters/mounting/adapter_model.safetensors",
    "quality adapter": "adapters/quality/adapter_model.safetensors",
    "embedder": "embedder/model.safetensors",
    "novelty": "embedder/novelty/novelty.safetensors",
    "calibration": "calibration.json",
}
TOWER, SHORTCUT = "Tower, read by a logistic regression", "Label without the behaviour"
OF = {
    "Base, general questions": ("base",),
    "Base, captions": ("base",),
    TOWER: ("base",),
    "Embedder": ("embedder",),
    "Picture quality": ("base", "quality adapter"),
    SHORTCUT: (),
}
"""Files that decide what a table says, by how its title begins; any other table is of all of them."""
MEASURED_WITH = "Measured with"


@dataclass
class Figures:
    """Tables by title; each row is a name and what was measured."""

    tables: dict[str, ROWS] = field(default_factory=dict)

    def add(self, table: str, row: str, value: object) -> None:
        self.tables.setdefault(table, {})[row] = value if isinstance(value, str) else str(value)


def measured_with(folder: Path) -> ROWS:
    """Digests of the files that the figures are of."""
    return {name: hashlib.sha256((folder / file).read_bytes()).hexdigest()[:16] for name, file in FILES.items()}


def unchanged(folder: Path) -> dict[str, ROWS]:
    """The tables of ``figures.json`` that are of the files that are there now. That the clips are the same is not
    looked at: after a change of the renderer everything has to be measured."""
    path = folder / "figures.json"
    known: dict[str, ROWS] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    before, now = known.pop(MEASURED_WITH, {}), measured_with(folder)
    same = {name for name in FILES if before.get(name) == now[name]}
    return {title: rows for title, rows in known.items() if same.issuperset(_files_of(title))}


def _files_of(title: str) -> Iterable[str]:
    return next((files for beginning, files in OF.items() if title.startswith(beginning)), FILES)


def keep(figures: Figures, folder: Path) -> None:
    """Write ``figures.json``; tables and rows that were not measured this time stay, in the order of the whole run,
    unless they are of other files than those that are there now."""
    with FileLock(folder / ".figures.lock"):
        known = {MEASURED_WITH: measured_with(folder), **unchanged(folder)}
        for title, rows in figures.tables.items():
            known.setdefault(title, {}).update(rows)
        firsts = ("Mounting, training", "Mounting, new", "Mounting", "Tuned", "Whole", "Embedder", "Tower", "Base")
        known = dict(
            sorted(known.items(), key=lambda row: next((i for i, f in enumerate(firsts) if row[0].startswith(f)), 9))
        )
        (folder / "figures.json").write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / ".figures.lock").unlink(missing_ok=True)


def begin_anew(folder: Path) -> None:
    """Forget every table, but not those that the build leaves out as long as they are of the files that are there."""
    left = {title: rows for title, rows in unchanged(folder).items() if TITLES[MORE] in title}
    (folder / "figures.json").unlink(missing_ok=True)
    if left:
        keep(Figures(left), folder)
