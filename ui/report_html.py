"""A report as one self-contained HTML page that prints well: pictures inside, no script, every text escaped."""

from __future__ import annotations

import base64
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from agent.verdict import BEYOND_PROBABILITY, percent
from services.errors import HerdLensError
from ui.history_entry import Entry
from ui.markup import marked_difference, paragraph
from ui.wording import Words, clock, minute

if TYPE_CHECKING:
    from services.model_service import ModelService

SIGNS = {"mounting": "▲", "normal": "●", "unclear": "◇", "clean": "●"}
"""A picture that is spoilt in some way has the sign of mounting: look here."""
VIEWS = ("whole", "middle", "textured")
"""The pictures that are kept with a report on picture quality, in their order (services.views)."""


def to_html(past: Entry, service: ModelService, w: Words) -> str:
    """The page in the language of ``w``."""
    report = past.report
    names = [w(f"view.{name}") for name in VIEWS] if past.is_quality else map(clock, report.get("frame_times_s", []))
    pictures = [{"source": _inline(picture), "time": name} for picture, name in zip(past.frames, names, strict=False)]
    notice = service.notice
    return _template().render(
        w=w,
        clock=clock,
        minute=minute,
        percent=percent,
        past=past,
        report=report,
        sign=SIGNS.get(report["verdict"], "▲"),
        quality=past.is_quality,
        picture=past.is_picture,
        step=(lambda severity: w("quality.severity", severity=severity, word=w(f"severity.{severity}"))),
        notice=w.sentence(notice) if notice else None,
        warnings=[w.sentence(text) for text in report["warnings"] if text not in (notice, report["reason"])],
        beyond_probability=report["decided_by"]["rule"] in BEYOND_PROBABILITY,
        variants=[_variant(variant, past) for variant in report["variants"]],
        pictures=pictures,
        cases=[_case(hit, service) for hit in report["neighbours"][: past.shown]],
    )


def _variant(variant: dict[str, Any], past: Entry) -> dict[str, Any]:
    """The variant with its answer as safe markup, the words that differ from the other variant's marked."""
    other = past.beside(variant)
    answer = marked_difference(variant["answer"], other["answer"]) if other else paragraph(variant["answer"])
    return variant | {"marked": Markup(answer), "unsure": past.left_open(variant)}


def _case(hit: dict[str, Any], service: ModelService) -> dict[str, Any]:
    try:
        thumbnail = service.library.get(hit["id"]).thumbnail
    except HerdLensError:  # removed from the library since
        thumbnail = None
    return hit | {"source": _inline(thumbnail) if thumbnail else None}


def _inline(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


@lru_cache(maxsize=1)
def _template() -> Template:
    folder = Path(__file__).with_name("templates")
    environment = Environment(loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined)
    return environment.get_template("report.html.j2")
