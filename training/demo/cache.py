"""What the frozen vision tower makes of each stored clip, kept for the stages that train on it or measure with it.

``features-<tower>-<precision>.npy`` beside a set's patches: (N, 8, 3, 28, 192) float16: per group of frames the pooled
tokens and both deepstack levels, as the stock tower computes them from the saved (bfloat16-rounded) weights, multiplied
in bfloat16 where the CPU does that, else in float32; the name carries both and the digest of the tower's weights, so
that nothing stale is read.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import Qwen3VLForConditionalGeneration

from training.demo import tower
from training.demo.harvest import GROUPS, Stored
from training.demo.progress import Progress
from training.features import tower_digest
from training.precision import cpu_autocast, multiplied


def features(base: Path, stored: Stored, batch: int = 16, *, mirrored: bool = False) -> NDArray[np.float16]:
    """The set's features, or those of its pictures with left and right exchanged, computed with the tower of ``base``
    where they are not there yet, or only of fewer clips."""
    model = Qwen3VLForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
    path = stored.folder / f"features-{tower_digest(model)[:16]}-{multiplied()}{'-mirrored' if mirrored else ''}.npy"
    if path.exists() and len(kept := np.load(path, mmap_mode="r")) >= len(stored):
        return kept[: len(stored)]
    part = path.with_suffix(".part")
    shape = (len(stored), GROUPS, 3, tower.TOKENS, model.config.vision_config.out_hidden_size)
    out = np.lib.format.open_memmap(part, "w+", np.float16, shape)
    progress = Progress(f"features of {stored.folder.name}", len(stored))
    for first in range(0, len(stored), batch):
        last = min(first + batch, len(stored))
        patches = np.array(stored.patches[first:last])
        if mirrored:
            patches = tower.mirrored(torch.from_numpy(patches)).numpy()
        out[first:last] = features_of(model, patches)
        progress.step(count=last - first)
    out.flush()
    part.replace(path)
    return np.load(path, mmap_mode="r")


def features_of(model: Qwen3VLForConditionalGeneration, patches: NDArray[np.uint8]) -> NDArray[np.float16]:
    """(n, 8, 3, 28, width) float16 of stored patches (n, 8, 112, 1536)."""
    fast = tower.FastTower(model.model.visual).eval()
    with torch.inference_mode(), cpu_autocast():
        seen = fast(tower.normalised(torch.from_numpy(patches).flatten(0, 1)))
    stacked = torch.stack([seen.pooled, *seen.deep], 1).to(torch.float16)
    return np.asarray(stacked.view(len(patches), GROUPS, *stacked.shape[1:]).numpy())
