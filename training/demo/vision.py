"""Stage ``vision``: teach the vision tower to see, with dense targets from the simulation.

From text loss alone a model of this size does not learn to see on a CPU. Each group of two frames predicts, from the
tower's merged tokens, what the simulation knows of every 16 × 16 patch at both times: what is there, whose, how it
stands, turns and moves; and, from their mean, whether and how the picture is degraded. The linear heads are thrown
away afterwards. All three outputs that the language model reads (pooled and both deepstack levels) get the loss.

``python -m training.demo.vision`` runs the stage alone.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as fn

from services.schema import digest_of
from training.demo import tower
from training.demo.corpus import tokenizer_texts
from training.demo.harvest import DEGRADATIONS, WORK, Stored, opened
from training.demo.model import processor, random_model, save
from training.demo.progress import Progress
from training.demo.references import reason_of
from training.demo.resuming import Resume
from training.demo.together import Group, add_flags, group_of
from training.precision import cpu_autocast, cpu_dtype

UNASKED = -100
"""The class of a picture whose degradation is not asked for."""
CLASSES = {"part": 6, "animal_pose": 7}
"""Targets that are class numbers; all others are values."""
SCALE = {
    "cow": 1.0,
    "height": 1.0,
    "pitch": 3.0,
    "facing": 0.5,
    "motion": 1.0,
    "overlap": 1.0,
    "coat": 0.5,
    "distance": 0.5,
    "head_height": 1.0,
    "head_gap": 1.0,
    "centre": 0.5,
}
"""Weight of each value's squared error."""
MOST = 6
"""Animals that are counted."""
OUTPUTS = (1.0, 0.3, 0.3)
"""Weights of the pooled output and the deepstack levels."""


@dataclass(frozen=True)
class Settings:
    """``minutes`` of training decide the number of steps, so that the schedule ends in time on any machine."""

    minutes: float = 42.0
    batch: int = 48
    rate: float = 1.5e-3
    matrix_rate: float = 0.02
    seed: int = 0
    threads: int = 1


class Heads(nn.Module):
    """Linear read-outs of one output: per merged token the values of its four patches at both times."""

    def __init__(self, width: int, channels: dict[str, int]) -> None:
        super().__init__()
        self.dense = nn.ModuleDict({name: nn.Linear(width, 4 * count) for name, count in channels.items()})
        self.count = nn.Linear(width, MOST + 1)
        self.kind = nn.Linear(width, len(DEGRADATIONS))
        self.level = nn.Linear(width, 1)

    def forward(self, tokens: Tensor, name: str) -> Tensor:
        """(n, tokens, width) to (n, channels, 4 · tokens): four patches behind each token."""
        n = tokens.shape[0]
        out = self.dense[name](tokens)
        return out.view(n, tokens.shape[1] * 4, -1).transpose(1, 2)


class Groups:
    """Random batches of groups from stored sets, mirrored half of the time and with the light varied."""

    def __init__(self, sets: list[Stored], seed: int) -> None:
        self.sets = sets
        self.random = np.random.default_rng(seed)
        # rows are (set, clip, group)
        self.index = np.concatenate([_places(i, len(s), s.patches.shape[1]) for i, s in enumerate(sets)])
        self.names = sorted(sets[0].targets)
        self.kinds = [
            np.array([DEGRADATIONS.index(note["degradation"][0]) for note in s.notes], np.int64) for s in sets
        ]
        self.levels = [np.array([note["degradation"][1] / 4 for note in s.notes], np.float32) for s in sets]

    def channels(self) -> dict[str, int]:
        counts = {name: self.sets[0].targets[name].shape[2] for name in self.names}
        return {name: count * CLASSES.get(name, 1) for name, count in counts.items()}

    def batches(self, size: int) -> Iterator[tuple[Tensor, dict[str, Tensor], Tensor, Tensor]]:
        """Patches (n, 112, 1536) of ``cpu_dtype``, targets (n, C, 112), degradation class (n,), level (n,); endless."""
        while True:
            order = self.random.permutation(len(self.index))
            for first in range(0, len(order) - size + 1, size):
                yield self._batch(self.index[order[first : first + size]])

    def _batch(self, rows: np.ndarray[Any, Any]) -> tuple[Tensor, dict[str, Tensor], Tensor, Tensor]:
        where = [(self.sets[s], int(s), int(clip), int(group)) for s, clip, group in rows]
        stored = np.stack([stored.patches[clip, group] for stored, _, clip, group in where])
        targets = {
            name: torch.from_numpy(np.stack([s.targets[name][clip, group] for s, _, clip, group in where])).float()
            for name in self.names
        }
        flip = torch.from_numpy(self.random.random(len(rows)) < 0.5)
        raw, targets = mirrored(torch.from_numpy(stored), targets, flip)
        raw, targets, enlarged = zoomed(raw, targets, self.random)
        dtype = cpu_dtype()
        gain = torch.from_numpy(self.random.uniform(0.8, 1.25, (len(rows), 1, 1)) / 127.5).to(dtype)
        shift = torch.from_numpy(self.random.uniform(-0.1, 0.1, (len(rows), 1, 1)) - 1.0).to(dtype)
        x = raw.to(dtype).mul_(gain).add_(shift).clamp_(-1.0, 1.0)
        kind = torch.tensor([self.kinds[s][clip] for _, s, clip, _ in where])
        kind = kind.masked_fill(enlarged, UNASKED)  # enlarging blurs by itself
        level = torch.tensor([self.levels[s][clip] for _, s, clip, _ in where])
        return x, targets, kind, level


