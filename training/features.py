"""Vision features of the frozen tower, computed once for each clip and kept in safetensors files.

A file's place is named by tower weights, preprocessing contract and precision, its name by the clip's digest, so that
nothing stale is ever read. Beside the features it carries what the processor writes in place of the video tag (times,
vision marks, placeholders), so that later passes need neither pictures nor processor.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from transformers.video_utils import VideoMetadata

from services.dialog import TIME_BASE, Dialog, messages
from services.errors import ClipError, ModelError
from services.schema import Frames, digest_of
from training.data import Sample

FrameReader = Callable[[Path], Frames]


@dataclass(frozen=True, slots=True, eq=False)
class ClipFeatures:
    """``pooled``: (N, H) what stands at the video's N placeholder tokens; ``deepstack``: (D, N, H) what is added after
    the first D layers (D = 0 where the architecture has none); ``grid``: (1, 3) int64, patches in time, height and
    width; ``expansion``: the text that replaces the video tag; ``seconds``: (1,) float32, time between groups of
    frames where the architecture's positions need it (Qwen2.5-VL), else empty."""

    pooled: torch.Tensor
    deepstack: torch.Tensor
    grid: torch.Tensor
    expansion: str
    seconds: torch.Tensor = field(default_factory=lambda: torch.empty(0))


class Tower:
    """The frozen vision tower of ``model`` with the processor in front of it."""

    def __init__(self, model: nn.Module, dialog: Dialog, read: FrameReader, dtype: torch.dtype) -> None:
        self._model = model
        self._dialog = dialog
        self._read = read
        self.dtype = dtype
        self._head, self._tail = _around_video(dialog)

    def frames(self, sample: Sample) -> Frames:
        """The sampled pictures of ``sample``; ClipError when they cannot be read."""
        if sample.frames is not None:
            return sample.frames()
        if sample.path is None:
            raise ClipError(f"Sample {sample.title} has neither a file nor frames; give one of them.")
        return self._read(sample.path)

    def encode(self, frames: Sequence[Frames]) -> list[ClipFeatures]:
        """Features of several clips in one pass of the tower."""
        inputs = [self._dialog.prompt(messages(""), [clip]) for clip in frames]
        grids = torch.cat([item["video_grid_thw"] for item in inputs])
        core = self._model.model
        device = next(core.visual.parameters()).device
        pixels = torch.cat([item["pixel_values_videos"] for item in inputs]).to(device)
        half = self.dtype == torch.bfloat16 and device.type == "cpu"
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16) if half else nullcontext():
            output = core.get_video_features(pixels, grids.to(device), return_dict=True)
        deepstack = getattr(output, "deepstack_features", None) or []
        features = []
        for index, item in enumerate(inputs):
            pooled = output.pooler_output[index].to("cpu", self.dtype).contiguous()
            layers = [layer[index].to("cpu", self.dtype) for layer in deepstack]
            stacked = torch.stack(layers) if layers else pooled.new_zeros((0, *pooled.shape))
            expansion = self._expansion(item["input_ids"][0])
            seconds = item.get("second_per_grid_ts", torch.empty(0)).float()
            features.append(ClipFeatures(pooled, stacked, item["video_grid_thw"], expansion, seconds))
        return features

    def _expansion(self, ids: torch.Tensor) -> str:
        tokenizer = self._dialog.tokenizer
        text = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if tokenizer(text)["input_ids"] != ids.tolist() or not (
            text.startswith(self._head) and text.endswith(self._tail)
        ):
            raise ModelError(
                "The tokenizer does not give a prompt back unchanged; this base cannot be fine-tuned here."
            )
        return str(text[len(self._head) : len(text) - len(self._tail)])


def expansion_for(dialog: Dialog, pts_s: NDArray[np.float64], grid: torch.Tensor) -> str:
    """What the processor writes for a clip with frames at ``pts_s`` seconds and ``grid`` (1, 3): for features that
    were computed elsewhere (Qwen3-VL, which writes the times)."""
    indices = [round(float(t) * TIME_BASE) for t in pts_s]
    metadata = VideoMetadata(total_num_frames=indices[-1] + 1, fps=TIME_BASE, frames_indices=indices)
    return str(dialog.processor.replace_video_token({"video_grid_thw": grid, "video_metadata": [metadata]}, 0))


def _around_video(dialog: Dialog) -> tuple[str, str]:
    """What the chat template writes before and after the video tag of an empty question."""
    text = dialog.processor.apply_chat_template(messages(""), tokenize=False, add_generation_prompt=True)
    head, tag, tail = text.partition(dialog.processor.video_token)
    if not tag:
        raise ModelError("The chat template writes no video tag; this base takes no videos.")
    return head, tail


