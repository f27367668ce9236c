"""Result files to one report: ``report.md`` with pictures beside it, and ``report.html``, which needs no other file.

Some of its tables are also kept in a document of the project, without pictures."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from evaluation import controls, goals, sections
from evaluation.disagreements import disagreements
from evaluation.document import Picture, Run, Section, runs
from evaluation.records import ResultFile, read_result, write_text
from services.errors import InputError

TEMPLATES = Path(__file__).parent / "templates"


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """The result files, named after themselves (with their folder where two have the same name)."""
    stems = [path.stem for path in paths]
    named: list[tuple[str, ResultFile]] = []
    for path in paths:
        result = read_result(path)
        if not result.clips:
            raise InputError(f"{path} holds no clips, so there is nothing to report; run it again.")
        named.append((path.stem if stems.count(path.stem) == 1 else f"{path.parent.name}/{path.stem}", result))
    if len({name for name, _ in named}) < len(named):
        raise InputError("Two of the result files have the same name; rename one of them or give each once.")
    return runs(named)


def contents(found: Sequence[Run], *, pictures: bool = True, lasting: bool = False) -> list[Section]:
    """All sections that the runs give material for, in reading order. ``lasting``: without those that consist of
    pictures, tell seconds (another machine's differ), or are about single clips."""
    made = [
        goals.goals(found),
        sections.what_was_run(found),
        sections.accuracy(found),
        sections.comparisons(found),
        controls.label_leak(found),
        controls.controls(found),
        sections.calibration(found),
        sections.coverage(found),
        None if lasting else sections.ranking(found),
        None if lasting else sections.cost(found),
        sections.by_group(found),
        None if lasting else disagreements(found, pictures),
        controls.published(),
    ]
    return [section for section in made if section is not None and _says_something(section)]


def _says_something(section: Section) -> bool:
    return bool(section.tables or section.pictures or section.remarks or len(section.text) > 1)


def write_report(found: Sequence[Run], folder: Path, title: str = "Evaluation of HerdLens") -> list[Path]:
    """Write report.md, report.html and the pictures into ``folder``; the files written, the report first."""
    made = contents(found)
    written = []
    for name in ("report.md", "report.html"):
        write_text(folder / name, _rendered(f"{name}.j2", title=title, sections=made, heading="##", with_pictures=True))
        written.append(folder / name)
    for picture in (picture for section in made for picture in section.pictures):
        path = folder / picture.name
        try:
            path.write_bytes(picture.data)
        except OSError as error:
            raise InputError(f"{path} cannot be written ({error.strerror}); choose another --out.") from error
        written.append(path)
    return written


def in_document(found: Sequence[Run]) -> str:
    """The lasting tables, for a document that keeps them."""
    return as_markdown(contents(found, lasting=True))


def as_markdown(made: Sequence[Section]) -> str:
    """Sections without their pictures, to stand below a heading of the third level."""
    return _rendered("sections.md.j2", sections=made, heading="####", with_pictures=False)


def _rendered(template: str, **values: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        autoescape=lambda name: bool(name and name.endswith(".html.j2")),
    )  # fmt: skip
    environment.filters["cell"] = lambda text: str(text).replace("|", "\\|")
    environment.filters["data_uri"] = _data_uri
    return environment.get_template(template).render(**values)


def _data_uri(picture: Picture) -> str:
    return f"data:{picture.media_type};base64,{base64.b64encode(picture.data).decode()}"