def _places(number: int, clips: int, groups: int) -> np.ndarray[Any, Any]:
    """(clips · groups, 3): the set's number, clip, group."""
    clip, group = np.divmod(np.arange(clips * groups), groups)
    return np.stack([np.full(len(clip), number), clip, group], 1)


ZOOMED, LEAST = 0.6, 0.72
"""Share of the groups of which a part is shown enlarged, and how much of width and height it has at least: seen always
in the same places, a few thousand scenes would be learnt by heart."""


def zoomed(
    x: Tensor, targets: dict[str, Tensor], random: np.random.Generator
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Patches (n, 112, 1536) uint8 and targets, some of them of a part of the picture only, which fills it, and which
    these are (n,): what is counted is what is left, what is measured in pixels grows, what is far seems nearer."""
    chosen = torch.from_numpy(random.random(len(x)) < ZOOMED)
    rows = chosen.nonzero()[:, 0]
    if not len(rows):
        return x, targets, chosen
    part = torch.from_numpy(random.uniform(LEAST, 1.0, len(rows))).float()
    place = torch.from_numpy(random.uniform(-1.0, 1.0, (len(rows), 2))).float() * (1 - part)[:, None]
    theta = torch.zeros(len(rows), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = part
    theta[:, :, 2] = place

    def sampled(planes: Tensor, mode: str) -> Tensor:
        grid = fn.affine_grid(theta, list(planes.shape), align_corners=False)
        return fn.grid_sample(planes, grid, mode=mode, padding_mode="border", align_corners=False)

    pictures = sampled(tower.planes(x[rows]).float(), "bilinear")
    x[rows] = tower.from_planes(pictures.round_().clamp_(0, 255).to(torch.uint8))
    for name, value in targets.items():
        smooth = name in ("cow", "overlap", "centre")
        own = sampled(value[rows][:, :, tower.PLACE].unflatten(2, tower.GRID), "bilinear" if smooth else "nearest")
        factor = {"centre": part**2, "motion": 1 / part, "distance": part}.get(name)
        if factor is not None:
            own = own * factor[:, None, None, None]
        value[rows] = own.flatten(2)[:, :, tower.ORDER]
    return x, targets, chosen


def mirrored(x: Tensor, targets: dict[str, Tensor], flip: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Mirror left and right where ``flip``: patches, and what points to the right changes its sign."""
    rows = flip.nonzero()[:, 0]
    if not len(rows):
        return x, targets
    x[rows] = tower.mirrored(x[rows])
    for name, value in targets.items():
        turned = value[rows][:, :, tower.MIRROR]
        if name in ("facing", "motion"):
            turned[:, 0::2] *= -1.0
        value[rows] = turned
    return x, targets


def loss_of(heads: Heads, tokens: Tensor, targets: dict[str, Tensor], kind: Tensor, level: Tensor) -> dict[str, Tensor]:
    """Losses by name. Values count where an animal is; presence, class, overlap and centres everywhere. How many
    animals are shown is asked of the tokens' mean, as text that attends evenly would read it."""
    cow = targets["cow"]
    body = (cow > 0.12).float()
    losses = {}
    for name, target in targets.items():
        out = heads(tokens, name).float()
        if name in CLASSES:
            count = CLASSES[name]
            logits = out.view(out.shape[0], count, -1, out.shape[-1])
            each = fn.cross_entropy(logits, target.long(), reduction="none")
            weight = body * 1.0 + 0.25
            losses[name] = (each * weight).sum() / weight.sum()
        elif name in ("cow", "overlap"):
            losses[name] = fn.binary_cross_entropy_with_logits(out, target.clamp(0, 1)) * SCALE[name]
        elif name == "centre":
            losses[name] = (out - target).square().mean() / target.square().mean().clamp(min=1e-6) * SCALE[name]
        else:
            weight = body.repeat_interleave(target.shape[1] // body.shape[1], 1)
            losses[name] = ((out - target).square() * weight).sum() / weight.sum().clamp(min=1) * SCALE[name]
    mean = tokens.mean(1)
    if "centre" in targets:
        shown = targets["centre"][:, 0].sum(-1).round().long().clamp(max=MOST)
        losses["count"] = 0.3 * fn.cross_entropy(heads.count(mean).float(), shown)
    losses["kind"] = 0.1 * fn.cross_entropy(heads.kind(mean).float(), kind, ignore_index=UNASKED)
    losses["level"] = 0.3 * ((heads.level(mean)[:, 0].float() - level).square() * (kind > 0)).mean()
    return losses


def optimisers(modules: nn.Module, settings: Settings) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices, AdamW for everything else."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, value in modules.named_parameters():
        inner = value.ndim == 2 and ("blocks." in name or "merger" in name)
        (matrices if inner else others).append(value)
    return [
        torch.optim.Muon(matrices, lr=settings.matrix_rate, weight_decay=0.05, adjust_lr_fn="original"),
        torch.optim.AdamW(others, lr=settings.rate, weight_decay=0.02, betas=(0.9, 0.98), fused=True),
    ]


def schedule(part: float) -> float:
    """Share of the full rate at this part (0…1) of the run: short warm-up, then a cosine to zero."""
    return min(1.0, part / 0.02) * (0.5 + 0.5 * math.cos(math.pi * min(1.0, part)))


def train(
    visual: nn.Module, sets: list[Stored], settings: Settings, resume: Path | None = None, group: Group | None = None
) -> dict[str, float]:
    """Train in place for ``settings.minutes``; ``resume`` is a checkpoint that is written now and then and read if it
    exists. Returns the last losses."""
    group = group or Group(0, 1, None)
    torch.manual_seed(settings.seed)
    torch.set_num_threads(settings.threads)
    data = Groups(sets, settings.seed + group.rank)
    fast = tower.FastTower(visual)
    heads = nn.ModuleList(Heads(fast.visual.config.out_hidden_size, data.channels()) for _ in OUTPUTS)
    whole = nn.ModuleDict({"fast": fast, "heads": heads})
    parameters = list(whole.parameters())
    opts = optimisers(whole, settings)
    rates = [part["lr"] for opt in opts for part in opt.param_groups]
    made_of = digest_of([asdict(settings), [(stored.folder.name, len(stored)) for stored in sets]])
    kept = Resume(resume, writes=group.rank == 0, of=made_of)
    before = kept.load(whole, opts, "vision") or 0.0
    if before:
        data.random = np.random.default_rng([settings.seed + group.rank, int(before)])
    progress = Progress("vision", int(settings.minutes * 60))
    progress.step(count=int(before))
    running: dict[str, float] = {}
    began = time.monotonic()
    spent, shown = before, int(before)
    for step, (x, targets, kind, level) in enumerate(data.batches(settings.batch)):
        if spent >= settings.minutes * 60:
            break
        for part, rate in zip([g for o in opts for g in o.param_groups], rates, strict=True):
            part["lr"] = rate * schedule(spent / (settings.minutes * 60))
        named = _backward(fast, heads, (x, targets, kind, level))
        spent = group.mean(parameters, before + time.monotonic() - began)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        for opt in opts:
            opt.step()
            opt.zero_grad(set_to_none=True)
        if step % 10 == 0:
            for name, value in named.items():
                running[name] = 0.9 * running.get(name, value) + 0.1 * value
        if int(spent) > shown and group.rank == 0:
            words = " ".join(f"{name} {value:.3f}" for name, value in running.items())
            progress.step(f"step {step}: {words}", int(spent) - shown)
            shown = int(spent)
        kept.save(whole, opts, "vision", spent)
    kept.save(whole, opts, "vision", settings.minutes * 60, now=True)
    return running


def _backward(fast: tower.FastTower, heads: nn.ModuleList, batch: tuple[Any, ...]) -> dict[str, float]:
    """Gradients of one batch; returns the losses of the pooled output."""
    x, targets, kind, level = batch
    total = torch.zeros(())
    named: dict[str, float] = {}
    with cpu_autocast():
        seen = fast(x)
        for weight, head, tokens in zip(OUTPUTS, heads, (seen.pooled, *seen.deep), strict=True):
            losses = loss_of(head, tokens, targets, kind, level)
            total = total + weight * sum(losses.values())
            named = named or {name: value.item() for name, value in losses.items()}
    total.backward()
    return named


def _keep_tower(weights: Path) -> None:
    """Leave the tower alone in the file: the text model comes later, and random numbers take as much room."""
    kept = {name: value for name, value in load_file(weights).items() if ".visual." in name}
    save_file(kept, weights, {"format": "pt"})


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the vision tower on dense targets.")
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--minutes", type=float, default=Settings.minutes)
    parser.add_argument("--batch", type=int, default=Settings.batch)
    parser.add_argument("--threads", type=int, default=Settings.threads)
    add_flags(parser)
    parser.add_argument("--sets", nargs="+", default=["base", "scenes"])
    a = parser.parse_args()
    sets = [opened(name, a.work) for name in a.sets]
    out = a.out or a.work / "vision"
    reasons = [reason_of(note) for s in sets for note in s.notes[:1000]]
    of = processor(tokenizer_texts(reasons))
    model = random_model(of)
    settings = Settings(minutes=a.minutes, batch=a.batch, threads=a.threads)
    train(model.model.visual, sets, settings, out.with_suffix(".resume"), group_of(a))
    if a.rank == 0:
        save(model, of, out)
        _keep_tower(out / "model.safetensors")
        Resume(out.with_suffix(".resume")).forget()


if __name__ == "__main__":
    main()
