"""VideoMAE: sampled frames to one vector.

The encoder's last hidden state is averaged over its tokens and scaled to length 1 (the source's recipe). VideoMAE
takes exactly ``config.num_frames`` frames and its positions are not interpolated, so frames are taken evenly from what
was sampled, by position, and the picture size is the configured one. Models are read from local folders only.

A folder may hold ``embedder.json`` with ``{"moving_blocks": K, "spans": true}``. ``moving_blocks``: only the K blocks
of the picture that move most are looked at (the encoder takes a mask of hidden patches; the others never enter it), as
whole-frame vectors follow the barn and the light. ``spans``: a clip's vector is that of the whole clip and those of its
halves, one behind the other (``services.spans``); the pictures that this takes besides are ``Frames.between``.
Without the file the whole picture of the whole clip counts.
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
from services.moving_blocks import moving_blocks
from services.schema import Frames, Provenance, digest_of
from services.spans import NAME, SHARES, positions

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
        self.blocks, self.spans = _settings_in(folder)
        self.provenance = Provenance(
            model=identity.model,
            weights=identity.weights,
            pooling=f"{POOLING}; {NAME}" if self.spans else POOLING,
            frames=self.frames,
            preprocessing=digest_of(self._settings()),
        )
        self._lock = threading.Lock()

    @property
    def all_blocks(self) -> int:
        """Number of blocks of a picture, of which ``blocks`` are looked at (None: all)."""
        return int(self._model.config.image_size // self._model.config.patch_size) ** 2

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        return int(self._model.config.hidden_size) * (len(SHARES) if self.spans else 1)

    @property
    def between_pixels(self) -> int:
        """How large the pictures between are wanted: twice the model's own on each side; 0 where none are."""
        size = self._model.config.image_size
        return 4 * (size**2 if isinstance(size, int) else size[0] * size[1]) if self.spans else 0

    def embed(self, frames: Frames) -> NDArray[np.float32]:
        """(D,) float32 of length 1."""
        vector = self.embed_batch([frames])[0]
        return vector

    def embed_batch(self, clips: list[Frames]) -> NDArray[np.float32]:
        """(len(clips), D) float32, rows of length 1. Raises ModelError for a vector without a direction, ValueError
        for a clip without the pictures between that ``spans`` takes."""
        vectors = self._vectors(torch.cat([self._pixels(clip) for clip in clips]))
        return vectors.reshape(len(clips), -1) / np.float32(np.sqrt(len(vectors) / len(clips)))

    def _vectors(self, pixels: torch.Tensor) -> NDArray[np.float32]:
        """(n, hidden size) float32, rows of length 1, of processed pixels (n, frames, 3, height, width)."""
        hidden_blocks = None if self.blocks is None else self._hidden(pixels).to(self.device)
        with self._lock, torch.inference_mode():
            hidden = self._model(pixels.to(self.device), bool_masked_pos=hidden_blocks).last_hidden_state
        vectors = hidden.float().mean(1).cpu().numpy()
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.isfinite(vectors).all() or (lengths < 1e-6).any():
            raise ModelError("The embedder gave a vector without a direction; its weights are damaged, get them again.")
        return np.asarray(vectors / lengths, np.float32)

    def _pixels(self, clip: Frames) -> torch.Tensor:
        """(spans, frames, 3, height, width) float32."""
        if not self.spans:
            chosen = np.round(np.linspace(0, len(clip) - 1, self.frames)).astype(int)
            return self._processed(clip.rgb[chosen])
        if clip.between is None:
            raise ValueError("this embedder looks at spans of a clip; open it with the pictures between")
        usual, between = self._processed(clip.rgb)[0], self._processed(clip.between)[0]
        dense = torch.empty(len(usual) + len(between), *usual.shape[1:])
        dense[::2], dense[1::2] = usual, between
        return dense[torch.from_numpy(positions(len(dense), self.frames))]

    def _processed(self, rgb: NDArray[np.uint8]) -> torch.Tensor:
        """(1, T, 3, height, width) float32 of (T, H, W, 3), as the model's own processor makes them."""
        video = torch.from_numpy(np.ascontiguousarray(rgb)).permute(0, 3, 1, 2)
        pixels: torch.Tensor = self._processor(videos=[video], do_sample_frames=False, return_tensors="pt")[
            "pixel_values"
        ]
        return pixels

    def _hidden(self, pixels: torch.Tensor) -> torch.Tensor:
        """(clips, tokens) bool: patches that do not enter the encoder, from processed pixels."""
        config, rows = self._model.config, []
        mean, std = (torch.tensor(getattr(self._processor, name)).view(3, 1, 1) for name in ("image_mean", "image_std"))
        for clip in (pixels * std + mean).mul(255).round().clamp(0, 255).to(torch.uint8):
            pictures = clip.permute(0, 2, 3, 1).numpy()
            shown = np.zeros(pictures.shape[1] // config.patch_size * (pictures.shape[2] // config.patch_size), bool)
            shown[moving_blocks(pictures, config.patch_size, self.blocks or 0)] = True
            rows.append(torch.from_numpy(~np.tile(shown, config.num_frames // config.tubelet_size)))
        return torch.stack(rows)

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
        looked = {"moving_blocks": self.blocks, "frames": self.frames, "rule": "uniform by position"}
        return {**values, **looked, **({"spans": SHARES} if self.spans else {})}


def _settings_in(folder: Path) -> tuple[int | None, bool]:
    """Number of moving blocks (None: all of the picture), and whether spans are looked at."""
    path = folder / "embedder.json"
    if not path.exists():
        return None, False
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        blocks, spans = table["moving_blocks"], table.get("spans", False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} is malformed; restore the embedder's folder.") from error
    if not isinstance(spans, bool):
        raise ModelError(f"{path} gives {spans!r} for spans; it takes true or false.")
    if blocks is not None and (not isinstance(blocks, int) or blocks < 1):
        raise ModelError(f"{path} asks for {blocks!r} moving blocks; it takes a number above 0 or null.")
    return blocks, spans


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