class LiveFeatures:
    """Features computed anew each time: the reference that the cache is measured against."""

    def __init__(self, tower: Tower) -> None:
        self._tower = tower

    def get(self, samples: Sequence[Sample]) -> list[ClipFeatures]:
        seen = [sample for sample in samples if sample.features is None]
        computed = iter(self._tower.encode([self._tower.frames(sample) for sample in seen]) if seen else ())
        return [next(computed) if sample.features is None else sample.features() for sample in samples]

    def expansion(self, sample: Sample) -> str:
        return self.get([sample])[0].expansion


class CachedFeatures:
    """Features from ``folder``, computed when missing. ``hits`` and ``misses`` count for the report."""

    def __init__(self, folder: Path, tower: Tower, chunk: int = 8) -> None:
        self._folder = folder
        self._tower = tower
        self._chunk = chunk
        self.hits = 0
        self.misses = 0
        folder.mkdir(parents=True, exist_ok=True)

    def fill(
        self, samples: Sequence[Sample], progress: Callable[[Sequence[Sample]], Iterable[Sample]] = iter
    ) -> list[str]:
        """Compute what is missing. Returns a sentence for each clip whose pictures cannot be used."""
        waiting: list[tuple[Sample, Frames]] = []
        problems: list[str] = []
        seen: set[str] = set()
        for sample in progress(samples):
            if sample.features is not None or sample.digest in seen or self._file(sample).is_file():
                continue
            seen.add(sample.digest)
            try:
                waiting.append((sample, self._tower.frames(sample)))
            except ClipError as error:
                problems.append(str(error) if sample.title in str(error) else f"{sample.title}: {error}")
            if len(waiting) == self._chunk:
                self._store(waiting)
        self._store(waiting)
        return problems

    def get(self, samples: Sequence[Sample]) -> list[ClipFeatures]:
        found = {s.digest: _load(self._file(s)) if s.features is None else s.features() for s in samples}
        missing = {sample.digest: sample for sample in samples if found[sample.digest] is None}
        self.hits += len(found) - len(missing)
        if missing:
            self._store([(sample, self._tower.frames(sample)) for sample in missing.values()])
            found |= {digest: _load(self._file(sample)) for digest, sample in missing.items()}
        features = [found[sample.digest] for sample in samples]
        return [item for item in features if item is not None]

    def expansion(self, sample: Sample) -> str:
        """What the video tag of ``sample`` becomes, read without its tensors."""
        if sample.features is not None:
            return sample.features().expansion
        try:
            with safe_open(self._file(sample), "pt") as stored:
                return str((stored.metadata() or {})["expansion"])
        except (FileNotFoundError, SafetensorError, KeyError):
            return self.get([sample])[0].expansion

    def _store(self, waiting: list[tuple[Sample, Frames]]) -> None:
        """Encode and write ``waiting``, then empty it. Each file appears whole or not at all."""
        if not waiting:
            return
        self.misses += len(waiting)
        for (sample, _), item in zip(waiting, self._tower.encode([frames for _, frames in waiting]), strict=True):
            part = self._file(sample).with_suffix(f".{os.getpid()}.part")
            tensors = {"pooled": item.pooled, "deepstack": item.deepstack, "grid": item.grid, "seconds": item.seconds}
            save_file(tensors, part, {"expansion": item.expansion})
            os.replace(part, self._file(sample))
        waiting.clear()

    def _file(self, sample: Sample) -> Path:
        return self._folder / f"{sample.digest}.safetensors"


def _load(file: Path) -> ClipFeatures | None:
    """The stored features; None when there are none (a damaged file counts as none and is written again)."""
    try:
        with safe_open(file, "pt") as stored:
            expansion = (stored.metadata() or {})["expansion"]
            pooled, deepstack, grid, seconds = map(stored.get_tensor, ("pooled", "deepstack", "grid", "seconds"))
            return ClipFeatures(pooled, deepstack, grid, expansion, seconds)
    except (FileNotFoundError, SafetensorError, KeyError):
        return None


def cache_folder(root: Path, model: nn.Module, dialog: Dialog, dtype: torch.dtype) -> Path:
    """Where features of this tower, contract and precision lie."""
    return root / digest_of([dialog.rule.digest, tower_digest(model), str(dtype)])[:24]


def tower_digest(model: nn.Module) -> str:
    """SHA-256 over names, types and bytes of the vision tower's weights."""
    digest = hashlib.sha256()
    for name, value in sorted(model.model.visual.state_dict().items()):
        digest.update(f"{name}:{value.dtype}:{tuple(value.shape)}".encode())
        digest.update(value.detach().to("cpu").contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
