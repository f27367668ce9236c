"""VideoMAE vectors: stock model, stock processor, honest errors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import VideoMAEImageProcessor, VideoMAEModel

from services.embedder import Embedder
from services.errors import ModelError
from services.moving_blocks import moving_blocks
from services.novelty import whole
from services.schema import Frames
from training.demo import tower, video_mae

PICTURES = np.random.default_rng(0).integers(0, 255, (31, 128, 224, 3), np.uint8)
FRAMES = Frames(np.ascontiguousarray(PICTURES[::2]), np.arange(16.0), np.ascontiguousarray(PICTURES[1::2]))


def test_the_block_that_changes_is_found() -> None:
    pictures = np.full((16, 128, 224, 3), 90, np.uint8)
    pictures[::2, 40:60, 100:120] = 200
    assert moving_blocks(pictures, 32, 1).tolist() == [10]


@pytest.fixture(scope="module")
def spanning(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("embedder")
    video_mae.save(VideoMAEModel(video_mae.configuration()), path)
    return path


@pytest.fixture(scope="module")
def folder(spanning: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model, which looks at whole clips only."""
    path = tmp_path_factory.mktemp("whole") / "embedder"
    shutil.copytree(spanning, path)
    (path / "embedder.json").write_text(json.dumps({"moving_blocks": video_mae.SHOWN}), encoding="utf-8")
    return path


def test_vector_is_the_mean_of_the_stock_model_over_what_moves(folder: Path) -> None:
    model = VideoMAEModel.from_pretrained(folder, dtype=torch.float32).eval()
    pixels = torch.from_numpy(FRAMES.rgb).permute(0, 3, 1, 2)[None].float() / 127.5 - 1
    with torch.inference_mode():
        shown = np.zeros(28, bool)
        shown[moving_blocks(FRAMES.rgb, 32, video_mae.SHOWN)] = True
        hidden = torch.from_numpy(~np.tile(shown, 8))[None]
        mean = model(pixels, bool_masked_pos=hidden).last_hidden_state.mean(1)[0].numpy()
    found = Embedder(folder).embed(FRAMES)
    assert found.dtype == np.float32
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(found, mean / np.linalg.norm(mean), atol=1e-4)


def test_builder_and_service_make_the_same_vector(folder: Path, spanning: Path) -> None:
    model = VideoMAEModel.from_pretrained(folder, dtype=torch.float32).eval()
    stored = tower.patches(FRAMES.rgb)[None]
    np.testing.assert_allclose(video_mae.vectors_of(model, stored)[0], Embedder(folder).embed(FRAMES), atol=1e-4)
    spans = video_mae.span_vectors(model, [PICTURES], 1)[0]
    np.testing.assert_allclose(spans, Embedder(spanning).embed(FRAMES), atol=1e-4)


def test_a_vector_in_spans_is_whole_and_halves_one_behind_the_other(folder: Path, spanning: Path) -> None:
    parts = [PICTURES[::2], PICTURES[:16], PICTURES[8:24], PICTURES[15:]]
    expected = [Embedder(folder).embed(Frames(part, np.arange(16.0))) for part in parts]
    found = Embedder(spanning).embed(FRAMES)
    assert found.shape == (Embedder(spanning).dimension,) == (4 * 192,)
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(found.reshape(4, 192), np.stack(expected) / 2, atol=1e-4)
    np.testing.assert_allclose(whole(found, 192), expected[0], atol=1e-4)
    batch = Embedder(spanning).embed_batch([FRAMES, Frames(PICTURES[15:], np.arange(16.0), PICTURES[:15])])
    np.testing.assert_allclose(batch[0], found, atol=1e-5)


def test_spans_need_the_pictures_between_and_whole_clips_do_not(folder: Path, spanning: Path) -> None:
    alone = Frames(FRAMES.rgb, FRAMES.pts_s)
    assert Embedder(folder).between_pixels == 0 and Embedder(folder).embed(alone).shape == (192,)
    assert Embedder(spanning).between_pixels == 448 * 256
    with pytest.raises(ValueError, match="with the pictures between"):
        Embedder(spanning).embed(alone)


def test_whole_clips_and_spans_are_no_more_comparable_than_two_models(folder: Path, spanning: Path) -> None:
    one, other = Embedder(folder).provenance, Embedder(spanning).provenance
    assert one.weights == other.weights and one.pooling != other.pooling and one.preprocessing != other.preprocessing


@pytest.mark.parametrize("table", ['{"moving_blocks": 12, "spans": 3}', '{"moving_blocks": 0}', "[]"])
def test_a_wrong_settings_file_is_one_sentence(folder: Path, tmp_path: Path, table: str) -> None:
    shutil.copytree(folder, tmp_path / "embedder")
    (tmp_path / "embedder" / "embedder.json").write_text(table, encoding="utf-8")
    with pytest.raises(ModelError, match=r"embedder\.json .*\.$"):
        Embedder(tmp_path / "embedder")


def test_takes_exactly_the_configured_number_of_frames(folder: Path) -> None:
    doubled = Frames(np.repeat(FRAMES.rgb, 2, 0), np.arange(32.0))
    assert Embedder(folder).embed(doubled).shape == (192,)


def test_reads_a_stock_image_processor_too(tmp_path: Path) -> None:
    config = video_mae.VideoMAEConfig(hidden_size=48, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48)
    VideoMAEModel(config).save_pretrained(tmp_path)
    VideoMAEImageProcessor().save_pretrained(tmp_path)
    assert Embedder(tmp_path).embed(FRAMES).shape == (48,)


def test_missing_weights_name_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="download"):
        Embedder(tmp_path)


def test_provenance_tells_two_models_apart(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    video_mae.save(VideoMAEModel(video_mae.configuration()), tmp_path)
    assert Embedder(folder).provenance.weights != Embedder(tmp_path).provenance.weights
