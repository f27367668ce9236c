"""Vision features of the frozen tower, computed once for each clip or image and kept in safetensors files.

A file's place is named by tower weights, preprocessing contract and precision, its name by the content's digest, so
that nothing stale is ever read. Beside the features it carries what the processor writes in place of the tag (times,
vision marks, placeholders), so that later passes need neither pictures nor processor.
"""

from __future__ import annotations

import hashlib
import os
import time
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

from services.annotations import MediaKind
from services.dialog import TIME_BASE, Dialog, messages, rendered
from services.errors import ClipError, ModelError, ResourceError
from services.schema import Frames, digest_of
from training.data import Medium, Sample
from training.disk import writing

FrameReader = Callable[[Path, MediaKind], Frames]
Seen = tuple[MediaKind, Frames]
"""What stands in place of one tag: a clip's sampled frames, or an image as a single frame."""
Inputs = dict[str, torch.Tensor]
KEYS: dict[MediaKind, tuple[str, str]] = {
    "video": ("pixel_values_videos", "video_grid_thw"),
    "image": ("pixel_values", "image_grid_thw"),
}
"""Names of pixels and grids among the processor's inputs."""


@dataclass(frozen=True, slots=True, eq=False)
class ClipFeatures:
    """Of one clip or image. ``pooled``: (N, H) what stands at its N placeholder tokens; ``deepstack``: (D, N, H) what
    is added after the first D layers (D = 0 where the architecture has none); ``grid``: (1, 3) int64, patches in time,
    height and width; ``expansion``: the text that replaces its tag; ``seconds``: (1,) float32, time between groups of
    frames where the architecture's positions need it (Qwen2.5-VL), else empty."""

    pooled: torch.Tensor
    deepstack: torch.Tensor
    grid: torch.Tensor
    expansion: str
    seconds: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    kind: MediaKind = "video"


class Tower:
    """The vision tower of ``model`` with the processor in front of it."""

    def __init__(self, model: nn.Module, dialog: Dialog, read: FrameReader, dtype: torch.dtype) -> None:
        self._model = model
        self._reader = Expander(dialog, read)
        self.dtype = dtype

    def frames(self, medium: Medium) -> Frames:
        """The sampled pictures of ``medium``; ClipError when they cannot be read."""
        return self._reader.frames(medium)

    def expansion(self, medium: Medium) -> str:
        """What the tag of ``medium`` becomes, by the processor alone."""
        return self._reader.expansion(self._reader.inputs((medium.kind, self.frames(medium))), medium.kind)

    def encode(self, seen: Sequence[Seen], *, trained: bool = False) -> list[ClipFeatures]:
        """Features of several clips and images. Each is seen alone: in company the last bits could differ, and with
        them the weights of a run that was broken off. With ``trained`` each kind goes through the tower in one pass;
        the features stay where they were computed and carry gradients."""
        inputs = [self._reader.inputs(item) for item in seen]
        if not trained:
            return [self._pass(kind, [item], trained)[0] for (kind, _), item in zip(seen, inputs, strict=True)]
        found: dict[int, ClipFeatures] = {}
        for kind in ("video", "image"):
            places = [place for place, (of, _) in enumerate(seen) if of == kind]
            if places:
                made = self._pass(kind, [inputs[place] for place in places], trained)
                found |= dict(zip(places, made, strict=True))
        return [found[place] for place in range(len(seen))]

    def _pass(self, kind: MediaKind, inputs: Sequence[Inputs], trained: bool) -> list[ClipFeatures]:
        core = self._model.model
        device = next(core.visual.parameters()).device
        pixels_key, grid_key = KEYS[kind]
        grids = torch.cat([item[grid_key] for item in inputs])
        pixels = torch.cat([item[pixels_key] for item in inputs]).to(device)
        of = core.get_video_features if kind == "video" else core.get_image_features
        half = self.dtype == torch.bfloat16 and (device.type == "cpu" or trained)
        with (
            nullcontext() if trained else torch.no_grad(),
            torch.autocast(device.type, torch.bfloat16) if half else nullcontext(),
        ):
            output = of(pixels, grids.to(device), return_dict=True)
        deepstack = getattr(output, "deepstack_features", None) or []
        features = []
        for index, item in enumerate(inputs):
            pooled = output.pooler_output[index].to(self.dtype)
            layers = [layer[index].to(self.dtype) for layer in deepstack]
            stacked = torch.stack(layers) if layers else pooled.new_zeros((0, *pooled.shape))
            if not trained:
                pooled, stacked = pooled.to("cpu").contiguous(), stacked.to("cpu")
            seconds = item.get("second_per_grid_ts", torch.empty(0)).float()
            text = self._reader.expansion(item, kind)
            features.append(ClipFeatures(pooled, stacked, item[grid_key], text, seconds, kind))
        return features


