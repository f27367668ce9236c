"""A past analysis as the screens show it, and what is stored with a report so that they can."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.verdict import left_open
from services.schema import Label, Neighbourhood, Report, Window

if TYPE_CHECKING:
    from services.model_service import ModelService

Variant = Mapping[str, Any]
"""One of a stored report's ``variants``."""
VIEW = "view.json"
FRAME = "frame_{:02d}.jpg"


@dataclass(frozen=True)
class Entry:
    """``report``: the JSON object of ``Report.to_json``. ``frames``: JPEGs as the model saw them, if kept.
    ``shown``: how many of the report's neighbours the models read; ``vote``: share of mounting among the voters."""

    id: str
    name: str
    created_at: str
    report: dict[str, Any]
    frames: tuple[bytes, ...]
    shown: int
    vote: float | None
    clip_path: Path | None
    feedback: Label | None

    @property
    def is_quality(self) -> bool:
        """Whether picture quality was asked about, not mounting."""
        return self.report.get("task") == "quality"

    @property
    def is_picture(self) -> bool:
        """Whether it is about a single picture, which has no length and no player."""
        start_s, end_s = self.report["clip"]["window"]
        return self.is_quality and not end_s > start_s

    @property
    def tone(self) -> str:
        """How its verdict is set off on page and paper, by the name of the mounting task's verdict that looks so: a
        spoilt picture as mounting (look here), a clean one as normal."""
        verdict = str(self.report["verdict"])
        if not self.is_quality or verdict == "unclear":
            return verdict
        return "normal" if verdict == "clean" else "mounting"

    @property
    def voted(self) -> str:
        """The neighbours' vote as whole per cent, for where there is one."""
        return f"{(self.vote or 0.0) * 100:.0f} %"

    def beside(self, variant: Variant) -> Variant | None:
        """The other variant that answered; None where there is none."""
        others = (other for other in self.report["variants"] if other is not variant and not other["error"])
        return next(others, None)

    def left_open(self, variant: Variant) -> float | None:
        """The calibrated probability with which the rule left this variant's verdict open, if it did."""
        return left_open(variant["verdict"], variant.get("p_decided"), self.report["decided_by"]["rule"])


def window_of(told: Mapping[str, Any]) -> Window | None:
    """The span under ``window`` of a report's clip or a reference's metadata; None where there is none."""
    span = told.get("window")
    return Window(float(span[0]), float(span[1])) if isinstance(span, list | tuple) and len(span) == 2 else None


def keep(service: ModelService, report: Report, clip_name: str, hood: Neighbourhood | None) -> str:
    """File a fresh report with the pictures that the screens need; its id in the history."""
    seen = service.view_jpegs if report.task == "quality" else service.frame_jpegs
    extras: dict[str, bytes | Path] = {FRAME.format(index): picture for index, picture in enumerate(seen(report.clip))}
    view = {"shown": len(hood.shown) if hood else 0, "vote": hood.vote if hood else None}
    extras[VIEW] = json.dumps(view).encode()
    clip = Path(report.clip.path).resolve()
    return service.history.add(report.to_json(), clip_name=clip_name, stored_clip=clip, extras=extras)


def load(service: ModelService, report_id: str) -> Entry:
    """The entry ``report_id``; InputError when it is not there (any more)."""
    past = service.history.get(report_id)
    view: dict[str, Any] = {"shown": 2, "vote": None}
    if VIEW in past.extras:
        view = json.loads(past.extras[VIEW].read_bytes())
    frames = tuple(path.read_bytes() for name, path in past.extras.items() if name.endswith(".jpg"))
    return Entry(
        id=past.id,
        name=past.clip_name,
        created_at=past.created_at,
        report=dict(past.report),
        frames=frames,
        shown=int(view["shown"]),
        vote=view["vote"],
        clip_path=past.clip_path,
        feedback=past.feedback,
    )
