"""Result files with known answers, for what works on results without any model."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from agent.verdict import combine
from evaluation.records import CaseRecord, ClipRecord, ResultFile, RunSettings, VariantRecord
from services.schema import Calibration

KINDS = {"mounting": ("full", "brief"), "normal": ("chin_resting", "walking_past")}


def made_result(
    n: int = 60, *, sharpness: float = 2.0, seed: int = 0, mode: str = "ensemble", **settings: Any
) -> ResultFile:
    """``n`` clips, every other one mounting. The tuned model's logit is ±``sharpness`` plus noise, the base's noise
    alone; the vote points the right way for four clips in five."""
    rng = np.random.default_rng(seed)
    retrieval = settings.setdefault("retrieval", "contrastive")
    clips = []
    for i in range(n):
        truth = "mounting" if i % 2 else "normal"
        sign = 1 if truth == "mounting" else -1
        vote = None if retrieval == "off" else float(np.clip(0.5 + sign * (0.3 if i % 5 else -0.3), 0, 1))
        if settings.get("swap_labels") and vote is not None:
            vote = 1 - vote
        variants = tuple(
            made_variant(name, sign * sharpness * (name == "tuned") + float(rng.normal()), vote, settings)
            for name in ("base", "tuned")
        )
        first = truth if i % 5 else ("normal" if truth == "mounting" else "mounting")
        shown = (
            () if retrieval == "off" else (CaseRecord(id=f"ref{i}", label=first, similarity=0.9, description="a case"),)
        )
        clips.append(
            ClipRecord(
                video=f"clip_{i:04}.mp4",
                truth=truth,
                sha256=f"{i:064x}",
                vote=vote,
                shown=shown,
                speaker="tuned",
                metadata={
                    "kind": KINDS[truth][i % 4 // 2],
                    "light": ("day", "night")[i % 3 == 0],
                    "difficulty": "easy",
                },
                verdict=variants[1].verdict,
                p_mounting=variants[1].p_final,
                variants=variants,
                seconds={"inspect_s": 0.1, "retrieve_s": 0.1, "classify_s": 0.4, "total_s": 0.6},
            )
        )
    return ResultFile(
        settings=RunSettings(
            mode=mode,
            data="made",
            data_sha256="0" * 64,
            variants=("base", "tuned"),
            profile="demo",
            neighbours=9,
            **settings,
        ),
        digests={"base": "b" * 64},
        versions={"python": "3.11"},
        clips=tuple(clips),
    )


def made_variant(name: str, logit: float, vote: float | None, settings: dict[str, Any]) -> VariantRecord:
    p = 1 / (1 + math.exp(-logit))
    final = combine(p, vote, Calibration(weight_vote=0.5))
    verdict = "mounting" if final >= 0.75 else "normal" if final <= 0.25 else "unclear"
    text = "unparsed" if settings.get("scored_only") else "mounting" if p >= 0.5 else "normal"
    return VariantRecord(
        name=name, scores=(logit - 5, -5.0), p_model=p, p_final=final, verdict=verdict, text_verdict=text, tokens=40,
        seconds=0.4, answer="…",
    )  # fmt: skip
