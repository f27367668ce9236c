"""Stage ``embedder``: a tiny VideoMAE whose neighbours share behaviour rather than light.

Masked reconstruction alone gives chance-level retrieval at this budget, so it only warms the model up; then every
token predicts what the simulation knows of its 32 × 32 pixels (the vision tower's dense targets), and the mean of the
tokens, which is the embedding, learns the behaviour by class and by a supervised contrastive loss. All heads are
thrown away.

``python -m training.demo.video_mae`` runs the stage alone.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as fn
from transformers import VideoMAEConfig, VideoMAEModel, VideoMAEVideoProcessor

from services.moving_blocks import moving_blocks
from services.spans import positions
from training.demo import tower
from training.demo.harvest import GROUPS, WORK, Stored, opened
from training.demo.plan import KINDS
from training.demo.progress import Progress
from training.demo.vision import CLASSES, Heads, schedule
from training.demo.vision import loss_of as dense_loss
from training.precision import cpu_autocast, cpu_dtype

BLOCK = 32
SHOWN = 12
"""Blocks of the picture (of 28) that enter the encoder: those that move most over the clip."""
TEMPERATURE = 0.1


@dataclass(frozen=True)
class Settings:
    minutes_masked: float = 0.7
    minutes: float = 14.0
    batch: int = 48
    rate: float = 1e-3
    matrix_rate: float = 0.01
    masked: float = 0.75
    seed: int = 0
    threads: int = 1


def configuration() -> VideoMAEConfig:
    """16 frames of 224 × 128 in blocks of 2 × 32 × 32: 224 tokens, 2.6 M parameters."""
    return VideoMAEConfig(
        image_size=[tower.HEIGHT, tower.WIDTH],
        patch_size=BLOCK,
        num_frames=2 * GROUPS,
        tubelet_size=2,
        hidden_size=192,
        num_hidden_layers=4,
        num_attention_heads=3,
        intermediate_size=512,
    )


def picture_processor() -> VideoMAEVideoProcessor:
    """Resizes like the common rule for the demo's own clips (bicubic to 224 × 128), no crop."""
    return VideoMAEVideoProcessor(
        size={"height": tower.HEIGHT, "width": tower.WIDTH},
        do_center_crop=False,
        resample=3,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )


class Encoder(nn.Module):
    """Runs a stock ``VideoMAEModel`` on stored patches; same mathematics, its convolution as a matrix product."""

    def __init__(self, model: VideoMAEModel) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("places", model.embeddings.position_embeddings.clone(), persistent=False)

    def forward(self, blocks: Tensor, tokens: Tensor) -> Tensor:
        """Normalised blocks (n, k, 6144) and which of the 224 tokens they are (n, k) to the last hidden state
        (n, k, 192)."""
        projection = self.model.embeddings.patch_embeddings.projection
        half = BLOCK // 2
        weight = projection.weight.view(-1, 3, 2, 2, half, 2, half).permute(0, 3, 5, 1, 2, 4, 6).flatten(1)
        embedded = fn.linear(blocks, weight, projection.bias) + self.places[0][tokens]
        hidden: Tensor = self.model.encoder(embedded).last_hidden_state
        return hidden if self.model.layernorm is None else self.model.layernorm(hidden)


def blocks_of(patches: NDArray[np.uint8], shown: NDArray[np.int64]) -> NDArray[np.uint8]:
    """(8 · SHOWN, 6144) the chosen blocks of one stored clip (8, 112, 1536), group after group."""
    return patches.reshape(GROUPS, tower.TOKENS, -1)[:, shown].reshape(GROUPS * len(shown), -1)


