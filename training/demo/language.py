"""Stage ``base``, in two parts, align and language: the text model learns to read the frozen tower's tokens and to
answer.

First single groups of two frames with one-moment questions (whole clips from the start do not get off the ground at
this size), then whole clips. One encoded video is followed by several questions; each sees the video and itself, by
a block mask, as if it had been asked alone. Mounting is never asked (see ``corpus``).

``python -m training.demo.language --sets adapter:4000`` runs both parts alone.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as fn
from transformers import AttentionInterface, AutoProcessor, Qwen3VLForConditionalGeneration, Qwen3VLProcessor

from services.schema import digest_of
from training.attention import blocked_attention
from training.demo import tower
from training.demo.cache import features
from training.demo.corpus import (
    Other,
    clip_exercise,
    echo_exercise,
    group_exercise,
    order_exercise,
    quality_echo,
    quality_sentences,
    spoken_sentences,
    status_exercise,
)
from training.demo.deeds import Note, deed_exercise, moment_exercise
from training.demo.harvest import GROUPS, WORK, Stored, opened
from training.demo.model import END, START, random_model, save
from training.demo.progress import Progress
from training.demo.references import reason_of
from training.demo.resuming import Resume
from training.demo.together import Group, add_flags, group_of
from training.demo.vision import schedule
from training.demo.wording import Exercise
from training.features import tower_digest
from training.precision import cpu_autocast, cpu_dtype


@dataclass(frozen=True)
class Settings:
    steps_align: int = 400
    steps: int = 1500
    batch_align: int = 24
    batch: int = 8
    questions_align: int = 4
    questions: int = 9
    rate: float = 1.5e-3
    matrix_rate: float = 0.02
    seed: int = 0
    threads: int = 1


STEPS = ("steps_align", "steps")
"""The lengths of the parts; each is also a flag."""


class Layout:
    """Token ids and positions of a prompt with ``groups`` groups of two frames, exactly as the processor writes it."""

    def __init__(self, of: Qwen3VLProcessor, model: Qwen3VLForConditionalGeneration) -> None:
        self.of, self.tokenizer, self.model = of, of.tokenizer, model
        self.close = self.ids(f"{END}\n{START}assistant\n")
        self.end = self.tokenizer.convert_tokens_to_ids(END)
        self.pad_video = self.tokenizer.convert_tokens_to_ids("<|video_pad|>")
        self.positions: dict[tuple[int, int], tuple[Tensor, int]] = {}
        self.known: dict[str, list[int]] = {}

    def ids(self, text: str) -> list[int]:
        found: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return found

    def prefix(self, times_s: list[float]) -> list[int]:
        """From the turn's start to the last group; ``times_s`` are the groups' times as written."""
        groups = "".join(
            f"<{t:.1f} seconds><|vision_start|>{'<|video_pad|>' * tower.TOKENS}<|vision_end|>" for t in times_s
        )
        return self.ids(f"{START}user\n{groups}")

    def text(self, text: str) -> list[int]:
        if text not in self.known:
            if len(self.known) > 50_000:
                self.known.clear()
            self.known[text] = self.ids(text)
        return self.known[text]

    def prefix_positions(self, ids: list[int], groups: int) -> tuple[Tensor, int]:
        """(3, len(ids)) int64 multimodal positions of the prefix, and the first position behind it."""
        key = (len(ids), groups)
        if key not in self.positions:
            row = torch.tensor([ids])
            grid = torch.tensor([[groups, *tower.GRID]])
            kinds = (row == self.pad_video).int() * 2
            positions, _ = self.model.model.get_rope_index(row, mm_token_type_ids=kinds, video_grid_thw=grid)
            self.positions[key] = (positions[:, 0], int(positions.max()) + 1)
        return self.positions[key]


@dataclass(frozen=True)
class Packed:
    """A batch: ``ids`` (B, L), ``positions`` (3, B, L), ``mask`` (B, 1, L, L) bool, ``visual`` (B, L) bool,
    ``targets`` (B, L) next token or -100, ``seen`` (3, B·groups·28, width) features."""

    ids: Tensor
    positions: Tensor
    mask: Tensor
    visual: Tensor
    targets: Tensor
    seen: Tensor


def packed(
    layout: Layout, times: list[list[float]], exercises: list[list[Exercise]], seen: NDArray[np.float16]
) -> Packed:
    """``seen``: (B, groups, 3, 28, width)."""
    groups = seen.shape[1]
    rows = []
    for own_times, asked in zip(times, exercises, strict=True):
        ids = layout.prefix(own_times)
        positions, after = layout.prefix_positions(ids, groups)
        segment, target = [0] * len(ids), [-100] * len(ids)
        text_positions: list[int] = []
        for number, exercise in enumerate(asked, 1):
            question = layout.text(exercise.question) + layout.close
            answer = [*layout.text(exercise.answer), layout.end]
            both = question + answer
            ids = ids + both
            segment += [number] * len(both)
            target += [-100] * (len(question) - 1) + answer + [-100]
            text_positions += range(after, after + len(both))
        tail = torch.tensor(text_positions).expand(3, -1)
        rows.append((ids, torch.cat([positions, tail], 1), segment, target, len(ids)))
    length = max(row[4] for row in rows)
    size = len(rows)
    ids = torch.zeros(size, length, dtype=torch.long)
    positions = torch.zeros(3, size, length, dtype=torch.long)
    segments = torch.full((size, length), -1)
    targets = torch.full((size, length), -100)
    for i, (own, place, segment, target, n) in enumerate(rows):
        ids[i, :n] = torch.tensor(own)
        positions[:, i, :n] = place
        segments[i, :n] = torch.tensor(segment)
        targets[i, :n] = torch.tensor(target)
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    same = (segments[:, :, None] == segments[:, None]) | (segments[:, None] == 0)
    stacked = torch.from_numpy(np.ascontiguousarray(seen.transpose(2, 0, 1, 3, 4))).float()
    return Packed(ids, positions, (same & causal)[:, None], ids == layout.pad_video, targets, stacked.flatten(1, 3))


def loss_of(model: Qwen3VLForConditionalGeneration, batch: Packed) -> Tensor:
    """Mean cross-entropy over the answers' tokens."""
    text = model.model.language_model
    embedded = text.embed_tokens(batch.ids)
    embedded = embedded.masked_scatter(batch.visual[..., None], batch.seen[0].to(embedded.dtype))
    hidden = text(
        inputs_embeds=embedded,
        attention_mask=batch.mask,
        position_ids=batch.positions,
        visual_pos_masks=batch.visual,
        deepstack_visual_embeds=[batch.seen[1], batch.seen[2]],
        use_cache=False,
    ).last_hidden_state
    wanted = batch.targets >= 0
    return fn.cross_entropy(model.lm_head(hidden[wanted]).float(), batch.targets[wanted])


