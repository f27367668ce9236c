"""What the shipped bundle answers to a few held-out clips, kept beside the card: ``known_answers.json``.

The card's figures are of hundreds of clips and take long; whoever changes prompts, retrieval, scoring or preprocessing
sees by these, within a minute, whether the program still gives the answers that the card was made with.
"""

from __future__ import annotations

import json
import tempfile
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent.events import Finished
from agent.graph import analyze
from services.model_service import ModelService
from services.schema import Request, RetrievalMode
from training.demo.render import render

SEED, CLIPS = 1_700_000, 16
MODES: tuple[RetrievalMode, ...] = ("off", "contrastive")
FILE = "known_answers.json"


@dataclass(frozen=True, slots=True)
class Known:
    """The answer to the clip of ``seed``: the report's verdict, and per variant the uncalibrated probability of
    mounting and the written text."""

    seed: int
    label: str
    retrieval: str
    verdict: str
    p_mounting: dict[str, float]
    text: dict[str, str]


def answered(service: ModelService) -> list[Known]:
    """Render the clips and send each through the agent in both modes, as the app does."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        entries, _ = render(CLIPS, SEED, folder, choices={}, quiet=True)
        return [_answer(service, folder, entry, mode) for entry in entries for mode in MODES]


def _answer(service: ModelService, folder: Path, entry: dict[str, Any], mode: RetrievalMode) -> Known:
    request = Request(str(folder / entry["video"]), ("base", "tuned"), retrieval=mode)
    events = list(analyze(request, service, threading.Event()))
    (report,) = [event.report for event in events if isinstance(event, Finished)]
    facts = entry["metadata"]
    return Known(
        facts["seed"],
        facts["label"],
        mode,
        report.verdict,
        {v.name: round(v.p_mounting or 0.0, 4) for v in report.variants},
        {v.name: v.answer for v in report.variants},
    )


def write(service: ModelService, folder: Path) -> None:
    rows = [asdict(row) for row in answered(service)]
    (folder / FILE).write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read(folder: Path) -> list[Known]:
    return [Known(**row) for row in json.loads((folder / FILE).read_text(encoding="utf-8"))]
