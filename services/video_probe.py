"""Open a media file warily and refuse by its header what cannot be analysed. Runs in the worker process.

Only containers on the list are opened, by the local file protocol alone, so that a playlist or concat script under a
video's name never makes FFmpeg open another file. Nothing is decoded here; FFmpeg itself may look at a few pictures
to learn the stream's format, within ``max_pixels``. Errors: ClipError, one sentence.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
from av.stream import Discard, Disposition

from services.errors import ClipError
from services.video_names import shown_name

# FFmpeg demuxer -> how we name the container.
CONTAINERS = {
    "mov,mp4,m4a,3gp,3g2,mj2": "mp4",
    "matroska,webm": "matroska",
    "avi": "avi",
    "gif": "gif",
    "mpegts": "mpegts",
    "mpeg": "mpegps",
}
ACCEPTED = "an MP4, MOV, AVI, MKV, WebM, GIF or MPEG video"

_SIGNATURES = (
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x89PNG", "a PNG picture"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"%PDF", "a PDF document"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"#EXTM3U", "a playlist that names other files"),
    (b"ffconcat", "a script that names other files"),
    (b"OggS", "an Ogg file"),
    (b"ID3", "an MP3 sound file"),
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a clip may ask of the machine. Pixels are of one picture, times in seconds."""

    max_pixels: int = 36_000_000
    max_duration_s: float = 24 * 3600
    min_duration_s: float = 0.5
    max_decoded_frames: int = 30_000
    max_packets: int = 6_000_000
    min_side: int = 32


class Source:
    """One open media file and its video stream; ``packets`` may be called again and again.

    Attributes: ``name`` (for messages), ``container`` (our name), ``codec``, ``time_base``, ``size_bytes``.
    """

    def __init__(self, path: str, limits: Limits) -> None:
        self.path = path
        self.name = shown_name(path)
        self.limits = limits
        self.size_bytes = os.stat(path).st_size
        self._open()
        self.container = _container_name(self._file.format.name, path, self._file.metadata)
        self.codec = self.stream.codec.canonical_name
        self.time_base = self.stream.time_base or Fraction(1, 90000)
        self.reorders = bool(self.stream.codec_context.has_b_frames)
        self._check_size()

    def close(self) -> None:
        self._file.close()

    def _open(self) -> None:
        self._file = _open_file(self.path, self.limits.max_pixels)
        self.stream = _video_stream(self._file, self.name)
        for other in self._file.streams:
            if other.index != self.stream.index:
                other.discard = Discard.all
        context = self.stream.codec_context
        context.options = {"max_pixels": str(self.limits.max_pixels)}
        context.thread_type = "AUTO"
        context.thread_count = min(4, os.cpu_count() or 1)
        self._fresh = True

    @property
    def rates(self) -> list[Fraction | None]:
        """Frame rates that the header announces, the more trustworthy first."""
        return [self.stream.average_rate, self.stream.guessed_rate]

    @property
    def announced_s(self) -> float | None:
        """The length that the header announces, seconds."""
        if self.stream.duration:
            return float(self.stream.duration * self.time_base)
        return self._file.duration / 1e6 if self._file.duration else None

    @property
    def announced_end(self) -> int | None:
        """The tick at which the stream should end by its header."""
        if self.announced_s is None:
            return None
        start = self.stream.start_time
        if start is None:
            start = int((self._file.start_time or 0) / 1_000_000 / self.time_base)
        return int(start + self.announced_s / self.time_base)

    def packets(self, start: int | None) -> Iterator[Any]:
        """Non-empty packets of the video in decode order, from the beginning (``start`` None) or from where a seek to
        tick ``start`` lands; the same ``start`` always gives the same packets. Ends where the file can be read no
        further, and at once where there is no seeking there. Invalidates earlier iterators."""
        if start is None:
            if not self._fresh:  # opening anew is the one way back that every container knows
                self._file.close()
                self._open()
        else:
            try:
                self._file.seek(start, stream=self.stream, backward=True)
            except av.FFmpegError:  # no key frame so early, or no index to find one by
                return
        self._fresh = False
        demuxed = self._file.demux(self.stream)
        while True:
            try:
                packet = next(demuxed)
            except (StopIteration, av.FFmpegError, ValueError):
                return
            if packet.size:
                yield packet

    def _check_size(self) -> None:
        width, height = self.stream.codec_context.width, self.stream.codec_context.height
        if not width or not height:
            width, height = _size_by_header(self.path)
        if not width or not height:
            raise ClipError(
                f"“{self.name}” does not say how large its pictures are, or they are larger than "
                f"{self.limits.max_pixels / 1e6:.0f} million pixels; convert it to MP4 (H.264) and try again."
            )
        check_picture_size(self.name, width, height, self.limits)


