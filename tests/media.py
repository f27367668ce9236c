"""Odd and ordinary media files made on the spot with PyAV, for tests and benches; nothing is stored in the repository.

Pictures are RGB uint8 (H, W, 3). ``numbered`` draws a frame's number into it as 4 x 4 black or white blocks that
survive lossy coding, scaling and rotation back, and ``read_number`` reads it again: so a test can prove which frame
it was given. Every maker returns the path it wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Painter = Callable[[int, int, int], Picture]

MAX_NUMBER = 2**14 - 1


def numbered(number: int, width: int, height: int) -> Picture:
    """The picture of frame ``number`` (0 … 16383), (height, width, 3): 14 bits as blocks in a 4 x 4 grid, row by
    row, the first block always white and the last always black (so a flip or a black picture cannot pass)."""
    bits = [1, *((number >> shift) & 1 for shift in range(13, -1, -1)), 0]
    grid = np.array(bits, np.uint8).reshape(4, 4) * 200 + 28
    rows = np.minimum(np.arange(height) * 4 // height, 3)
    columns = np.minimum(np.arange(width) * 4 // width, 3)
    return np.repeat(grid[rows][:, columns][:, :, None], 3, axis=2)


def read_number(picture: Picture) -> int:
    """The number that ``numbered`` drew, from the middle of each block; -1 if the two guard blocks are not in place."""
    height, width = picture.shape[:2]
    bits = []
    for row in range(4):
        for column in range(4):
            top, left = int(height * (row + 0.35) / 4), int(width * (column + 0.35) / 4)
            block = picture[top : top + max(1, int(height * 0.075)), left : left + max(1, int(width * 0.075))]
            bits.append(int(block.mean() > 128))
    if bits[0] != 1 or bits[15] != 0:
        return -1
    return int("".join(map(str, bits[1:15])), 2)


def barn(number: int, width: int, height: int) -> Picture:
    """A textured, still background with two soft blobs that wander: ordinary footage for coders, (height, width, 3)."""
    background = np.random.default_rng(7).integers(60, 190, (height // 4 + 1, width // 4 + 1, 3), np.uint8)
    picture = background.repeat(4, axis=0).repeat(4, axis=1)[:height, :width].copy()
    for phase, colour in ((0.0, (40, 30, 25)), (2.0, (230, 225, 220))):
        x = int((0.5 + 0.35 * np.sin(number / 40 + phase)) * width)
        y = int((0.5 + 0.3 * np.cos(number / 55 + phase)) * height)
        picture[max(0, y - height // 12) : y + height // 12, max(0, x - width // 10) : x + width // 10] = colour
    return picture


def pattern(kind: str) -> Painter:
    """Pictures that show nothing: ``black``, ``frozen`` (one picture of noise) or ``noise`` (a new one each time)."""
    rng = np.random.default_rng(3)
    still = rng.integers(0, 256, (512, 896, 3), dtype=np.uint8)

    def paint(number: int, width: int, height: int) -> Picture:
        if kind == "black":
            return np.zeros((height, width, 3), np.uint8)
        if kind == "frozen":
            return np.ascontiguousarray(still[:height, :width] // 2 + 60)
        return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)

    return paint


def make_clip(
    path: Path | str,
    frames: int = 50,
    *,
    width: int = 160,
    height: int = 96,
    fps: Fraction | int = 25,
    codec: str = "libx264",
    container: str | None = None,
    pix_fmt: str = "yuv420p",
    gop: int = 25,
    bframes: int = 2,
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    rotation: int = 0,
    mirror: bool = False,
    sar: Fraction | None = None,
    paint: Painter = numbered,
    options: dict[str, str] | None = None,
    mux_options: dict[str, str] | None = None,
    tags: dict[str, int] | None = None,
    audio: bool = False,
    drop_pts: bool = False,
) -> Path:
    """Write a clip of ``frames`` pictures drawn by ``paint(number, width, height)``.

    ``pts`` (in ``time_base``, default 1/fps) gives each frame its own presentation time: variable rates, gaps and
    offsets. ``rotation`` is the display matrix, degrees counter-clockwise as PyAV counts. ``tags`` sets attributes
    such as ``colorspace`` or ``color_range`` on pictures and stream. ``drop_pts`` muxes with dts only.
    """
    path = Path(path)
    base = time_base or 1 / Fraction(fps)
    with av.open(str(path), "w", format=container, options=mux_options or {}) as out:
        stream = out.add_stream(codec, rate=Fraction(fps), options=_coder_options(codec, gop, bframes, options))
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.time_base = base
        stream.codec_context.gop_size = gop
        if sar is not None:
            stream.codec_context.sample_aspect_ratio = sar
        if rotation or mirror:
            stream.set_display_rotation(rotation, hflip=mirror)
        for name, value in (tags or {}).items():
            setattr(stream.codec_context, name, value)
        sound = out.add_stream("aac", rate=16000) if audio else None
        for packet in _coded(stream, frames, paint, width, height, pts, base, tags):
            if drop_pts:
                packet.pts = None
            out.mux(packet)
        if sound is not None:
            mux_silence(out, sound, float(frames / Fraction(fps)))
    return path


def _coder_options(codec: str, gop: int, bframes: int, options: dict[str, str] | None) -> dict[str, str]:
    if codec == "libx264":
        base = {"preset": "ultrafast", "g": str(gop), "bf": str(bframes), "sc_threshold": "0", "crf": "20"}
    elif codec == "libx265":
        base = {"preset": "ultrafast", "x265-params": f"keyint={gop}:bframes={bframes}:log-level=none"}
    else:
        base = {}
    return base | (options or {})


def _coded(
    stream: Any,
    frames: int,
    paint: Painter,
    width: int,
    height: int,
    pts: Sequence[int] | None,
    base: Fraction,
    tags: dict[str, int] | None,
) -> Iterable[av.Packet[Any]]:
    for number in range(frames):
        frame = av.VideoFrame.from_ndarray(paint(number, width, height), format="rgb24")
        frame = frame.reformat(
            format=stream.pix_fmt,
            dst_colorspace=(tags or {}).get("colorspace"),
            dst_color_range=(tags or {}).get("color_range"),
        )
        frame.pts, frame.time_base = (pts[number] if pts is not None else number), base
        yield from stream.encode(frame)
    yield from stream.encode(None)


def mux_silence(out: Any, stream: Any, seconds: float) -> None:
    """Code and write ``seconds`` of silence to an audio stream of 16 kHz."""
    done = 0
    while done < seconds * 16000:
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, done, Fraction(1, 16000)
        out.mux(stream.encode(frame))
        done += 1024
    out.mux(stream.encode(None))


def make_long_clip(
    path: Path | str,
    minutes: float,
    *,
    width: int = 1920,
    height: int = 1080,
    fps: int = 25,
    gop: int = 250,
    pattern_s: int = 20,
    paint: Painter = barn,
    container: str | None = None,
) -> Path:
    """A long clip for little work: ``pattern_s`` seconds are coded once and their packets repeated with new time
    stamps, a key frame every ``gop`` frames (``pattern_s * fps`` must be a multiple of it)."""
    path = Path(path)
    count = pattern_s * fps
    if count % gop:
        raise ValueError(f"{pattern_s} s at {fps} frames a second is no multiple of {gop} frames")
    pattern = make_clip(
        path.with_suffix(".pattern.mp4"), count, width=width, height=height, fps=fps, gop=gop, bframes=3, paint=paint,
        options={"preset": "veryfast", "crf": "26"},
    )  # fmt: skip
    with av.open(str(pattern)) as source, av.open(str(path), "w", format=container) as out:
        stream = source.streams.video[0]
        target = out.add_stream_from_template(stream)
        packets = [
            (bytes(p), p.pts, p.dts, p.duration, p.is_keyframe) for p in source.demux(stream) if p.dts is not None
        ]
        length = int(Fraction(count, fps) / stream.time_base)
        for turn in range(round(minutes * 60 / pattern_s)):
            for data, pts, dts, duration, key in packets:
                packet = av.Packet(data)
                packet.stream, packet.time_base = target, stream.time_base
                packet.pts, packet.dts, packet.duration = pts + turn * length, dts + turn * length, duration
                packet.is_keyframe = key
                out.mux(packet)
    pattern.unlink()
    return path


def make_rotated(path: Path | str, rotation: int, **options: Any) -> Path:
    """A clip whose pictures lie on their side in the file and stand upright once ``rotation`` (0, 90, 180, -90 degrees
    counter-clockwise) is applied: ``read_number`` works on the displayed picture only."""

    def lying(number: int, width: int, height: int) -> Picture:
        shown = numbered(number, *((height, width) if rotation % 180 else (width, height)))
        return np.ascontiguousarray(np.rot90(shown, -rotation // 90))

    return make_clip(path, paint=lying, rotation=rotation, **options)
