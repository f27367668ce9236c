"""What the shipped bundle answers to a few held-out clips, kept beside the card: ``known_answers.json``.

The card's figures are of hundreds of clips and take long; whoever changes prompts, retrieval, scoring or preprocessing
sees by these, within a minute, whether the program still gives the answers that the card was made with.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from services.model_service import ModelService
from services.schema import Request, RetrievalMode
from training.demo.bundle import reported
from training.demo.coding import coded
from training.demo.draw import draw_frames
from training.demo.plan import ClipPlan, plan_clip
from training.demo.render import frame_times

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
    """Draw the clips and send each through the agent in both modes, as the app does. They are coded without loss,
    because what x264 loses differs from run to run, and with it words that are as likely as others."""
    found = []
    with tempfile.TemporaryDirectory() as name:
        for seed in range(SEED, SEED + CLIPS):
            plan = plan_clip(seed)
            times = frame_times(plan)
            clip = Path(name) / f"{seed}.mp4"
            clip.write_bytes(coded(draw_frames(plan, times), crf=0, preset="veryfast", times_s=times))
            found += [_answer(service, clip, plan, mode) for mode in MODES]
    return found


def _answer(service: ModelService, clip: Path, plan: ClipPlan, mode: RetrievalMode) -> Known:
    report = reported(service, Request(str(clip), ("base", "tuned"), retrieval=mode))
    return Known(
        plan.seed,
        plan.label,
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
