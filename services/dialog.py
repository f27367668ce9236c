"""(clip, question) to what the model reads. Serving, training and evaluation all go through here and must agree.

The preprocessing contract is one small value, ``Preprocessing``: which frames, at which times, resized by which rule,
through which processor. Its digest travels with every adapter, library vector and verdict.

Frames arrive already sampled, with their presentation times. They are resized once, by the rule of qwen-vl-utils
(bicubic with antialiasing to multiples of patch × merge within a pixel budget per frame), and handed to the model's
own processor with sampling and resizing switched off. Times are exact to a millisecond: the processor computes
``index / fps``, so it is told 1000 frames per second and indices in milliseconds; it then averages the times of the
frames in one temporal patch and writes ``<1.3 seconds>`` before each group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from qwen_vl_utils.vision_process import smart_resize
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tvf
from transformers import AutoProcessor, ProcessorMixin
from transformers.video_utils import VideoMetadata

from services.errors import MismatchError, ModelError
from services.schema import Frames, Label, Sampling, digest_of

CONTRACT_VERSION = 1
TIME_BASE = 1000
"""Units per second of the indices given to the processor: milliseconds."""

Picture = NDArray[np.uint8]
"""One image, (H, W, 3) RGB."""

STATUS = "Status:"
STATUS_WORDS: dict[Label, str] = {"mounting": "Mounting", "normal": "Normal"}


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """The contract. ``min_pixels`` and ``max_pixels`` bound one frame; ``factor`` is patch × merge; ``processor`` is
    the class name and ``processor_digest`` covers its settings and chat template. ``views``: the rule by which pictures
    are shown as a whole and in parts (services.views), None where clips are shown as videos."""

    sampling: Sampling
    min_pixels: int
    max_pixels: int
    factor: int
    temporal_patch: int
    processor: str
    processor_digest: str
    resize: str = "bicubic-antialias"
    rule: str = "uniform-in-time"
    version: int = CONTRACT_VERSION
    views: str | None = None

    @property
    def digest(self) -> str:
        values = asdict(self)
        if self.views is None:  # contracts from before there were views keep their digests
            del values["views"]
        return digest_of(values)

    def require(self, digest: str, owner: str) -> None:
        """Raise MismatchError unless ``digest`` (stored with ``owner``) is this contract's."""
        if digest != self.digest:
            raise MismatchError(
                f"{owner} was made with preprocessing {digest[:12]}, but this profile uses {self.digest[:12]}; "
                "rebuild it with this profile or choose the profile it was made with."
            )


def contract(processor: ProcessorMixin, sampling: Sampling, min_pixels: int, max_pixels: int) -> Preprocessing:
    """The contract of ``processor`` (a Qwen-VL processor) with this sampling and pixel budget per frame."""
    video = processor.video_processor
    settings = {
        key: getattr(video, key)
        for key in ("image_mean", "image_std", "rescale_factor", "patch_size", "temporal_patch_size", "merge_size")
    }
    settings["chat_template"] = processor.chat_template
    return Preprocessing(
        sampling=sampling,
        min_pixels=min_pixels,
        max_pixels=max_pixels,
        factor=video.patch_size * video.merge_size,
        temporal_patch=video.temporal_patch_size,
        processor=type(processor).__name__,
        processor_digest=digest_of(settings),
    )


def resized_size(height: int, width: int, rule: Preprocessing) -> tuple[int, int]:
    """(height, width) after the contract's resize: multiples of ``factor`` within the pixel budget."""
    size: tuple[int, int] = smart_resize(
        height, width, factor=rule.factor, min_pixels=rule.min_pixels, max_pixels=rule.max_pixels
    )
    return size


def resize(rgb: np.ndarray[Any, np.dtype[np.uint8]], rule: Preprocessing) -> torch.Tensor:
    """(T, H, W, 3) uint8 to (T, 3, h, w) uint8: the common resize that model, novelty and display share. The first
    generation of torchvision's function, because qwen-vl-utils uses it; the second rounds differently by one level."""
    video = torch.from_numpy(np.ascontiguousarray(rgb)).permute(0, 3, 1, 2)
    size = resized_size(video.shape[2], video.shape[3], rule)
    return tvf.resize(video, list(size), interpolation=InterpolationMode.BICUBIC, antialias=True)


def resize_image(rgb: Picture, rule: Preprocessing) -> torch.Tensor:
    """(H, W, 3) uint8 to (3, h, w) uint8 by the contract's rule for one frame: a picture within the pixel budget keeps
    its native resolution but for rounding to multiples of ``factor``; a larger one is brought down to the budget."""
    return resize(rgb[None], rule)[0]


Message = dict[str, Any]


def rendered(processor: ProcessorMixin, turns: Sequence[Message]) -> str:
    """What the chat template writes, up to and including the assistant's opening.

    Qwen3-VL's processor puts the vision marks around every group of frames. Its published template writes a pair around
    the whole video as well; the processor of the checkpoints' release (transformers 4.57) took that pair away, and so
    does vLLM, but transformers 5 leaves it (vllm-project/vllm issue 46817). It is taken away here, so that the model
    reads what it was trained on, wherever it runs."""
    text: str = processor.apply_chat_template(list(turns), tokenize=False, add_generation_prompt=True)
    start, end = (getattr(processor, f"vision_{side}_token", None) for side in ("start", "end"))
    if start is None or end is None:  # Qwen2-VL's processor writes no marks; its template's pair stays
        return text
    return text.replace(f"{start}{processor.video_token}{end}", processor.video_token)


