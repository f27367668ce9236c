"""Models that are asked for at the same moment: a page asks for the library while the others are being loaded."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from services.errors import ResourceError
from services.model_service import ModelService
from services.schema import Frames
from services.settings import Settings, profile


def test_two_models_loaded_at_once_both_have_their_weights(tmp_path: Path) -> None:
    service = ModelService(Settings(data=tmp_path), profile("demo"))
    start = threading.Barrier(2)

    def embedded() -> bool:
        start.wait()
        pictures = np.full((16, 64, 64, 3), 128, np.uint8)
        frames = Frames(pictures, np.arange(16.0), pictures[1:])
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


@pytest.mark.parametrize(("device", "refused"), [("cuda", True), ("cpu", False)])
def test_beside_a_training_on_the_gpu_the_model_is_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, refused: bool
) -> None:
    """No GPU is touched here: the refusal comes before anything is loaded, the CPU's model loads as always."""
    service = ModelService(Settings(data=tmp_path), profile("demo"))
    folder = service.runs.folder / "barn-1"
    folder.mkdir(parents=True)
    told = {"settings": {}, "clips": {}, "created_at": "2026-01-01T00:00:00+00:00"}
    (folder / "run.json").write_text(json.dumps(told), encoding="utf-8")
    monkeypatch.setattr("services.training_runs.processes.alive", lambda run: run == folder)
    if device == "cuda":
        monkeypatch.setattr(ModelService, "device", "cuda")
    try:
        if refused:
            with pytest.raises(ResourceError, match="training “barn-1” is using the GPU's memory"):
                service.warm_up()
        else:
            service.backend.warm_up()
        assert service.loaded is not refused
    finally:
        service.close()
