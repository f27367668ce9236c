"""Stage ``novelty``: fit the measure of how unlike the training renders a clip is.

Fitted on rendered clips only: the calibration set as rendered, and a part of it drawn again and coded at other sizes,
rates, qualities and codecs, because a farmer's file may come so; half fits, the other half sets scales and limit.
"""

from __future__ import annotations

import io
from typing import Literal, cast

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf

from services.novelty import NEIGHBOURS, NoveltyModel, statistics
from training.demo import tower
from training.demo.draw import draw_frames
from training.demo.harvest import Stored, decoded, small
from training.demo.plan import plan_clip
from training.demo.progress import Progress

INSIDE = 0.985
"""Share of unseen renders and re-encodings that the limit keeps inside."""


def fit(
    originals: Stored,
    vectors: NDArray[np.float32],
    again: list[NDArray[np.uint8]],
    again_vectors: NDArray[np.float32],
    training_vectors: NDArray[np.float32],
) -> NoveltyModel:
    """``vectors`` (N, D) of ``originals``; ``again`` re-encoded clips (T, 128, 224, 3) with their vectors;
    ``training_vectors`` (M, D) what the embedder's vectors are compared with."""
    progress = Progress("novelty", len(originals) + len(again))
    rows = []
    for patches in originals.patches[: len(originals)]:
        rows.append(statistics(tower.pictures(np.asarray(patches))))
        progress.step()
    for clip in again:
        rows.append(statistics(clip))
        progress.step()
    table, embedded = np.stack(rows), np.concatenate([vectors, again_vectors])
    order = np.random.default_rng(0).permutation(len(table))
    first, second = order[: len(order) // 2], order[len(order) // 2 :]
    mean = table[first].mean(0)
    covariance, _ = ledoit_wolf(table[first] / table[first].std(0))
    spread = table[first].std(0)
    values, directions = np.linalg.eigh(covariance)
    whitening = (directions / np.sqrt(np.maximum(values, 1e-4))) / spread[:, None]
    model = NoveltyModel(
        mean.astype(np.float32), whitening.astype(np.float32), np.ones(2, np.float32), training_vectors, 1.0
    )
    found = np.stack([_distances(model, table[i], embedded[i]) for i in second])
    model.scale = np.quantile(found, 0.99, axis=0).astype(np.float32)
    model.limit = float(np.quantile((found / model.scale).max(1), INSIDE))
    return model


SIZES = ((320, 180), (384, 216), (448, 256), (640, 360), (848, 480), (960, 540))
CODECS = (("libx264", "crf", (20, 34)), ("mpeg4", "qscale", (2, 9)))


def recoded(seed: int, viewpoints: Literal["train", "new"] = "train") -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """(31, 128, 224, 3) and times (31,) s: the clip of ``seed`` with the pictures between, taken at other times, at
    another size, quality and codec. Every second is one of the usual sixteen."""
    rng = np.random.default_rng([seed, 31])
    plan = plan_clip(seed, viewpoints=viewpoints)
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


def _distances(model: NoveltyModel, row: NDArray[np.float32], vector: NDArray[np.float32]) -> NDArray[np.float32]:
    z = (row - model.mean) @ model.whitening
    similar = np.sort(model.vectors @ vector)[-NEIGHBOURS:]
    return np.asarray([np.sqrt(np.mean(z**2)), np.mean(1.0 - similar)], np.float32)