def moving(patches: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(SHOWN,) blocks of one stored clip (8, 112, 1536) that move most, as ``services.embedder`` chooses them."""
    return moving_blocks(tower.pictures(patches), BLOCK, SHOWN)


def tokens_of(shown: NDArray[np.int64]) -> Tensor:
    """(n, SHOWN) blocks to (n, 8 · SHOWN) tokens: the same blocks at every time."""
    steps = np.arange(GROUPS)[None, :, None] * tower.TOKENS
    return torch.from_numpy((shown[:, None] + steps).reshape(len(shown), -1))


def moving_of(stored: Stored) -> NDArray[np.int64]:
    """(N, SHOWN) of a set, kept beside its patches; found anew where they are there of fewer clips."""
    path = stored.folder / f"moving-{SHOWN}.npy"
    if path.exists() and len(kept := np.load(path)) >= len(stored):
        return np.asarray(kept[: len(stored)])
    found = np.stack([moving(np.asarray(patches)) for patches in stored.patches[: len(stored)]])
    with path.with_suffix(".part").open("wb") as part:
        np.save(part, found)
    path.with_suffix(".part").replace(path)
    return found


class Teacher(nn.Module):
    """All heads that are thrown away. The norms keep them indifferent to the scale of the hidden state, which the
    embedding (scaled to length 1) does not fix and which Muon lets grow."""

    def __init__(self, width: int, channels: dict[str, int]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mean_norm = nn.LayerNorm(width)
        self.dense = Heads(width, channels)
        self.kind = nn.Linear(width, len(KINDS))
        self.label = nn.Linear(width, 2)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.mixer = nn.TransformerEncoderLayer(
            width, 3, 384, batch_first=True, norm_first=True, activation="gelu", dropout=0.0
        )
        self.pixels = nn.Linear(width, tower.PATCH_VALUES * 4)


class Clips:
    """Random batches of clips; the light is varied and pictures are mirrored."""

    def __init__(self, sets: list[Stored], seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.rows = [(s, i) for s in sets for i, note in enumerate(s.notes) if note["degradation"][0] == "none"]
        self.shown = {id(s): moving_of(s) for s in sets}
        self.names = sorted(next(s for s in sets if s.targets).targets)
        self.order: list[int] = []

    def channels(self) -> dict[str, int]:
        first = next(s for s, _ in self.rows if s.targets)
        return {name: first.targets[name].shape[2] * CLASSES.get(name, 1) for name in self.names}

    def batch(self, size: int) -> tuple[Tensor, Tensor, dict[str, Tensor], Tensor, Tensor, Tensor]:
        """Blocks (n, k, 6144) of ``cpu_dtype``, which tokens they are (n, k), dense targets (n, k, C, 4), if a clip has
        them (n,), kind (n,), label (n,)."""
        if len(self.order) < size:
            self.order = self.random.permutation(len(self.rows)).tolist()
        chosen = [self.rows[self.order.pop()] for _ in range(size)]
        shown = [self.shown[id(s)][i] for s, i in chosen]
        raw = torch.from_numpy(
            np.stack([blocks_of(s.patches[i], own) for (s, i), own in zip(chosen, shown, strict=True)])
        )
        targets = {
            name: torch.from_numpy(
                np.stack([self._target(s, name, i, w) for (s, i), w in zip(chosen, shown, strict=True)])
            )
            for name in self.names
        }
        targets = {name: value.float() for name, value in targets.items()}
        flip = self.random.random(size) < 0.5
        _mirror(raw, targets, torch.from_numpy(flip.nonzero()[0]))
        rows, columns = np.divmod(np.stack(shown), tower.GRID[1] // 2)
        turned = rows * (tower.GRID[1] // 2) + tower.GRID[1] // 2 - 1 - columns
        tokens = tokens_of(np.where(flip[:, None], turned, np.stack(shown)))
        dtype = cpu_dtype()
        gain = torch.from_numpy(self.random.uniform(0.7, 1.4, (size, 1, 1)) / 127.5).to(dtype)
        shift = torch.from_numpy(self.random.uniform(-0.15, 0.15, (size, 1, 1)) - 1.0).to(dtype)
        x = raw.to(dtype).mul_(gain).add_(shift).clamp_(-1.0, 1.0)
        facts = [s.notes[i]["facts"] for s, i in chosen]
        kind = torch.tensor([KINDS.index(f["kind"]) for f in facts])
        label = torch.tensor([int(f["label"] == "mounting") for f in facts])
        return x, tokens, targets, torch.tensor([bool(s.targets) for s, _ in chosen]), kind, label

    def _target(self, stored: Stored, name: str, row: int, shown: NDArray[np.int64]) -> NDArray[np.float16]:
        """(k, C, 4) dense targets of the chosen blocks; zeros where the set has none."""
        if not stored.targets:
            channels = next(s for s, _ in self.rows if s.targets).targets[name].shape[2]
            return np.zeros((GROUPS * len(shown), channels, 4), np.float16)
        value = stored.targets[name][row]
        each = value.reshape(GROUPS, value.shape[1], tower.TOKENS, 4)[:, :, shown]
        return np.ascontiguousarray(each.transpose(0, 2, 1, 3)).reshape(-1, value.shape[1], 4)


def _mirror(blocks: Tensor, targets: dict[str, Tensor], rows: Tensor) -> None:
    """Mirror these clips in place, each block in itself."""
    if not len(rows):
        return
    half = BLOCK // 2
    view = blocks[rows].view(len(rows), blocks.shape[1], 2, 2, -1, half)
    blocks[rows] = view.flip(3, 5).reshape(len(rows), blocks.shape[1], -1)
    for name, value in targets.items():
        turned = value[rows][..., [1, 0, 3, 2]]
        if name in ("facing", "motion"):
            turned[:, :, 0::2] *= -1.0
        value[rows] = turned


def contrastive(vectors: Tensor, kind: Tensor, label: Tensor) -> Tensor:
    """Supervised contrastive loss on rows of length 1: same label attracts, same kind twice as much."""
    n = len(vectors)
    similar = vectors @ vectors.T / TEMPERATURE
    itself = torch.eye(n, dtype=torch.bool)
    log_share = similar - similar.masked_fill(itself, -torch.inf).logsumexp(1, keepdim=True)
    weight = (label[:, None] == label[None]).float() + (kind[:, None] == kind[None]).float()
    weight = weight.masked_fill(itself, 0.0)
    return -((weight * log_share).sum(1) / weight.sum(1).clamp(min=1)).mean()


def masked_loss(encoder: Encoder, teacher: Teacher, x: Tensor, tokens: Tensor, share: float) -> Tensor:
    """Reconstruct some of the hidden ones among the blocks that enter, each scaled to mean 0 and variance 1."""
    n, count = tokens.shape
    kept = int(count * (1 - share))
    order = torch.rand(n, count).argsort(1)
    row = torch.arange(n)[:, None]
    first, some = order[:, :kept], order[:, kept : kept + 16]
    keep, hide = tokens[row, first], tokens[row, some]
    seen = teacher.norm(encoder(x[row, first], keep)) + encoder.places[0][keep]
    mixed = teacher.mixer(torch.cat([seen, teacher.mask_token + encoder.places[0][hide]], 1))[:, kept:]
    want = x[row, some].float()
    want = (want - want.mean(-1, keepdim=True)) / (want.var(-1, keepdim=True) + 1e-3).sqrt()
    return fn.mse_loss(teacher.pixels(mixed).float(), want)


def state_loss(encoder: Encoder, teacher: Teacher, batch: tuple[Any, ...]) -> dict[str, Tensor]:
    """Dense targets of the blocks that entered, kind, label and contrast."""
    x, tokens, targets, has, kind, label = batch
    hidden = encoder(x, tokens)
    losses = {}
    if has.any():
        own = {name: value[has].flatten(0, 1) for name, value in targets.items()}
        seen = teacher.norm(hidden[has]).flatten(0, 1)[:, None]
        nothing = torch.zeros(len(seen), dtype=torch.long)
        dense = dense_loss(teacher.dense, seen, own, nothing, nothing.float())
        losses["dense"] = sum((v for k, v in dense.items() if k not in ("kind", "level", "count")), torch.zeros(()))
    mean = hidden.float().mean(1)
    scaled = teacher.mean_norm(mean)
    losses["kind"] = fn.cross_entropy(teacher.kind(scaled).float(), kind)
    losses["label"] = fn.cross_entropy(teacher.label(scaled).float(), label)
    losses["contrast"] = contrastive(fn.normalize(mean, dim=1), kind, label)
    return losses


def train(sets: list[Stored], settings: Settings) -> VideoMAEModel:
    """A trained model."""
    torch.manual_seed(settings.seed)
    torch.set_num_threads(settings.threads)
    model = VideoMAEModel(configuration())
    clips = Clips(sets, settings.seed)
    encoder, teacher = Encoder(model), Teacher(192, clips.channels())
    whole = nn.ModuleDict({"encoder": encoder, "teacher": teacher})
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "layer" in n]
    inner = {id(p) for p in matrices}
    others = [p for p in whole.parameters() if id(p) not in inner]
    opts: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, lr=settings.matrix_rate, weight_decay=0.05),
        torch.optim.AdamW(others, lr=settings.rate, weight_decay=0.02, betas=(0.9, 0.98), fused=True),
    ]
    rates = [g["lr"] for o in opts for g in o.param_groups]
    minutes = settings.minutes_masked + settings.minutes
    progress = Progress("embedder", int(minutes * 60))
    began, shown, step = time.monotonic(), 0, 0
    running: dict[str, float] = {}
    while (spent := time.monotonic() - began) < minutes * 60:
        for group, rate in zip([g for o in opts for g in o.param_groups], rates, strict=True):
            group["lr"] = rate * schedule(spent / (minutes * 60))
        batch = clips.batch(settings.batch)
        with cpu_autocast():
            if spent < settings.minutes_masked * 60:
                losses = {"masked": masked_loss(encoder, teacher, batch[0], batch[1], settings.masked)}
            else:
                losses = state_loss(encoder, teacher, batch)
        sum(losses.values(), torch.zeros(())).backward()
        nn.utils.clip_grad_norm_(whole.parameters(), 1.0)
        for opt in opts:
            opt.step()
            opt.zero_grad(set_to_none=True)
        step += 1
        for name, value in losses.items():
            running[name] = 0.97 * running.get(name, value.item()) + 0.03 * value.item()
        if int(spent) > shown:
            words = " ".join(f"{name} {value:.3f}" for name, value in running.items())
            progress.step(f"step {step}: {words}", int(spent) - shown)
            shown = int(spent)
    return model


def save(model: VideoMAEModel, folder: Path) -> None:
    """Stock model in bfloat16, stock processor, and the rules of ``services.embedder`` for blocks and spans."""
    model.to(torch.bfloat16).save_pretrained(folder)
    picture_processor().save_pretrained(folder)
    (folder / "embedder.json").write_text(json.dumps({"moving_blocks": SHOWN, "spans": True}) + "\n", encoding="utf-8")


def vectors(model: VideoMAEModel, stored: Stored, limit: int | None = None) -> NDArray[np.float32]:
    """(N, 192) float32 of length 1, of the whole clips of a set's first ``limit``."""
    return vectors_of(model, stored.patches[: min(len(stored), limit or len(stored))])


def vectors_of(model: VideoMAEModel, patches: NDArray[np.uint8], batch: int = 32) -> NDArray[np.float32]:
    """The same of stored patches (N, 8, 112, 1536); equal to ``services.embedder`` on the pictures."""
    encoder = Encoder(model).eval()
    out = []
    with torch.inference_mode():
        for first in range(0, len(patches), batch):
            part = np.array(patches[first : first + batch])
            shown = np.stack([moving(clip) for clip in part])
            blocks = np.stack([blocks_of(clip, own) for clip, own in zip(part, shown, strict=True)])
            hidden = encoder(tower.normalised(torch.from_numpy(blocks)), tokens_of(shown))
            out.append(fn.normalize(hidden.mean(1), dim=1).numpy())
    return np.concatenate(out)


def span_vectors(model: VideoMAEModel, clips: Iterable[NDArray[np.uint8]], count: int) -> NDArray[np.float32]:
    """(N, 768) float32 of length 1 of ``count`` clips with the pictures between (31, 128, 224, 3): those of the whole
    clip and its halves, one behind the other, as ``services.embedder`` puts them."""
    progress, out = Progress("vectors", count), []
    for dense in clips:
        spans = np.stack([tower.patches(dense[each]) for each in positions(len(dense), 2 * GROUPS)])
        out.append(vectors_of(model, spans).ravel() / np.sqrt(len(spans)))
        progress.step()
    return np.asarray(out, np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the demo's embedder.")
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--minutes", type=float, default=Settings.minutes)
    parser.add_argument("--threads", type=int, default=Settings.threads)
    parser.add_argument("--sets", nargs="+", default=["base", "adapter"])
    a = parser.parse_args()
    sets = [opened(name, a.work) for name in a.sets]
    save(train(sets, Settings(minutes=a.minutes, threads=a.threads)), a.out or a.work / "embedder")


if __name__ == "__main__":
    main()