def check_picture_size(name: str, width: int, height: int, limits: Limits) -> None:
    """Raise ClipError for pictures that are too large, too small or a mere strip."""
    if width * height > limits.max_pixels:
        raise ClipError(
            f"“{name}” has pictures of {width} × {height} pixels, more than {limits.max_pixels / 1e6:.0f} million; "
            "export it in 4K or smaller and try again."
        )
    if min(width, height) < limits.min_side:
        raise ClipError(
            f"“{name}” has pictures of only {width} × {height} pixels; both sides need at least {limits.min_side}."
        )
    if max(width, height) > 20 * min(width, height):
        raise ClipError(
            f"“{name}” has pictures of {width} × {height} pixels, a mere strip; crop it to the barn's view."
        )


def _open_file(path: str, max_pixels: int, **options: str) -> Any:
    options = {
        "format_whitelist": ",".join(CONTAINERS),
        "protocol_whitelist": "file",
        "max_pixels": str(max_pixels),
        **options,
    }
    try:
        return av.open(path, options=options, metadata_errors="replace")
    except (av.FFmpegError, ValueError, OSError) as error:
        raise ClipError(_why_not_opened(path)) from error


def _why_not_opened(path: str) -> str:
    """One sentence on a file that is no accepted container, from its first bytes."""
    name = shown_name(path)
    with open(path, "rb") as file:
        head = file.read(4096)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free") or head[:4] in (b"\x1aE\xdf\xa3", b"RIFF"):
        if head[8:12] == b"WEBP":
            return f"“{name}” is a WebP picture, not a video; upload {ACCEPTED}."
        return (
            f"“{name}” is cut off or damaged: its index is missing, so no picture can be found; copy it from the "
            "camera again, and wait until the recording has ended."
        )
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            return f"“{name}” is {kind}, not a video; upload {ACCEPTED}."
    printable = sum(32 <= byte < 127 or byte in (9, 10, 13) for byte in head)
    if head and printable > 0.95 * len(head):
        return f"“{name}” is a text file, not a video; upload {ACCEPTED}."
    return f"“{name}” is not a video that HerdLens can open; upload {ACCEPTED}."


def _video_stream(file: Any, name: str) -> Any:
    streams = [s for s in file.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        what = "only sound" if file.streams.audio else "no pictures"
        raise ClipError(f"“{name}” holds {what}; upload a recording with video.")
    usable = [s for s in streams if s.codec_context is not None]
    if not usable:
        raise ClipError(
            f"“{name}” holds video in a form that cannot be decoded, or its index is damaged; "
            "convert it to MP4 (H.264) and try again."
        )
    return max(usable, key=lambda s: (bool(s.disposition & Disposition.default), s.width * s.height))


def _size_by_header(path: str) -> tuple[int, int]:
    """Width and height as the container's header has them: no decoder is let near the file."""
    with _open_file(path, 2**31 - 1, codec_whitelist="none") as file:
        for stream in file.streams.video:
            if stream.codec_context is not None:
                return stream.codec_context.width, stream.codec_context.height
    return 0, 0


def _container_name(demuxer: str, path: str, metadata: dict[str, str]) -> str:
    name = CONTAINERS[demuxer]
    if name == "mp4" and metadata.get("major_brand", "qt").strip() == "qt":
        return "mov"
    if name == "matroska":
        with open(path, "rb") as file:
            if b"webm" in file.read(64):
                return "webm"
    return name
