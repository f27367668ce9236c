"""VideoMAE: sampled frames to one vector.

The encoder's last hidden state is averaged over its tokens and scaled to length 1 (the source's recipe). VideoMAE
takes exactly ``config.num_frames`` frames and its positions are not interpolated, so frames are taken evenly from what
was sampled, by position, and the picture size is the configured one. Models are read from local folders only.

A folder may hold ``embedder.json`` with ``{"crop": "motion"}``: then the square-ish region that moves most is cut out
before the processor sees the frames. Without the file the whole picture counts.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import VideoMAEModel, VideoMAEVideoProcessor

from services.errors import ModelError
from services.model_identity import identify
from services.motion_crop import moving_region
from services.schema import Frames, Provenance, digest_of

POOLING = "mean of last_hidden_state, L2"
_REMEDY = "run 'python -m agent download' to get it, or choose the profile 'demo'"


class Embedder:
    """One VideoMAE on one device. Loads its weights at once; ``embed`` may be called from any thread.

    Raises ModelError when the folder has no usable VideoMAE."""

    def __init__(self, folder: Path | str, device: str = "cpu") -> None:
        folder = Path(folder)
        self.device = torch.device(device)
        try:
            identity = identify(folder)
            self._processor = VideoMAEVideoProcessor.from_pretrained(folder, local_files_only=True)
            self._model = VideoMAEModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
        except (ModelError, OSError, ValueError, KeyError, RuntimeError) as error:
            raise ModelError(f"The embedder in {folder} cannot be loaded ({_first_line(error)}); {_REMEDY}.") from error
        self._model.to(self.device).eval()
        self.frames: int = self._model.config.num_frames
        self.crop: str = _crop(folder)
        self.provenance = Provenance(
            model=identity.model,
            weights=identity.weights,
            pooling=POOLING,
            frames=self.frames,
            preprocessing=digest_of(self._settings()),
        )
        self._lock = threading.Lock()

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        return int(self._model.config.hidden_size)

    def embed(self, frames: Frames) -> NDArray[np.float32]:
        """(D,) float32 of length 1."""
        vector = self.embed_batch([frames])[0]
        return vector

    def embed_batch(self, clips: list[Frames]) -> NDArray[np.float32]:
        """(len(clips), D) float32, rows of length 1. Raises ModelError for a vector without a direction."""
        pixels = torch.cat([self._pixels(clip) for clip in clips])
        with self._lock, torch.inference_mode():
            hidden = self._model(pixel_values=pixels.to(self.device)).last_hidden_state
        vectors = hidden.float().mean(1).cpu().numpy()
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.isfinite(vectors).all() or (lengths < 1e-6).any():
            raise ModelError("The embedder gave a vector without a direction; its weights are damaged, get them again.")
        return np.asarray(vectors / lengths, np.float32)

    def _pixels(self, clip: Frames) -> torch.Tensor:
        """(1, frames, 3, height, width) float32, as the model's own processor makes them."""
        chosen = np.round(np.linspace(0, len(clip) - 1, self.frames)).astype(int)
        rgb = clip.rgb[chosen]
        if self.crop == "motion":
            top, left, height, width = moving_region(rgb)
            rgb = rgb[:, top : top + height, left : left + width]
        video = torch.from_numpy(np.ascontiguousarray(rgb)).permute(0, 3, 1, 2)
        pixels: torch.Tensor = self._processor(videos=[video], do_sample_frames=False, return_tensors="pt")[
            "pixel_values"
        ]
        return pixels

    def _settings(self) -> dict[str, Any]:
        keys = (
            "size",
            "crop_size",
            "do_resize",
            "do_center_crop",
            "resample",
            "rescale_factor",
            "image_mean",
            "image_std",
        )
        values = {key: str(getattr(self._processor, key, None)) for key in keys}
        return {**values, "crop": self.crop, "frames": self.frames, "rule": "uniform by position"}


def _crop(folder: Path) -> str:
    path = folder / "embedder.json"
    if not path.exists():
        return "none"
    try:
        crop = json.loads(path.read_text(encoding="utf-8"))["crop"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is malformed; restore the embedder's folder.") from error
    if crop not in ("none", "motion"):
        raise ModelError(f"{path} asks for the crop {crop!r}, but only 'none' and 'motion' exist.")
    return str(crop)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