ATTENTION = "herdlens_masked"


def _masked_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor, scaling: float, **_: Any
) -> tuple[Tensor, None]:
    """``blocked_attention`` in ``cpu_dtype`` under a mask (B, 1, L, L) bool; half the time of the stock step on a
    CPU."""
    kind = cpu_dtype()
    added = torch.zeros(attention_mask.shape, dtype=kind).masked_fill_(~attention_mask, -30_000.0)
    with torch.autocast("cpu", enabled=False):
        return blocked_attention(module, query.to(kind), key.to(kind), value.to(kind), added, scaling)


def _untrained(base: Path, of: Qwen3VLProcessor, seed: int) -> Qwen3VLForConditionalGeneration:
    """The vision tower of ``base`` with a text model that has learnt nothing yet, whatever ``base`` knew."""
    known = Qwen3VLForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
    model = random_model(of, seed)
    model.model.visual.load_state_dict(known.model.visual.state_dict())
    return model


class Clips:
    """Batches of clips or of single groups with fresh questions, the same ones at a step whatever came before."""

    def __init__(self, layout: Layout, sets: list[tuple[Sequence[Note], NDArray[np.float16]]], seed: int) -> None:
        self.layout, self.seed, self.random = layout, seed, random.Random()
        self.clips = [
            (note, array, row)
            for notes, array in sets
            for row, note in enumerate(notes)
            if note["degradation"][0] == "none"
        ]
        self.sentences = spoken_sentences([reason_of(note) for note, _, _ in self.clips[:3000]])
        self.quality = quality_sentences()

    def whole(self, size: int, questions: int, step: int) -> Packed:
        self.random.seed(f"whole {self.seed} {step}")
        chosen = self.random.sample(self.clips, size)
        exercises = [[self._exercise(note) for _ in range(questions)] for note, _, _ in chosen]
        seen = np.stack([array[row] for _, array, row in chosen])
        return packed(self.layout, [group_times(note) for note, _, _ in chosen], exercises, seen)

    def single(self, size: int, questions: int, step: int) -> Packed:
        self.random.seed(f"single {self.seed} {step}")
        chosen = [(*self.random.choice(self.clips), self.random.randrange(GROUPS)) for _ in range(size)]
        exercises = [[self._moment(note, group) for _ in range(questions)] for note, _, _, group in chosen]
        seen = np.stack([array[row, group : group + 1] for _, array, row, group in chosen])
        times = [[group_times(note)[group]] for note, _, _, group in chosen]
        return packed(self.layout, times, exercises, seen)

    def _moment(self, note: Note, group: int) -> Exercise:
        if self.random.random() < 0.35:
            return moment_exercise(note, group_times(note)[group], self.random)
        return group_exercise(note["facts"], group, self.random)

    def _exercise(self, note: Note) -> Exercise:
        draw = self.random.random()
        if draw < 0.05:
            return echo_exercise(self.sentences, self.random)
        if draw < 0.10:
            return quality_echo(self.quality, self.random)
        if draw < 0.30:
            known = [self.random.choice(self.clips)[0] for _ in range(8)]
            others = [Other(other["facts"], reason_of(other)) for other in known]
            if draw < 0.14:
                return order_exercise(others, self.random)
            return status_exercise(note["facts"], others, self.random)
        if draw < 0.60:
            return deed_exercise(note, group_times(note), self.random)
        return clip_exercise(note["facts"], group_times(note), self.random)


