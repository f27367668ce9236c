"""Samples to one padded batch, and positions for it.

Loss terms exist for answer tokens only (terminator included). Padding stands on the right; a padded place looks at
itself alone, so that no softmax is empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from services.errors import ModelError
from training.features import ClipFeatures
from training.packing import Branch, Packed, pack


@dataclass(slots=True, eq=False)
class Batch:
    """``input_ids``, ``mm_token_type_ids``: (B, L) int64; ``position_ids``: (3, B, L) int64; ``mask``: (B, 1, L, L)
    bool; ``grid``: (B, 3) int64; ``features``: one for each clip. Loss terms (N,): ``source`` index into the
    flattened (B·L), ``target`` token, ``weight`` (adds up to 1 over the batch), ``branch`` index into ``branches``,
    which are (row, branch) pairs."""

    input_ids: torch.Tensor
    mm_token_type_ids: torch.Tensor
    position_ids: torch.Tensor
    mask: torch.Tensor
    grid: torch.Tensor
    features: list[ClipFeatures]
    source: torch.Tensor
    target: torch.Tensor
    weight: torch.Tensor
    branch: torch.Tensor
    branches: list[tuple[int, Branch]]

    @property
    def tokens(self) -> int:
        """Computed places, padding included."""
        return self.input_ids.numel()


class Collator:
    """``model`` is the Qwen-VL model whose rope rule counts; ``pad`` and ``video`` its token ids."""

    def __init__(self, model: nn.Module, pad: int, video: int, image: int) -> None:
        self._core = model.model
        self._pad = pad
        self._video = video
        self._image = image
        self._positions: dict[tuple[object, ...], tuple[torch.Tensor, int]] = {}

    def __call__(self, branches: Sequence[Sequence[Branch]], features: Sequence[ClipFeatures]) -> Batch:
        """One row for each clip: its ``branches`` packed into one sequence."""
        rows = [pack(group) for group in branches]
        length = max(len(row.ids) for row in rows)
        ids = np.full((len(rows), length), self._pad, np.int64)
        mask = np.zeros((len(rows), 1, length, length), np.bool_)
        mask[:, :, np.arange(length), np.arange(length)] = True
        positions = torch.zeros(3, len(rows), length, dtype=torch.int64)
        for index, (row, item) in enumerate(zip(rows, features, strict=True)):
            size = len(row.ids)
            if int(np.count_nonzero(self._types(row.ids))) != len(item.pooled):
                raise ModelError(
                    f"A clip has {len(item.pooled)} vision features but {np.count_nonzero(self._types(row.ids))} "
                    "placeholders; its questions must share everything up to the video."
                )
            ids[index, :size] = row.ids
            mask[index, 0, :size, :size] = row.mask
            positions[:, index, :size] = self.positions(row, item)
        offsets = np.cumsum([0, *(len(row.branches) for row in rows)])
        return Batch(
            input_ids=torch.from_numpy(ids),
            mm_token_type_ids=torch.from_numpy(self._types(ids)),
            position_ids=positions,
            mask=torch.from_numpy(mask),
            grid=torch.cat([item.grid for item in features]),
            features=list(features),
            source=torch.from_numpy(np.concatenate([row.source + i * length for i, row in enumerate(rows)])),
            target=torch.from_numpy(np.concatenate([row.target for row in rows])),
            weight=torch.from_numpy(np.concatenate([row.weight for row in rows]) / np.float32(len(rows))),
            branch=torch.from_numpy(np.concatenate([row.branch + o for row, o in zip(rows, offsets, strict=False)])),
            branches=[(index, branch) for index, row in enumerate(rows) for branch in row.branches],
        )

    def positions(self, row: Packed, features: ClipFeatures) -> torch.Tensor:
        """(3, L) rope positions. The model's own rule up to the token after the last placeholder, which all branches
        share; from there text counts on by one for each token of its own branch."""
        types = self._types(row.ids)
        media = np.flatnonzero(types)
        head = int(media[-1]) + 2 if len(media) else 1
        key = (types[:head].tobytes(), tuple(features.grid.flatten().tolist()), tuple(features.seconds.tolist()))
        if key not in self._positions:
            found = self._core.get_rope_index(
                torch.from_numpy(row.ids[:head])[None],
                mm_token_type_ids=torch.from_numpy(types[:head])[None],
                video_grid_thw=features.grid if len(media) else None,
                second_per_grid_ts=features.seconds if len(features.seconds) else None,
            )[0][:, 0]
            self._positions[key] = (found, int(found[0, -1]))
        first, last = self._positions[key]
        text = torch.from_numpy(row.depth).expand(3, -1) + (last - (head - 1))
        return torch.cat([first, text[:, head:]], dim=1)

    def _types(self, ids: np.ndarray) -> np.ndarray:
        """Modality of each token as the processor marks it: 0 text, 1 image, 2 video."""
        types: np.ndarray = (ids == self._image) * np.int64(1) + (ids == self._video) * np.int64(2)
        return types
