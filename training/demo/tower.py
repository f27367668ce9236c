"""The vision tower, computed fast: the same mathematics as the stock ``Qwen3VLVisionModel`` on a fixed picture size.

Stock code treats every group of two frames as a sequence of its own and embeds patches by a 3-D convolution; on a CPU
plain batched matrix products over equal groups are about twice as fast. The weights stay those of the stock module.

Pictures are stored as patches, in the processor's order: ``(groups, 112, 1536)`` uint8, one group is two frames of
224 × 128; four neighbouring patches (one merged 32 × 32 block) follow each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers.vision_utils import get_vision_interpolation_indices_and_weights, get_vision_position_ids

PATCH, MERGE, PAIR = 16, 2, 2
GRID = (8, 14)
"""Rows and columns of patches in one 224 × 128 picture."""
HEIGHT, WIDTH = GRID[0] * PATCH, GRID[1] * PATCH
PATCHES, TOKENS = GRID[0] * GRID[1], GRID[0] * GRID[1] // MERGE**2
PATCH_VALUES = 3 * PAIR * PATCH * PATCH

_BLOCKS = (GRID[0] // MERGE, GRID[1] // MERGE)


def patches(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(2·n, 128, 224, 3) uint8 RGB to (n, 112, 1536) uint8 in the processor's order."""
    n = frames.shape[0] // PAIR
    view = frames.reshape(n, PAIR, _BLOCKS[0], MERGE, PATCH, _BLOCKS[1], MERGE, PATCH, 3)
    return np.ascontiguousarray(view.transpose(0, 2, 5, 3, 6, 8, 1, 4, 7)).reshape(n, PATCHES, PATCH_VALUES)


def pictures(stored: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Inverse of ``patches``."""
    n = stored.shape[0]
    view = stored.reshape(n, *_BLOCKS, MERGE, MERGE, 3, PAIR, PATCH, PATCH)
    return np.ascontiguousarray(view.transpose(0, 6, 1, 3, 7, 2, 4, 8, 5)).reshape(n * PAIR, HEIGHT, WIDTH, 3)


def in_patch_order(grid: NDArray[np.generic]) -> NDArray[np.generic]:
    """(…, 8, 14) per-patch values to (…, 112) in the processor's order."""
    lead = grid.shape[:-2]
    view = grid.reshape(*lead, _BLOCKS[0], MERGE, _BLOCKS[1], MERGE)
    axes = (*range(len(lead)), *(len(lead) + axis for axis in (0, 2, 1, 3)))
    return np.ascontiguousarray(view.transpose(axes)).reshape(*lead, PATCHES)


ORDER = torch.from_numpy(in_patch_order(np.arange(PATCHES).reshape(GRID)).astype(np.int64))
"""(112,) int64: row by row, patch ``ORDER[i]`` of the picture is patch ``i`` in the processor's order."""
PLACE = ORDER.argsort()
"""(112,) int64: the inverse."""
MIRROR = PLACE[torch.from_numpy(in_patch_order(np.arange(PATCHES).reshape(GRID)[:, ::-1]).astype(np.int64))]
"""(112,) int64: patch ``i`` of the mirrored picture is patch ``MIRROR[i]`` of the picture, itself mirrored."""


def mirrored(stored: Tensor) -> Tensor:
    """Patches (…, 112, 1536) of the same pictures with left and right exchanged."""
    return stored[..., MIRROR, :].unflatten(-1, (-1, PATCH)).flip(-1).flatten(-2)


def planes(stored: Tensor) -> Tensor:
    """(n, 112, 1536) patches to (n, 6, 128, 224): both pictures' channels, the first one's before the second one's."""
    view = stored.view(-1, *_BLOCKS, MERGE, MERGE, 3, PAIR, PATCH, PATCH)
    return view.permute(0, 6, 5, 1, 3, 7, 2, 4, 8).reshape(len(stored), 3 * PAIR, HEIGHT, WIDTH)


def from_planes(pictures: Tensor) -> Tensor:
    """Inverse of ``planes``."""
    view = pictures.view(-1, PAIR, 3, _BLOCKS[0], MERGE, PATCH, _BLOCKS[1], MERGE, PATCH)
    return view.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(len(pictures), PATCHES, PATCH_VALUES)


def normalised(stored: Tensor) -> Tensor:
    """uint8 patches to the processor's float values, -1…1."""
    return stored.float().mul_(1 / 127.5).sub_(1.0)


@dataclass(frozen=True)
class Seen:
    """What the tower makes of n groups: ``pooled`` and each of ``deep``: (n, 28, 192)."""

    pooled: Tensor
    deep: tuple[Tensor, ...]


class FastTower(nn.Module):
    """Runs the weights of a stock ``Qwen3VLVisionModel`` on (n, 112, 1536) normalised patches."""

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual
        grid = torch.tensor([[1, *GRID]])
        index, weight = get_vision_interpolation_indices_and_weights(
            grid,
            num_grid_per_side=visual.num_grid_per_side,
            mode=visual.interpolation_mode,
            align_corners=visual.interpolation_align_corners,
            spatial_merge_size=MERGE,
            kwargs={},
        )
        cos, sin = visual.rotary_pos_emb(weight, get_vision_position_ids(grid, MERGE, kwargs={}))
        self.register_buffer("index", index, persistent=False)
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("cos", cos[:, None], persistent=False)
        self.register_buffer("sin", sin[:, None], persistent=False)

    def forward(self, x: Tensor) -> Seen:
        visual, n = self.visual, x.shape[0]
        projection = visual.patch_embed.proj
        hidden = nn.functional.linear(x, projection.weight.flatten(1), projection.bias)
        hidden = hidden + (visual.pos_embed(self.index) * self.weight[:, :, None]).sum(1)
        deep: list[Tensor] = []
        for number, block in enumerate(visual.blocks):
            hidden = hidden + self._attention(block.attn, block.norm1(hidden))
            hidden = hidden + block.mlp(block.norm2(hidden))
            if number in visual.deepstack_visual_indexes:
                merger = visual.deepstack_merger_list[len(deep)]
                deep.append(merger(hidden).view(n, TOKENS, -1))
        return Seen(visual.merger(hidden).view(n, TOKENS, -1), tuple(deep))

    def _attention(self, attention: nn.Module, x: Tensor) -> Tensor:
        n, length, width = x.shape
        query, key, value = attention.qkv(x).view(n, length, 3, attention.num_heads, -1).unbind(2)
        query, key = self._turned(query), self._turned(key)
        weights = (query.transpose(1, 2) @ key.permute(0, 2, 3, 1) * attention.scaling).float().softmax(-1)
        mixed = weights.to(value.dtype) @ value.transpose(1, 2)
        return attention.proj(mixed.transpose(1, 2).reshape(n, length, width))

    def _turned(self, x: Tensor) -> Tensor:
        """Rotary position of the stock module."""
        first, second = x.chunk(2, -1)
        cos, sin = self.cos.to(x.dtype), self.sin.to(x.dtype)
        return x * cos + torch.cat((-second, first), -1) * sin
