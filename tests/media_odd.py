"""Files that are not what they seem, for tests: refused ones, damaged ones, and those whose time stamps lie.

Made on the spot from the ordinary clips of ``tests.media``. Every maker returns the path it wrote.
"""

from __future__ import annotations

import zipfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.media import barn, make_clip, mux_silence, numbered


def make_audio(path: Path | str, seconds: float = 2.0) -> Path:
    """Sound without pictures."""
    path = Path(path)
    with av.open(str(path), "w") as out:
        mux_silence(out, out.add_stream("aac", rate=16000), seconds)
    return path


def make_picture(path: Path | str, codec: str = "mjpeg") -> Path:
    """A still picture (mjpeg or png), whatever the name says."""
    path = Path(path)
    context = av.CodecContext.create(codec, "w")
    context.width, context.height, context.time_base = 160, 96, Fraction(1, 25)
    context.pix_fmt = "yuvj420p" if codec == "mjpeg" else "rgb24"
    frame = av.VideoFrame.from_ndarray(numbered(1, 160, 96), format="rgb24").reformat(format=context.pix_fmt)
    path.write_bytes(b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)]))
    return path


def make_text(path: Path | str) -> Path:
    path = Path(path)
    path.write_text("This is not a video.\n" * 50)
    return path


def make_zip(path: Path | str) -> Path:
    """A ZIP archive with a real clip in it."""
    path = Path(path)
    inner = make_clip(path.with_suffix(".inner.mp4"))
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(inner, "clip.mp4")
    inner.unlink()
    return path


def make_concat_script(path: Path | str, names: str) -> Path:
    """An FFmpeg concat script that names another file."""
    path = Path(path)
    path.write_text(f"ffconcat version 1.0\nfile {names}\n")
    return path


def make_playlist(path: Path | str, names: str) -> Path:
    """An HLS playlist that names another file or an address."""
    path = Path(path)
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:2.0,\n{names}\n#EXT-X-ENDLIST\n")
    return path


def make_truncated(path: Path | str, *, index_first: bool, share: float = 0.6) -> Path:
    """The first part of an MP4: its index missing, or (``index_first``) in place with the later pictures gone."""
    path = Path(path)
    movflags = {"movflags": "faststart"} if index_first else None
    whole = make_clip(path.with_suffix(".whole.mp4"), 300, mux_options=movflags).read_bytes()
    path.with_suffix(".whole.mp4").unlink()
    path.write_bytes(whole[: int(len(whole) * share)])
    return path


def make_half_index(path: Path | str) -> Path:
    """An MP4 cut within its index, which comes first."""
    path = Path(path)
    raw = make_clip(path, mux_options={"movflags": "faststart"}).read_bytes()
    path.write_bytes(raw[: raw.find(b"moov") + 400])
    return path


def make_corrupt(path: Path | str, share: float = 1.0, *, seed: int = 1) -> Path:
    """An MP4 with a sound index and random bytes for a ``share`` of its picture data, from the beginning on."""
    path = Path(path)
    raw = bytearray(make_clip(path, 100, paint=barn, mux_options={"movflags": "faststart"}).read_bytes())
    start = raw.find(b"mdat") + 8
    stop = start + int((len(raw) - start) * share)
    raw[start:stop] = np.random.default_rng(seed).integers(0, 256, stop - start, np.uint8).tobytes()
    path.write_bytes(raw)
    return path


def make_huge_header(path: Path | str, side: int = 16000) -> Path:
    """Kilobytes whose header announces pictures of ``side`` x ``side``: JPEG pictures in MP4 or AVI, or a GIF."""
    path = Path(path)
    if path.suffix == ".gif":
        raw = bytearray(make_clip(path, 20, codec="gif", pix_fmt="rgb8").read_bytes())
        raw[6:10] = side.to_bytes(2, "little") * 2
    else:
        raw = bytearray(make_clip(path, 20, codec="mjpeg", pix_fmt="yuvj420p").read_bytes())
        if path.suffix == ".avi":
            at = raw.find(b"strf") + 12
            raw[at : at + 8] = side.to_bytes(4, "little") * 2
        else:
            at = raw.find(b"stsd") + 44
            raw[at : at + 4] = side.to_bytes(2, "big") * 2
        _replace_all(raw, b"\xff\xc0", 5, side.to_bytes(2, "big") * 2)
    path.write_bytes(raw)
    return path


