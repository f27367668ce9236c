"""Stage ``novelty``: fit the measure of how unlike the training renders a clip is.

Fitted on rendered clips only: what is compared with are clips of the set *adapter*; scales and limit come from the
calibration set, as rendered and (a part of it) drawn again and coded at other sizes, rates, qualities and codecs,
because a farmer's file may come so. Half of the re-encoded clips are compared with, the other half sets the limit.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import cast

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf

from services.novelty import NoveltyModel, statistics
from training.demo import tower
from training.demo.coding import decoded
from training.demo.draw import draw_frames
from training.demo.harvest import Stored, small
from training.demo.plan import plan_clip
from training.demo.progress import Progress

INSIDE = 0.97
"""Share of unseen renders, and of unseen re-encodings apart, that the limit keeps inside at least."""


def fit(
    trained: Stored,
    trained_vectors: NDArray[np.float32],
    originals: Stored,
    vectors: NDArray[np.float32],
    again: list[NDArray[np.uint8]],
    again_vectors: NDArray[np.float32],
) -> NoveltyModel:
    """``trained_vectors`` (M, D) of the first M clips of ``trained``, which are compared with; ``vectors`` (N, D) of
    ``originals``; ``again`` re-encoded clips (T, 128, 224, 3) with their vectors."""
    progress = Progress("novelty", len(trained_vectors) + len(originals) + len(again))

    def table(clips: Iterable[NDArray[np.uint8]]) -> NDArray[np.float32]:
        rows = []
        for clip in clips:
            rows.append(statistics(clip))
            progress.step()
        return np.stack(rows)

    recodings = table(again)
    half = len(again) // 2
    known = np.concatenate([table(_pictures(trained, len(trained_vectors))), recodings[:half]])
    mean, spread = known.mean(0), known.std(0) + 1e-6
    covariance, _ = ledoit_wolf((known - mean) / spread)
    values, directions = np.linalg.eigh(covariance)
    whitening = (directions / np.sqrt(np.maximum(values, 1e-4))) / spread[:, None]
    rows = (known - mean) @ whitening
    parts = [np.asarray(part, np.float32) for part in (mean, whitening, rows, np.ones(2), trained_vectors)]
    model = NoveltyModel(parts[0], parts[1], parts[2], parts[3], parts[4], 1.0)
    unseen = [
        _distances(model, table(_pictures(originals, len(originals))), vectors),
        _distances(model, recodings[half:], again_vectors[half:]),
    ]
    model.scale = np.quantile(np.concatenate(unseen), 0.99, axis=0).astype(np.float32)
    model.limit = max(float(np.quantile((found / model.scale).max(1), INSIDE)) for found in unseen)
    return model


SIZES = ((320, 180), (384, 216), (448, 256), (640, 360), (848, 480), (960, 540))
CODECS = (("libx264", "crf", (20, 34)), ("mpeg4", "qscale", (2, 9)))


def recoded(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """(31, 128, 224, 3) and times (31,) s: the clip of ``seed`` with the pictures between, taken at other times, at
    another size, quality and codec. Every second is one of the usual sixteen."""
    rng = np.random.default_rng([seed, 31])
    plan = plan_clip(seed)
    times = np.linspace(rng.uniform(0, 0.2), plan.duration_s - rng.uniform(0.1, 0.3), 31)
    width, height = SIZES[int(rng.integers(len(SIZES)))]
    frames = np.stack(
        [
            cv2.resize(f, (width, height), interpolation=cv2.INTER_LINEAR if width > 448 else cv2.INTER_AREA)
            for f in draw_frames(plan, times)
        ]
    )
    codec, option, (low, high) = CODECS[int(rng.integers(len(CODECS)))]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as container:
        value = str(int(rng.integers(low, high + 1)))
        options = {"crf": value, "preset": "veryfast"} if option == "crf" else {}
        stream = cast(av.VideoStream, container.add_stream(codec, rate=12, options={**options, "threads": "1"}))
        if option == "qscale":
            stream.codec_context.flags |= 0x0002
            stream.codec_context.qmin = stream.codec_context.qmax = int(value)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for rgb in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode(None))
    return small(decoded(buffer.getvalue())), times


def _pictures(stored: Stored, count: int) -> Iterator[NDArray[np.uint8]]:
    return (tower.pictures(np.asarray(patches)) for patches in stored.patches[:count])


def _distances(model: NoveltyModel, rows: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, 2), unscaled."""
    pairs = [(model.distance_of(row), model.distance_between(v)) for row, v in zip(rows, vectors, strict=True)]
    return np.asarray(pairs, np.float32)
