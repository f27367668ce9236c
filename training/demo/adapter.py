"""Stage ``adapter``: the mounting adapter, by the same training as ``training/Qlora_train.py`` does for anybody.

The only difference is where the pictures come from: the clips are rendered ones whose vision features are cached
already, so nothing is decoded twice. Reference cases in the prompts come from the shipped library's clips.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoProcessor

from agent.prompts import without_times
from services.annotations import Turn
from services.dialog import Dialog, contract
from services.settings import Profile
from training.data import Sample
from training.demo import tower
from training.demo.annotate import stretch
from training.demo.harvest import GROUPS, Stored
from training.demo.references import reason_of
from training.features import ClipFeatures, expansion_for
from training.settings import TrainConfig
from training.trainer import train


def samples(
    stored: Stored, features: NDArray[np.float16], dialog: Dialog, told: Callable[[dict[str, Any]], str]
) -> list[Sample]:
    """The set's clips but for degraded ones as training samples with ready features (clips, 8, 3, 28, width); ``told``
    gives a note's reason."""
    clean = [row for row, note in enumerate(stored.notes) if note["degradation"][0] == "none"]
    return [_sample(stored, features, dialog, row, told(stored.notes[row])) for row in clean]


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


def when(note: dict[str, Any]) -> tuple[Turn, Turn]:
    """The times as a question of their own, asked of every clip: five words learn more from it than the two numbers
    among fifty words of a reason do."""
    return Turn("human", f"<video>\n{WHEN}"), Turn("gpt", f"{stretch(*note['facts']['act']).capitalize()}.")


def _sample(stored: Stored, features: NDArray[np.float16], dialog: Dialog, row: int, reason: str) -> Sample:
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
        conversations=when(note),
        metadata={"light": note["facts"]["light"], "kind": note["facts"]["kind"]},
    )


def fine_tune(
    profile: Profile,
    base: Path,
    output: Path,
    clips: Sequence[tuple[Stored, NDArray[np.float16]]],
    mirrored: Sequence[tuple[Stored, NDArray[np.float16]]],
    library: tuple[Stored, NDArray[np.float16]],
    **settings: Any,
) -> None:
    """Train, or go on training, on the sets ``clips``, and every second clip of them as it is in ``mirrored``, with
    cases from ``library``; each is (set, features). No reason names a side. A mirrored clip has the digest of the
    other, so that both are trained on or held out together.

    The cases are drawn at random, so that neither case nor order says anything about the clip, and the stage does not
    depend on the embedder; they are described as the shipped library describes them."""
    processor = AutoProcessor.from_pretrained(base)
    dialog = Dialog(processor, contract(processor, profile.sampling, profile.min_pixels, profile.max_pixels))
    own = [sample for stored, seen in clips for sample in samples(stored, seen, dialog, taught_reason)]
    own += [sample for stored, seen in mirrored for sample in samples(stored, seen, dialog, taught_reason)[::2]]
    cases = samples(*library, dialog, reason_of)
    config = TrainConfig(
        model=str(base),
        output=output,
        frames=profile.frames,
        window_s=profile.window_s,
        min_pixels=profile.min_pixels,
        max_pixels=profile.max_pixels,
        **settings,
    )
    train(config, own, references=cases, resume=True)