def make_lying_size(path: Path | str, side: int = 16000) -> Path:
    """A WebM whose header says 160 x 96 while its pictures unfold to ``side`` x ``side``."""
    path = Path(path)
    raw = bytearray(make_clip(path, 20, codec="libvpx").read_bytes())
    _replace_all(raw, b"\x9d\x01\x2a", 3, side.to_bytes(2, "little") * 2)
    path.write_bytes(raw)
    return path


def _replace_all(raw: bytearray, mark: bytes, offset: int, value: bytes) -> None:
    at = raw.find(mark)
    while at >= 0:
        raw[at + offset : at + offset + len(value)] = value
        at = raw.find(mark, at + len(mark) + offset)


def make_zero_time_scale(path: Path | str) -> Path:
    """An MP4 whose media header says that a second has zero ticks: 40 pictures announced, one shown."""
    path = Path(path)
    stamps = [270000 + 3000 * number for number in range(40)]
    raw = bytearray(make_clip(path, 40, pts=stamps, time_base=Fraction(1, 90000)).read_bytes())
    at = raw.find(b"mdhd") + 16
    raw[at : at + 4] = bytes(4)
    path.write_bytes(raw)
    return path


def make_without_stamps(path: Path | str, frames: int = 60) -> Path:
    """An MPEG transport stream with the time stamps taken out of every packet, as some recorders write it."""
    path = Path(path)
    raw = bytearray(make_clip(path, frames, container="mpegts").read_bytes())
    at = raw.find(b"\x00\x00\x01\xe0")
    while at >= 0:
        if raw[at + 6] >> 6 == 2:  # an MPEG-2 PES header with its optional part
            raw[at + 7] &= 0x3F
            raw[at + 9 : at + 9 + raw[at + 8]] = b"\xff" * raw[at + 8]
        at = raw.find(b"\x00\x00\x01\xe0", at + 4)
    path.write_bytes(raw)
    return path


def make_spliced(path: Path | str) -> Path:
    """Two transport streams, one behind the other: the time stamps jump back in the middle, the numbers go on."""
    path = Path(path)
    later = Fraction(1, 25)
    one = make_clip(path.with_suffix(".1.ts"), 50, pts=[n + 500 for n in range(50)], time_base=later)
    two = make_clip(path.with_suffix(".2.ts"), 50, paint=lambda n, w, h: numbered(n + 50, w, h))
    path.write_bytes(one.read_bytes() + two.read_bytes())
    one.unlink()
    two.unlink()
    return path


def make_edit_list(path: Path | str, skip: int = 20, frames: int = 60) -> Path:
    """An MP4 whose edit list starts the presentation ``skip`` frames into the coded ones (a trimmed phone clip)."""
    path = Path(path)
    raw = bytearray(make_clip(path, frames, gop=250).read_bytes())
    at = raw.find(b"elst") + 12  # version and flags, entry count, then duration, media time, rate
    media_time = int.from_bytes(raw[at + 4 : at + 8], "big")
    scale_at = raw.find(b"mdhd") + 16
    scale = int.from_bytes(raw[scale_at : scale_at + 4], "big")
    raw[at + 4 : at + 8] = (media_time + skip * scale // 25).to_bytes(4, "big")
    movie = int.from_bytes(raw[raw.find(b"mvhd") + 16 : raw.find(b"mvhd") + 20], "big")
    raw[at : at + 4] = ((frames - skip) * movie // 25).to_bytes(4, "big")
    path.write_bytes(raw)
    return path


def make_interlaced(path: Path | str, frames: int = 30) -> Path:
    """MPEG-2 with interlaced coding."""
    return make_clip(
        path, frames, width=320, height=240, codec="mpeg2video", options={"flags": "+ildct+ilme", "top": "1"}
    )