class Expander:
    """Media as the processor gives them to the model, without the model: pixels, and the text in place of a tag."""

    def __init__(self, dialog: Dialog, read: FrameReader) -> None:
        self._dialog = dialog
        self._read = read
        self._around: dict[MediaKind, tuple[str, str]] = {}

    def frames(self, medium: Medium) -> Frames:
        """The sampled pictures of ``medium``; ClipError when they cannot be read."""
        if medium.frames is not None:
            return medium.frames()
        if medium.path is None:
            raise ClipError(f"Sample {medium.digest[:12]} has neither a file nor frames; give one of them.")
        return self._read(medium.path, medium.kind)

    def inputs(self, seen: Seen) -> Inputs:
        """Processor inputs of an empty question about one clip or image."""
        kind, frames = seen
        if kind == "image":
            return self._dialog.prompt(messages("", videos=0, images=1), images=[frames.rgb[0]])
        return self._dialog.prompt(messages(""), [frames])

    def expansion(self, inputs: Inputs, kind: MediaKind) -> str:
        """What the processor wrote in place of the tag."""
        if kind not in self._around:
            self._around[kind] = _around_tag(self._dialog, kind)
        head, tail = self._around[kind]
        tokenizer = self._dialog.tokenizer
        ids = inputs["input_ids"][0]
        text = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if tokenizer(text)["input_ids"] != ids.tolist() or not (text.startswith(head) and text.endswith(tail)):
            raise ModelError(
                "The tokenizer does not give a prompt back unchanged; this base cannot be fine-tuned here."
            )
        return str(text[len(head) : len(text) - len(tail)])


def expansion_for(dialog: Dialog, pts_s: NDArray[np.float64], grid: torch.Tensor) -> str:
    """What the processor writes for a clip with frames at ``pts_s`` seconds and ``grid`` (1, 3): for features that
    were computed elsewhere (Qwen3-VL, which writes the times)."""
    indices = [round(float(t) * TIME_BASE) for t in pts_s]
    metadata = VideoMetadata(total_num_frames=indices[-1] + 1, fps=TIME_BASE, frames_indices=indices)
    return str(dialog.processor.replace_video_token({"video_grid_thw": grid, "video_metadata": [metadata]}, 0))


def _around_tag(dialog: Dialog, kind: MediaKind) -> tuple[str, str]:
    """What the chat template writes before and after the tag of an empty question."""
    turns = messages("") if kind == "video" else messages("", videos=0, images=1)
    text = rendered(dialog.processor, turns)
    head, tag, tail = text.partition(getattr(dialog.processor, f"{kind}_token"))
    if not tag:
        raise ModelError(f"The chat template writes no {kind} tag; this base takes no {kind}s.")
    return head, tail


class LiveFeatures:
    """Features computed anew each time: the reference that the cache is measured against, and what a trained tower
    (``trained``) needs, because its features change with every step."""

    seconds = 0.0
    """Nothing is spent ahead of the steps."""

    def __init__(self, tower: Tower, *, trained: bool = False) -> None:
        self._tower = tower
        self._trained = trained
        self._expansions: dict[str, str] = {}

    def told(self) -> None:
        """Nothing was spared."""

    def get(self, media: Sequence[Medium]) -> list[ClipFeatures]:
        seen = [medium for medium in media if medium.features is None]
        pictures = [(medium.kind, self._tower.frames(medium)) for medium in seen]
        computed = iter(self._tower.encode(pictures, trained=self._trained) if seen else ())
        return [next(computed) if medium.features is None else medium.features() for medium in media]

    def expansion(self, medium: Medium) -> str:
        """What the tag of ``medium`` becomes; ClipError when its pictures cannot be read."""
        if medium.features is not None:
            return medium.features().expansion
        if medium.digest not in self._expansions:
            self._expansions[medium.digest] = self._tower.expansion(medium)
        return self._expansions[medium.digest]


