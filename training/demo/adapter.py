"""Stage ``adapter``: the mounting adapter, by the same training as ``training/Qlora_train.py`` does for anybody.

Three runs: the first asks without cases and, every second time, also with two; the others go on from the one before,
asking both ways, and with cases only. After the first alone, what is told with cases has the wrong times: such answers
carried a quarter of the weight, and how far one stands behind the video differs from question to question.

The only difference is where the pictures come from: the clips are rendered ones whose vision features are cached
already, so nothing is decoded twice. Reference cases in the prompts come from the shipped library's clips.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoProcessor

from agent.prompts import TASK, compared, without_times
from services.annotations import Turn
from services.dialog import Dialog, contract
from services.schema import LABELS
from services.settings import Profile
from training.data import Sample
from training.demo import tower
from training.demo.annotate import stretch
from training.demo.harvest import GROUPS, Stored
from training.demo.references import reason_of
from training.features import ClipFeatures, expansion_for
from training.settings import TrainConfig
from training.trainer import train

Set = tuple[Stored, NDArray[np.float16]]
"""Clips with ready features (clips, 8, 3, 28, width)."""
Turns = tuple[Turn, ...]


def samples(
    clips: Set,
    dialog: Dialog,
    told: Callable[[dict[str, Any]], str],
    besides: Callable[[dict[str, Any]], Turns] = lambda _: (),
) -> list[Sample]:
    """The set's clips but for degraded ones as training samples; ``told`` gives a note's reason, ``besides`` what is
    asked of it besides the mounting question."""
    stored, features = clips
    clean = [row for row, note in enumerate(stored.notes) if note["degradation"][0] == "none"]
    notes = stored.notes
    return [_sample(stored, features, dialog, row, told(notes[row]), besides(notes[row])) for row in clean]


def digest(stored: Stored, note: dict[str, Any]) -> str:
    """Identity of a rendered clip: what it was rendered from."""
    return hashlib.sha256(f"{stored.folder.name}:{note['seed']}".encode()).hexdigest()


_FEET = re.compile(r" Its? [^.]*(?:legs|chest)[^.]*\.$")


def taught_reason(note: dict[str, Any]) -> str:
    """The annotation's reason without the sentence about front legs and chest, which follows from the rest of it; of a
    normal clip also without the times. What a cow does there has often neither a clear beginning nor an end, nothing
    follows from them, and an adapter that stated them was mostly wrong."""
    reason = _FEET.sub("", reason_of(note))
    return reason if note["facts"]["label"] == "mounting" else without_times(reason)


WHEN = "When does it happen?"


def when(note: dict[str, Any]) -> Turns:
    """The times as a question of their own, asked of every clip: five words learn more from it than the two numbers
    among fifty words of a reason do."""
    return _when(note, WHEN)


def when_with_cases(cases: Sequence[dict[str, Any]], seed: int = 0) -> Callable[[dict[str, Any]], Turns]:
    """The same behind the mounting question's own words and one case of each label drawn from the notes ``cases``, so
    that it stands as far behind the video as the reason that is to tell the times."""
    known = {label: [note for note in cases if note["facts"]["label"] == label] for label in LABELS}

    def asked(note: dict[str, Any]) -> Turns:
        chance = random.Random(f"{seed}:{note['seed']}")
        shown = [(label, reason_of(chance.choice(known[label]))) for label in LABELS]
        chance.shuffle(shown)
        return _when(note, f"{TASK}\n{compared(shown)}\n{WHEN}")

    return asked


def _when(note: dict[str, Any], question: str) -> Turns:
    return Turn("human", f"<video>\n{question}"), Turn("gpt", f"{stretch(*note['facts']['act']).capitalize()}.")


def _sample(
    stored: Stored, features: NDArray[np.float16], dialog: Dialog, row: int, reason: str, besides: Turns
) -> Sample:
    note = stored.notes[row]
    grid = torch.tensor([[GROUPS, *tower.GRID]])
    expansion = expansion_for(dialog, np.asarray(note["times_s"]), grid)

    def seen() -> ClipFeatures:
        levels = torch.from_numpy(np.asarray(features[row], np.float32)).transpose(0, 1).flatten(1, 2)
        return ClipFeatures(levels[0], levels[1:], grid, expansion)

    return Sample(
        digest=digest(stored, note),
        features=seen,
        label=note["facts"]["label"],
        reason=reason,
        conversations=besides,
        metadata={"light": note["facts"]["light"], "kind": note["facts"]["kind"]},
    )


def fine_tune(
    profile: Profile, base: Path, output: Path, clips: Sequence[Set], mirrored: Sequence[Set], library: Set, **own: Any
) -> None:
    """The first run, or what is left of it: the sets ``clips``, and every second clip of them as it is in ``mirrored``;
    settings of the run as of ``TrainConfig``. No reason names a side. A mirrored clip has the digest of the other, so
    that both are trained on or held out together.

    The cases come from ``library``, drawn at random, so that neither case nor order says anything about the clip, and
    the stage does not depend on the embedder; they are described as the shipped library describes them."""
    dialog = _dialog(profile, base)
    taught = [sample for known in clips for sample in samples(known, dialog, taught_reason, when)]
    taught += [sample for known in mirrored for sample in samples(known, dialog, taught_reason, when)[::2]]
    _train(profile, base, output, taught, samples(library, dialog, reason_of), **own)


def go_on_with_cases(
    profile: Profile, base: Path, output: Path, clips: Set, library: Set, *, seed: int, **own: Any
) -> None:
    """A later run, on the set ``clips``, or what is left of it; the settings name the adapter to ``start`` from. The
    cases are drawn as in the first one."""
    dialog = _dialog(profile, base)
    taught = samples(clips, dialog, taught_reason, when_with_cases(library[0].notes, seed))
    _train(profile, base, output, taught, samples(library, dialog, reason_of), seed=seed, **own)


def _dialog(profile: Profile, base: Path) -> Dialog:
    processor = AutoProcessor.from_pretrained(base)
    return Dialog(processor, contract(processor, profile.sampling, profile.min_pixels, profile.max_pixels))


def _train(
    profile: Profile, base: Path, output: Path, taught: Sequence[Sample], cases: Sequence[Sample], **own: Any
) -> None:
    config = TrainConfig(
        model=str(base),
        output=output,
        frames=profile.frames,
        window_s=profile.window_s,
        min_pixels=profile.min_pixels,
        max_pixels=profile.max_pixels,
        **own,
    )
    train(config, taught, references=cases, resume=True)
