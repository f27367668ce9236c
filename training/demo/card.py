"""CARD.md of the bundle: data, recipe, time and figures, written from ``figures.json`` and the stages' times."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.demo.harvest import SETS

TIMES = "times.json"
"""Stage to its minutes, kept beside the figures; ``note`` is what somebody who watched it wrote."""

DATA = """\
## Data

Everything was rendered by `python -m training.demo.render`'s renderer (`training/demo/plan.py`, `draw.py`); no picture,
text or weight comes from anywhere else. {sets}

Each clip is seen as 16 frames, evenly spaced from its first to its last, 224 × 128 after the common resize. The frames
of the sets are drawn at those times and (a quarter of the training clips, all clips of library and held-out sets) coded
and decoded as H.264; `evaluation` and the app decode whole files.
"""

RECIPE = """\
## Recipe

1. **vision**: the vision tower alone (4 layers, width 192) predicts per 16 × 16 patch what the simulation knows:
   part, pose class, height, body pitch, facing, motion, overlap, coat, distance, height of the animal's head and its
   gap to the nearest other animal, the animals' centres, at both frames of a group; from the tokens' mean how many
   animals are shown, which of five degradations the picture suffers from, and how strongly. It sees the sets *base*
   and *scenes* (of these two of the eight groups), half of them mirrored, more than half enlarged. *Body pitch comes
   near to the concept of mounting; the tower is helped by it.* {vision_minutes:g} minutes, Muon for matrices, AdamW
   for the rest, two processes.
2. **base**: the text model (4 layers, width 192) on the frozen tower: {steps_align:,} steps of one-moment questions
   about single groups, then {steps:,} steps of whole clips, all of the set *adapter*, which the tower never saw (of
   its own training clips it tells more than of others), half of them mirrored: count, light, who lies, walks, comes
   close, coats, times, captions; what a cow does next to another and when (feeding, sniffing, pushing, …; only of
   clips without mounting), and of every clip whether and when a cow does such a thing; exercises that repeat text, so
   that the words of the verdict and of the picture-quality task exist (an adapter on frozen embeddings cannot write
   words that were never trained; no question names a degradation), and questions in the form of the mounting
   question, with and without reference cases, about *other* things: about what the pictures show (as in serving, the
   more similar case is named first), and, in many wordings and with some sixty words to answer with, about what no
   picture shows, of which only the cases tell something (drawn at random; the first one is right in .85). The mounting
   question is never asked of a clip. In every answer about a clip mounting is plain standing, in captions its
   look-alikes are, too; only the exercises that repeat text hold sentences of that question and of reasons.
3. **embedder**: VideoMAE (2.6 M parameters): short masked reconstruction, then the tower's dense targets, behaviour
   classes and a supervised contrastive loss on the mean of its tokens. Only the 12 of 28 blocks of the picture that
   move most enter the encoder. What is compared are four such vectors, one behind the other: of the whole clip and of
   its three overlapping halves, whose sixteen pictures are those of the whole and those between.
4. **adapter**: NF4 QLoRA by `training/Qlora_train.py`'s own code, rank {rank:g} on the text model's linear layers, in
   three runs. The first: the question of `agent/prompts.py` without and, every second time, also with two cases drawn
   at random from the library and described as it describes them (times are never shown), answers with and without
   reason, and when it happens as a question of its own; reasons state times of mountings only, and nothing of front
   legs and chest. {epochs:g} passes over the sets *adapter* and *steps*, each clip as it is and every second one
   mirrored besides. The second goes on from it (`--start`) with {again:,} clips of *adapter* in one pass, each asked
   both without and with cases, and when it happens behind two cases, in the mounting question's words. The third goes
   on from that, on the same clips, with cases only.
5. **quality**: a second adapter by `training/Qlora_train.py --task quality` itself, on {quality_media:,} degraded
   renders (pictures and clips) of seeds from {quality_seed:,} on, written as files by `python -m
   training.demo.quality_data`: {quality_epochs:g} passes.
6. **calibrate**: logistic regression of the label on the model's logit and the neighbours' vote, per retrieval mode
   and variant; the *unclear* band is the narrowest for which the exact upper 95 % bound of the share of wrong verdicts
   among the answered is at most 2 %, and where there is none (the base), all but the surest 2 % of either side.
"""

LIMITS = """\
## What falls short

{limits}
"""


def write_card(folder: Path, numbers: Mapping[str, float], limits: str | None = None) -> None:
    """Write CARD.md into ``folder`` from the files beside it; ``numbers`` of the recipe by name, ``limits`` defaults to
    the text kept in ``limits.md``."""
    tables = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
    kept = folder / "limits.md"
    limits = limits or (kept.read_text(encoding="utf-8").strip() if kept.exists() else "See the figures.")
    parts = [
        "# The demo bundle\n",
        "Tiny models that know rendered barn clips only. They show how HerdLens works; they are not fit for decisions "
        "about real animals. Written by `python -m training.demo.build --only card`, which measures the figures "
        "anew: those of picture quality by `python -m training.demo.quality_figures`, all others by `python -m "
        "training.demo.figures`, which print them too. They are of held-out seeds (1,000,000 and above; *Label "
        "without the behaviour* of seeds from 500,000 on). Shares have 95 % Wilson intervals (balanced accuracy that "
        "of a share of as many clips), gains a normal one.\n",
        *[_table(title, rows) for title, rows in tables.items()],
        LIMITS.format(limits=limits),
        DATA.format(sets=_sets()),
        RECIPE.format(**numbers),
        _times(folder),
    ]
    (folder / "CARD.md").write_text("\n".join(parts), encoding="utf-8")


def _table(title: str, rows: dict[str, str]) -> str:
    lines = [f"| {name} | {value.replace('|', '/')} |" for name, value in rows.items()]
    return "\n".join([f"## {title}\n", "| what | measured |", "|---|---|", *lines, ""])


def _sets() -> str:
    return " ".join(f"*{s.name}*: {s.clips} clips from seed {s.seed:,}." for s in SETS.values())


def _times(folder: Path) -> str:
    kept = folder / TIMES
    rows: dict[str, dict[str, Any]] = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    lines = [f"| {name} | {row['minutes']} | {row.get('note', '')} |" for name, row in rows.items()]
    return "\n".join(["## Time\n", "| stage | minutes | |", "|---|---|---|", *lines, ""])