def messages(question: str, *, videos: int = 1, images: int = 0, system: str | None = None) -> list[Message]:
    """Chat messages of one user turn: media first, then the question (the source's order)."""
    content: list[dict[str, str]] = [{"type": "image"}] * images + [{"type": "video"}] * videos
    turn = {"role": "user", "content": [*content, {"type": "text", "text": question}]}
    head = [{"role": "system", "content": [{"type": "text", "text": system}]}] if system else []
    return [*head, turn]


def mounting_target(label: Label, reason: str | None) -> str:
    """What an answer to the mounting question looks like: ``<reason>\\nStatus: Mounting``; without a reason the
    status alone, which is the form that scoring reads."""
    status = f"{STATUS} {STATUS_WORDS[label]}"
    return f"{reason.strip()}\n{status}" if reason else status


class Dialog:
    """One processor with its contract. Stateless apart from these; safe to share between threads."""

    def __init__(self, processor: ProcessorMixin, rule: Preprocessing) -> None:
        self.processor = processor
        self.rule = rule
        self.tokenizer = processor.tokenizer
        self.terminator = "<|im_end|>"
        probe = processor.apply_chat_template(messages("?", videos=0), tokenize=False, add_generation_prompt=True)
        self.opens_thoughts: bool = probe.rstrip().endswith("<think>")
        """Whether the template itself opens the thoughts, so that only ``</think>`` will be generated."""
        self.terminator_id: int = self.tokenizer.convert_tokens_to_ids(self.terminator)

    def prompt(
        self, turns: Sequence[Message], clips: Sequence[Frames] = (), images: Sequence[Picture] = ()
    ) -> dict[str, torch.Tensor]:
        """Processor inputs up to and including the assistant's opening, batch size 1: ``input_ids`` (1, L) int64,
        ``attention_mask``, ``mm_token_type_ids``, ``pixel_values_videos`` (patches, C·t·p·p) float32,
        ``video_grid_thw`` (clips, 3); for images ``pixel_values`` and ``image_grid_thw``. ``clips`` fill the turns'
        videos in order, ``images`` (H, W, 3) uint8 their images."""
        return self._process(rendered(self.processor, turns), clips, images)

    def template_problem(self) -> str | None:
        """What the checkpoint's template or tokenizer does that this program does not expect, None where nothing: a
        video has to become one mark and a picture one, and an answer has to end in one token."""
        text = rendered(self.processor, messages("?", videos=1, images=1))
        for kind in ("video", "image"):
            token = getattr(self.processor, f"{kind}_token")
            if text.count(token) != 1:
                return f"writes {text.count(token)} marks for one {kind}"
        if len(self.tokenizer(self.terminator, add_special_tokens=False)["input_ids"]) != 1:
            return f"does not end a turn in one token {self.terminator}"
        if "?" not in text or not text.rstrip().endswith(("assistant", "<think>")):
            return "does not end in the assistant's opening"
        return None

    def answer_ids(self, text: str) -> torch.Tensor:
        """(1, L) int64: tokens of a complete answer, terminator included, as generation would produce them."""
        ids = self.tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        return torch.cat([ids.long(), torch.tensor([[self.terminator_id]])], dim=1)

    def text_ids(self, text: str) -> torch.Tensor:
        """(1, L) int64: tokens of a piece of text without terminator."""
        ids: torch.Tensor = self.tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"].long()
        return ids

    def _process(self, text: str, clips: Sequence[Frames], images: Sequence[Picture]) -> dict[str, torch.Tensor]:
        media: dict[str, Any] = {"do_resize": False} if clips or images else {}
        if clips:
            media["videos"] = [resize(clip.rgb, self.rule) for clip in clips]
            media["video_metadata"] = [video_metadata(clip) for clip in clips]
            media["do_sample_frames"] = False
            media["cap_pixels_per_frame"] = True  # without effect here; unset it would warn
        if images:
            media["images"] = [resize_image(image, self.rule) for image in images]
        batch = self.processor(text=[text], return_tensors="pt", **media)
        return {key: value for key, value in batch.items() if isinstance(value, torch.Tensor)}


def video_metadata(clip: Frames) -> VideoMetadata:
    """What tells the processor the exact times of ``clip``: indices in milliseconds at 1000 frames per second."""
    indices = [round(float(t) * TIME_BASE) for t in clip.pts_s]
    return VideoMetadata(
        total_num_frames=max(indices[-1] + 1, len(clip)),
        fps=TIME_BASE,
        frames_indices=indices,
        duration=float(clip.pts_s[-1]),
        height=clip.rgb.shape[1],
        width=clip.rgb.shape[2],
    )


def load_dialog(source: str | Path, sampling: Sampling, min_pixels: int, max_pixels: int) -> Dialog:
    """The dialog of the base model in ``source`` (a local folder), from its processor's files alone; no weights are
    read. Never touches the network; raises ModelError naming what is missing."""
    try:
        processor = AutoProcessor.from_pretrained(str(source), local_files_only=True)
    except (OSError, ValueError, ImportError) as error:
        raise ModelError(
            f"The base model {source} is not on this machine or incomplete; run 'python -m agent download' "
            "for this profile, or choose the profile 'demo'."
        ) from error
    return Dialog(processor, contract(processor, sampling, min_pixels, max_pixels))
