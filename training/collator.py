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

from services.annotations import MediaKind
from services.errors import ModelError
from training.features import ClipFeatures
from training.packing import Branch, Ints, Packed, pack


@dataclass(slots=True, eq=False)
class Batch:
    """``input_ids``, ``mm_token_type_ids``: (B, L) int64; ``position_ids``: (3, B, L) int64; ``mask``: (B, 1, L, L)
    bool; ``features``: of every clip and image, in the order of their placeholders. Loss terms (N,): ``source`` index
    into the flattened (B·L), ``target`` token, ``weight`` (adds up to 1 over the batch), ``branch`` index into
    ``branches``, which are (row, branch) pairs."""

    input_ids: torch.Tensor
    mm_token_type_ids: torch.Tensor
    position_ids: torch.Tensor
    mask: torch.Tensor
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

    def __call__(self, branches: Sequence[Sequence[Branch]], features: Sequence[Sequence[ClipFeatures]]) -> Batch:
        """One row for each sample: its ``branches`` packed into one sequence, with the ``features`` of its media."""
        rows = [pack(group) for group in branches]
        length = max(len(row.ids) for row in rows)
        ids = np.full((len(rows), length), self._pad, np.int64)
        mask = np.zeros((len(rows), 1, length, length), np.bool_)
        mask[:, :, np.arange(length), np.arange(length)] = True
        positions = torch.zeros(3, len(rows), length, dtype=torch.int64)
        shown: list[ClipFeatures] = []
        for index, (row, media) in enumerate(zip(rows, features, strict=True)):
            size = len(row.ids)
            ids[index, :size] = row.ids
            mask[index, 0, :size, :size] = row.mask
            positions[:, index, :size], seen = self._placed(row, media)
            shown += seen
        offsets = np.cumsum([0, *(len(row.branches) for row in rows)])
        return Batch(
            input_ids=torch.from_numpy(ids),
            mm_token_type_ids=torch.from_numpy(self._types(ids)),
            position_ids=positions,
            mask=torch.from_numpy(mask),
            features=shown,
            source=torch.from_numpy(np.concatenate([row.source + i * length for i, row in enumerate(rows)])),
            target=torch.from_numpy(np.concatenate([row.target for row in rows])),
            weight=torch.from_numpy(np.concatenate([row.weight for row in rows]) / np.float32(len(rows))),
            branch=torch.from_numpy(np.concatenate([row.branch + o for row, o in zip(rows, offsets, strict=False)])),
            branches=[(index, branch) for index, row in enumerate(rows) for branch in row.branches],
        )

    def _placed(self, row: Packed, media: Sequence[ClipFeatures]) -> tuple[torch.Tensor, list[ClipFeatures]]:
        """(3, L) rope positions of a packed row, and the media that its placeholders stand for, in their order. Each
        branch begins with some of ``media``; what it does not share with an earlier branch shows its own again."""
        ends = np.cumsum([0, *(len(item.pooled) for item in media)]).tolist()
        filled = np.zeros(len(row.ids), np.bool_)
        positions = torch.zeros(3, len(row.ids), dtype=torch.int64)
        shown: list[ClipFeatures] = []
        for branch, path in zip(row.branches, row.paths, strict=True):
            seen = self._types(branch.ids) > 0
            shared, whole = int(np.count_nonzero(seen & filled[path])), int(np.count_nonzero(seen))
            if shared not in ends or whole not in ends:
                raise ModelError(
                    f"A question has {whole} placeholders for media of {ends[1:]} vision features; the base's "
                    "processor and its vision tower disagree."
                )
            shown += media[ends.index(shared) : ends.index(whole)]
            positions[:, path] = self._along(branch.ids, media[: ends.index(whole)])
            filled[path] = True
        return positions, shown

    def _along(self, ids: Ints, media: Sequence[ClipFeatures]) -> torch.Tensor:
        """(3, L) positions of one branch: the model's own rule up to the token after the last placeholder (remembered:
        the questions about one clip share that part), then text counts on by one."""
        types = self._types(ids)
        places = np.flatnonzero(types)
        head = int(places[-1]) + 2 if len(places) else 1
        facts = [(m.kind, tuple(m.grid.flatten().tolist()), tuple(m.seconds.tolist())) for m in media]
        key = (types[:head].tobytes(), *facts)
        if key not in self._positions:
            seconds = [item.seconds for item in media if len(item.seconds)]
            found = self._core.get_rope_index(
                torch.from_numpy(ids[:head])[None],
                mm_token_type_ids=torch.from_numpy(types[:head])[None],
                image_grid_thw=_grids(media, "image"),
                video_grid_thw=_grids(media, "video"),
                second_per_grid_ts=torch.cat(seconds) if seconds else None,
            )[0][:, 0]
            self._positions[key] = (found, int(found[0, -1]))
        first, last = self._positions[key]
        text = torch.arange(last + 1, last + 1 + len(ids) - head).expand(3, -1)
        return torch.cat([first, text], dim=1)

    def _types(self, ids: np.ndarray) -> np.ndarray:
        """Modality of each token as the processor marks it: 0 text, 1 image, 2 video."""
        types: np.ndarray = (ids == self._image) * np.int64(1) + (ids == self._video) * np.int64(2)
        return types


def _grids(media: Sequence[ClipFeatures], kind: MediaKind) -> torch.Tensor | None:
    """(N, 3) grids of the media of ``kind``; None when there are none."""
    found = [item.grid for item in media if item.kind == kind]
    return torch.cat(found) if found else None