class CachedFeatures:
    """Features from ``folder``, computed when missing. ``hits`` and ``misses`` count, ``seconds`` is what the misses
    took, for the report."""

    def __init__(self, folder: Path, tower: Tower, chunk: int = 8) -> None:
        self._folder = folder
        self._tower = tower
        self._chunk = chunk
        self.hits = 0
        self.misses = 0
        self.seconds = 0.0
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def fill(
        self, samples: Sequence[Sample], progress: Callable[[Sequence[Sample]], Iterable[Sample]] = iter
    ) -> list[str]:
        """Compute what is missing. Returns a sentence for each sample whose pictures cannot be used."""
        begun = time.perf_counter()
        waiting: list[tuple[Medium, Frames]] = []
        problems: list[str] = []
        broken: dict[str, str] = {}
        seen: set[str] = set()
        for sample in progress(samples):
            for medium in sample.media:
                if medium.features is None and medium.digest not in seen and not self._file(medium).is_file():
                    try:
                        waiting.append((medium, self._tower.frames(medium)))
                    except ClipError as error:
                        broken[medium.digest] = str(error)
                seen.add(medium.digest)
                if medium.digest in broken:
                    problems.append(f"{sample.title}: {broken[medium.digest]}")
            if len(waiting) >= self._chunk:
                self._store(waiting)
        self._store(waiting)
        self.seconds += time.perf_counter() - begun if self.misses else 0.0
        return problems

    def get(self, media: Sequence[Medium]) -> list[ClipFeatures]:
        found = {m.digest: _load(self._file(m), m.kind) if m.features is None else m.features() for m in media}
        missing = {medium.digest: medium for medium in media if found[medium.digest] is None}
        self.hits += len(found) - len(missing)
        if missing:
            self._store([(medium, self._tower.frames(medium)) for medium in missing.values()])
            found |= {digest: _load(self._file(medium), medium.kind) for digest, medium in missing.items()}
        features = [found[medium.digest] for medium in media]
        return [item for item in features if item is not None]

    def told(self) -> str | None:
        """What the cache was good for, by its own clock; None where it computed nothing."""
        if not (self.misses and self.hits):
            return None
        return (
            f"Vision features: {self.misses} computed once in {self.seconds:.1f} s and read {self.hits} times; "
            f"computing them anew each time would have taken about {self.seconds / self.misses * self.hits:.1f} s."
        )

    def expansion(self, medium: Medium) -> str:
        """What the tag of ``medium`` becomes, read without its tensors; ClipError when its pictures cannot be read."""
        if medium.features is not None:
            return medium.features().expansion
        try:
            with safe_open(self._file(medium), "pt") as stored:
                return str((stored.metadata() or {})["expansion"])
        except (FileNotFoundError, SafetensorError, KeyError):
            return self.get([medium])[0].expansion

    def _store(self, waiting: list[tuple[Medium, Frames]]) -> None:
        """Encode and write ``waiting``, then empty it. Each file appears whole or not at all."""
        if not waiting:
            return
        self.misses += len(waiting)
        made = self._tower.encode([(medium.kind, frames) for medium, frames in waiting])
        for (medium, _), item in zip(waiting, made, strict=True):
            part = self._file(medium).with_suffix(f".{os.getpid()}.part")
            tensors = {"pooled": item.pooled, "deepstack": item.deepstack, "grid": item.grid, "seconds": item.seconds}
            try:
                with writing(self._folder):
                    save_file(tensors, part, {"expansion": item.expansion})
                    os.replace(part, self._file(medium))
            except ResourceError:
                part.unlink(missing_ok=True)
                raise
        waiting.clear()

    def _file(self, medium: Medium) -> Path:
        return self._folder / f"{medium.digest}.safetensors"


def _load(file: Path, kind: MediaKind) -> ClipFeatures | None:
    """The stored features; None when there are none (a damaged file counts as none and is written again)."""
    try:
        with safe_open(file, "pt") as stored:
            expansion = (stored.metadata() or {})["expansion"]
            pooled, deepstack, grid, seconds = map(stored.get_tensor, ("pooled", "deepstack", "grid", "seconds"))
            return ClipFeatures(pooled, deepstack, grid, expansion, seconds, kind)
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
