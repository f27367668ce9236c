"""A single picture (JPEG, PNG, WebP) as an upright RGB array. ``read_still`` runs in the worker process.

What a file is, its first bytes say, never its name. Pillow opens the three formats by name, so that no other decoder
is let near the file; size and shape are refused by the header before a pixel is decoded. Errors: ClipError, one
sentence.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.errors import ClipError
from services.video_names import shown_name
from services.video_probe import Limits, check_picture_size

FORMATS = ("JPEG", "PNG", "WEBP")
SUFFIXES = ("jpg", "jpeg", "png", "webp")
PICTURE = "picture"
"""What ``schema.Clip.container`` says of a single picture."""
MAX_BYTES = 100 * 2**20


@dataclass(frozen=True, slots=True, eq=False)
class Still:
    """``rgb``: (H, W, 3) uint8, area-averaged down beyond the pixel cap; ``width`` and ``height`` as displayed, before
    that; ``codec``: jpeg, png or webp; ``warnings``: sentences on what had to be corrected."""

    rgb: NDArray[np.uint8]
    width: int
    height: int
    codec: str
    warnings: tuple[str, ...]


def is_still(path: str) -> bool:
    """Whether the file begins like a JPEG, PNG or WebP picture. False for what cannot be read."""
    try:
        with open(path, "rb") as file:
            head = file.read(12)
    except (OSError, ValueError):
        return False
    return head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")) or (head[:4] == b"RIFF" and head[8:] == b"WEBP")


def read_still(path: str, limits: Limits, max_pixels: int) -> Still:
    """Decode the picture at ``path``, turned as its EXIF says; of an animation the first picture."""
    from PIL import Image, ImageOps, UnidentifiedImageError  # in the worker only when a picture comes

    name = shown_name(path)
    if os.stat(path).st_size > MAX_BYTES:
        raise ClipError(f"“{name}” is larger than {MAX_BYTES >> 20} MB, too much for one picture; export it smaller.")
    Image.MAX_IMAGE_PIXELS = None  # our own limit follows, and says what to do
    notes: list[str] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd EXIF data
            with Image.open(path, formats=FORMATS) as opened:
                check_picture_size(name, *opened.size, limits)
                codec = str(opened.format).lower()
                if getattr(opened, "n_frames", 1) > 1:
                    notes.append("The picture is animated; its first frame was looked at.")
                opened.load()
                picture = ImageOps.exif_transpose(opened)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError) as error:
        raise ClipError(
            f"“{name}” is cut off, damaged or no JPEG, PNG or WebP picture; copy it from the camera again."
        ) from error
    if picture.mode.startswith("I") or picture.mode == "F":  # 16 bits a pixel: converting would clip, not scale
        grey = np.asarray(picture, np.float64)
        picture = Image.fromarray((grey / max(float(grey.max()), 255.0) * 255).astype(np.uint8))
    picture = picture.convert("RGB")
    width, height = picture.size
    scale = (max_pixels / (width * height)) ** 0.5
    if scale < 1.0:
        picture = picture.resize((max(1, int(width * scale)), max(1, int(height * scale))), Image.Resampling.BOX)
    return Still(np.array(picture, np.uint8), width, height, codec, tuple(notes))
