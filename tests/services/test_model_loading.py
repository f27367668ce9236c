"""Models that are asked for at the same moment: a page asks for the library while the others are being loaded."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from services.model_service import ModelService
from services.schema import Frames
from services.settings import Settings, profile


def test_two_models_loaded_at_once_both_have_their_weights(tmp_path: Path) -> None:
    service = ModelService(Settings(data=tmp_path), profile("demo"))
    start = threading.Barrier(2)

    def embedded() -> bool:
        start.wait()
        frames = Frames(np.full((16, 64, 64, 3), 128, np.uint8), np.arange(16.0))
        return bool(np.isfinite(service.embedder.embed(frames)).all())

    def loaded() -> bool:
        start.wait()
        service.backend.warm_up()
        return service.loaded

    try:
        with ThreadPoolExecutor(2) as pool:
            assert all(task.result() for task in [pool.submit(embedded), pool.submit(loaded)])
    finally:
        service.close()
