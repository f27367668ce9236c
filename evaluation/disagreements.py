"""The clips on which results disagree, with pictures where the clip is still there."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from evaluation.document import Picture, Run, Section, Table
from evaluation.views import Row, View
from services.errors import HerdLensError
from services.schema import Sampling
from services.video import VideoReader

MOST = 12
FRAMES = 5
_STRIP = Sampling(frames=FRAMES, max_frame_pixels=200 * 120)


def disagreements(found: Sequence[Run], pictures: bool = True) -> Section | None:
    """At most MOST clips: those on which most plain runs are wrong first, then by the gap between probabilities."""
    plain = [run for run in found if not run.is_control and run.views]
    heads = [run.views[0] for run in plain] if len(plain) > 1 else [v for run in plain for v in _told_apart(run)]
    if len(heads) < 2:
        return None
    rows = _rows_by_clip(heads)
    split = {key: row for key, row in rows.items() if len({r.answer for r in row if r}) > 1}
    section = Section("Where results disagree", [f"{len(split)} of {len(rows)} clips got different answers."])
    order = sorted(split, key=lambda key: (-_wrong(split[key]), -_gap(split[key]), key))[:MOST]
    if not order:
        return section
    table = []
    for key in order:
        known = next(row for row in split[key] if row)
        about = known.record.metadata.get("kind", "")
        table.append((known.record.video, known.truth, str(about), *(_cell(row) for row in split[key])))
    section.tables.append(Table(("clip", "truth", "kind", *(view.title for view in heads)), tuple(table)))
    if len(split) > MOST:
        section.remarks.append(f"The {MOST} clips with most wrong answers are shown.")
    if pictures:
        section.pictures += _strips([next(row for row in split[key] if row) for key in order])
    return section


def _told_apart(run: Run) -> list[View]:
    """Of a single run the headline view, and the other variant's under the same reading."""
    return [view for view in run.views if view.reading == run.views[0].reading]


def _rows_by_clip(heads: Sequence[View]) -> dict[str, list[Row | None]]:
    """Rows of the clips that at least two views saw, one place for each view."""
    by_view = [{row.key: row for row in view.rows} for view in heads]
    keys = dict.fromkeys(key for rows in by_view for key in rows)
    found = {key: [rows.get(key) for rows in by_view] for key in keys}
    return {key: rows for key, rows in found.items() if sum(row is not None for row in rows) > 1}


def _wrong(rows: Sequence[Row | None]) -> int:
    return sum(row is not None and not row.right for row in rows)


def _gap(rows: Sequence[Row | None]) -> float:
    p = [row.p for row in rows if row is not None and row.p is not None]
    return max(p) - min(p) if p else 0.0


def _cell(row: Row | None) -> str:
    if row is None:
        return "–"
    return row.answer if row.p is None else f"{row.answer} ({row.p:.2f})"


def _strips(rows: Sequence[Row]) -> list[Picture]:
    """A strip of frames for each clip that can still be read."""
    reader = VideoReader()
    found: list[Picture] = []
    try:
        for row in rows:
            path = Path(row.record.path)
            if not row.record.path or not path.is_file():
                continue
            try:
                _, frames = reader.open(str(path), _STRIP, None, threading.Event())
            except HerdLensError:
                continue  # a clip that has become unreadable has no picture; the table still names it
            done, data = cv2.imencode(".jpg", np.hstack(list(frames.rgb))[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
            if done:
                name = f"clip_{len(found) + 1:02}.jpg"
                found.append(Picture(name, data.tobytes(), f"{row.record.video}: {row.truth}"))
    finally:
        reader.close()
    return found