def mirrored(note: Note) -> Note:
    """The same clip with left and right exchanged."""
    at = [[[round(1.0 - x, 3), y] for x, y in own] for own in note["facts"]["at"]]
    return {**note, "facts": {**note["facts"], "at": at}}


def group_times(note: Note) -> list[float]:
    """Times of the groups as the processor writes them: the mean of each pair of frames, to a tenth of a second."""
    times = note["times_s"]
    return [(times[2 * i] + times[2 * i + 1]) / 2 for i in range(GROUPS)]


def run(
    name: str,
    model: Qwen3VLForConditionalGeneration,
    batches: Callable[[int], Packed],
    steps: int,
    settings: Settings,
    group: Group,
    kept: Resume,
) -> float:
    """Train the text model for ``steps`` on ``batches(step)``, on from where ``kept`` has it; returns the last mean
    loss."""
    named = [(n, p) for n, p in model.named_parameters() if ".visual." not in n]
    text = [p for _, p in named]
    matrices = [p for n, p in named if p.ndim == 2 and "layers." in n]
    others = [p for n, p in named if not (p.ndim == 2 and "layers." in n)]
    opts: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, lr=settings.matrix_rate, weight_decay=0.05),
        torch.optim.AdamW(others, lr=settings.rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True),
    ]
    rates = [g["lr"] for o in opts for g in o.param_groups]
    progress = Progress(name, steps)
    mean, first = 0.0, int(kept.load(model.model.language_model, opts, name) or 0)
    progress.step(count=first)
    for step in range(first, steps):
        for part, rate in zip([g for o in opts for g in o.param_groups], rates, strict=True):
            part["lr"] = rate * schedule(step / steps)
        with cpu_autocast():
            loss = loss_of(model, batches(step))
        loss.backward()
        group.mean(text, 0.0)
        nn.utils.clip_grad_norm_(text, 1.0)
        for opt in opts:
            opt.step()
            opt.zero_grad(set_to_none=True)
        mean = loss.item() if step == first else 0.97 * mean + 0.03 * loss.item()
        if group.rank == 0:
            progress.step(f"loss {mean:.3f}")
        kept.save(model.model.language_model, opts, name, step + 1)
    kept.save(model.model.language_model, opts, name, steps, now=True)
    return mean


def train(
    base: Path,
    out: Path,
    sets: list[Stored],
    settings: Settings,
    resume: Path | None = None,
    group: Group | None = None,
) -> None:
    """Train the text model of ``base`` on these sets and write the whole bundle to ``out``; ``resume`` is where the
    state is kept meanwhile, and read from if it is there."""
    group = group or Group(0, 1, None)
    torch.manual_seed(settings.seed)
    torch.set_num_threads(settings.threads)
    of = AutoProcessor.from_pretrained(base)
    model = _untrained(base, of, settings.seed)
    both = [(stored, flag) for stored in sets for flag in (False, True)]
    for number, (stored, flag) in enumerate(both):
        if number % group.workers == group.rank:
            features(base, stored, mirrored=flag)
    group.wait()
    known: list[tuple[Sequence[Note], NDArray[np.float16]]] = [
        ([mirrored(note) for note in stored.notes] if flag else stored.notes, features(base, stored, mirrored=flag))
        for stored, flag in both
    ]
    clips = Clips(Layout(of, model), known, settings.seed + group.rank)
    stock = model.config.text_config._attn_implementation
    AttentionInterface.register(ATTENTION, _masked_attention)
    model.model.language_model.config._attn_implementation = ATTENTION
    align = (settings.batch_align, settings.questions_align)
    whole = (settings.batch, settings.questions)
    trained_on = [(stored.folder.name, len(stored)) for stored in sets]
    made_of = digest_of([tower_digest(model), asdict(settings), trained_on])
    kept = Resume(resume, writes=group.rank == 0, of=made_of)
    if not kept.holds("language"):
        run("align", model, lambda step: clips.single(*align, step), settings.steps_align, settings, group, kept)
    run("language", model, lambda step: clips.whole(*whole, step), settings.steps, settings, group, kept)
    model.model.language_model.config._attn_implementation = stock
    if group.rank == 0:
        save(model, of, out)
        kept.forget()


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the text model on the frozen vision tower.")
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--base", type=Path)
    parser.add_argument("--out", type=Path)
    for name in STEPS:
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(Settings, name))
    add_flags(parser)
    parser.add_argument("--sets", nargs="+", required=True, help="names; NAME:N takes the first N clips")
    a = parser.parse_args()
    settings = Settings(**{name: getattr(a, name) for name in STEPS})
    parts = [text.partition(":") for text in a.sets]
    sets = [opened(name, a.work, int(most) if most else None) for name, _, most in parts]
    train(
        a.base or a.work / "vision",
        a.out or a.work / "base",
        sets,
        settings,
        a.work / "language.resume",
        group_of(a),
    )


if __name__ == "__main__":
    main()
