"""Decode chosen frames of a span and turn them into upright RGB pictures with square pixels. Runs in the worker.

Every packet is decoded at most once, and only from the last key frame before a wanted frame on. Pictures are RGB
uint8 (H, W, 3); matrix and range follow the stream's tags (untagged: BT.601 limited, as FFmpeg takes it), high bit
depths are rounded to 8, alpha is dropped, interlaced pictures are blended, pictures over the pixel cap are
area-averaged down.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from services.errors import ClipError
from services.video_probe import Source, check_picture_size
from services.video_survey import Span
from services.video_times import Group, groups_for

# Codecs that can leave out, packet by packet, frames that no other frame leans on.
_SKIPPING = frozenset({"h264", "hevc", "mpeg4", "mpeg2video"})


@dataclass(frozen=True, slots=True)
class Decoded:
    """The frame shown at ``position`` of a span's timeline; ``exact`` is False where that frame could not be decoded
    and the one shown before it stands in."""

    position: int
    frame: Any
    exact: bool


def decode(source: Source, span: Span, positions: Sequence[int]) -> Iterator[Decoded]:
    """Frames at ``positions`` of the span's timeline, ascending, each position once; those that cannot be decoded and
    have no earlier frame in their group are left out. Errors: ClipError where the work would exceed the limits."""
    groups = groups_for(span.table, span.line, positions)
    work = sum(group.stop - group.start + 1 for group in groups)
    if work > source.limits.max_decoded_frames:
        raise ClipError(
            f"“{source.name}” has key frames so rarely that {work} pictures would have to be decoded to see "
            f"{len(set(positions))} of them; convert it to MP4 (H.264) with a key frame every 10 s, or cut it."
        )
    packets = enumerate(source.packets(span.start))
    for group in groups:
        yield from _decode_group(source, span, group, packets)


def _decode_group(source: Source, span: Span, group: Group, packets: Iterator[tuple[int, Any]]) -> Iterator[Decoded]:
    context = source.stream.codec_context
    context.flush_buffers()
    exact_skip = not span.line.counted and context.name in _SKIPPING
    wanted = {int(span.line.ordinals[position]) for position in group.positions}
    picker = _Picker(span, group)
    for ordinal, packet in packets:
        if ordinal < group.start:
            continue
        if ordinal == group.start and packet.pts is not None and packet.pts != span.table.pts[ordinal]:
            raise ClipError(f"“{source.name}” changed while it was read; wait until it is complete and try again.")
        if exact_skip:
            context.skip_frame = "DEFAULT" if ordinal in wanted else "NONREF"
        yield from picker.take(frames_of(context, packet))
        if ordinal >= group.stop:
            break
    yield from picker.take(frames_of(context, None))
    yield from picker.rest()
    context.skip_frame = "DEFAULT"


def frames_of(context: Any, packet: Any) -> list[Any]:
    """Frames that come out when ``packet`` goes in (None: all that are left); damaged packets give none."""
    try:
        return list(context.decode(packet))
    except MemoryError:  # FFmpeg's own is one of Python's too, and no fault of this packet
        raise
    except (av.FFmpegError, ValueError):
        return []


class _Picker:
    """Takes frames as they leave the decoder, in presentation order, and gives those that are wanted."""

    def __init__(self, span: Span, group: Group) -> None:
        self._line = span.line
        self._count = group.start
        self._wanted = list(group.positions)
        self._held: Any = None

    def take(self, frames: list[Any]) -> Iterator[Decoded]:
        for frame in frames:
            at = self._count if self._line.counted else frame.pts
            self._count += 1
            if at is None:
                continue
            while self._wanted and self._due(self._wanted[0]) < at:
                if self._held is None:
                    break
                yield Decoded(self._wanted.pop(0), self._held, exact=False)
            self._held = frame
            while self._wanted and self._due(self._wanted[0]) == at:
                yield Decoded(self._wanted.pop(0), frame, exact=not frame.is_corrupt)

    def rest(self) -> Iterator[Decoded]:
        while self._wanted and self._held is not None:
            yield Decoded(self._wanted.pop(0), self._held, exact=False)

    def _due(self, position: int) -> int:
        return position if self._line.counted else int(self._line.times[position])


class Upright:
    """Turns decoded frames of one stream into upright pictures with square pixels, all of the same size.

    ``width`` and ``height`` are the displayed size, before ``max_pixels`` caps the picture that ``rgb`` returns.
    ``notes`` are plain sentences on what had to be corrected.
    """

    def __init__(self, source: Source, frame: Any, max_pixels: int) -> None:
        self.notes: list[str] = []
        stretch = self._pixel_aspect(source.stream.sample_aspect_ratio)
        self._swap, self._mirror, self._flip = self._orientation(frame)
        wide, high = max(1, round(frame.width * stretch)), frame.height
        self.width, self.height = (high, wide) if self._swap else (wide, high)
        check_picture_size(source.name, self.width, self.height, source.limits)
        scale = min(1.0, (max_pixels / (wide * high)) ** 0.5)
        self._size = (max(1, int(wide * scale)), max(1, int(high * scale)))
        self._scaler = VideoReformatter()

    def rgb(self, frame: Any) -> NDArray[np.uint8]:
        """(H, W, 3) uint8, C-contiguous; the same size for every frame, whatever size the stream changes to."""
        wide, high = self._size
        enlarge = wide * high > frame.width * frame.height
        method = Interpolation.BICUBIC if enlarge else Interpolation.AREA
        flags = method | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
        scaled = self._scaler.reformat(frame, wide, high, "rgb24", interpolation=flags, threads=1)
        picture: NDArray[Any] = scaled.to_ndarray()
        if frame.interlaced_frame and high >= 4:
            picture = _blend_fields(picture)
        if self._swap:
            picture = picture.transpose(1, 0, 2)
        if self._mirror:
            picture = picture[:, ::-1]
        if self._flip:
            picture = picture[::-1]
        return np.ascontiguousarray(picture)

    def _pixel_aspect(self, aspect: Fraction | None) -> Fraction:
        if not aspect or aspect == 1:
            return Fraction(1)
        if not Fraction(1, 4) <= aspect <= 4:
            self.notes.append(
                f"The file's pixel shape of {aspect.numerator}:{aspect.denominator} is absurd and ignored."
            )
            return Fraction(1)
        self.notes.append(
            f"The pixels are not square ({aspect.numerator}:{aspect.denominator}); pictures are shown in true shape."
        )
        return aspect

    def _orientation(self, frame: Any) -> tuple[bool, bool, bool]:
        """(swap the axes, mirror left to right, flip upside down), in this order, from the display matrix: a point
        (p, q) of the stored picture is shown at (a p + c q, b p + d q); QuickTime File Format, "Matrices"."""
        if "DISPLAYMATRIX" not in frame.side_data:
            return False, False, False
        a, b, _, c, d = np.frombuffer(frame.side_data["DISPLAYMATRIX"], np.int32)[:5].tolist()
        quarter = abs(b) + abs(c) > abs(a) + abs(d)
        across, along = (c, b) if quarter else (a, d)
        skew = (abs(a) + abs(d)) if quarter else (abs(b) + abs(c))
        if not across or not along or skew > 0.02 * (abs(across) + abs(along)):
            self.notes.append("The file asks for a rotation that is no quarter turn; it is ignored.")
            return False, False, False
        mirror, flip = across < 0, along < 0
        if quarter or mirror or flip:
            self.notes.append(f"The file asks for {_turn(quarter, mirror, flip)}; the pictures are shown that way up.")
        return quarter, mirror, flip


def _turn(quarter: bool, mirror: bool, flip: bool) -> str:
    if quarter:
        return {(True, False): "a quarter turn to the right", (False, True): "a quarter turn to the left"}.get(
            (mirror, flip), "a quarter turn and a mirror image"
        )
    return "a half turn" if mirror and flip else "a mirror image"


def _blend_fields(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Average each line with its neighbours, 1-2-1: the two fields of an interlaced picture no longer comb."""
    wide = picture.astype(np.uint16)
    padded = np.concatenate((wide[:1], wide, wide[-1:]))
    return ((padded[:-2] + 2 * wide + padded[2:] + 2) // 4).astype(np.uint8)
