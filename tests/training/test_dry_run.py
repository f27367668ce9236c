"""What is told before anything is trained: it must be what training then does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch

from services.annotations import MediaKind
from services.errors import AnnotationError, ClipError
from services.memory import GIB
from services.schema import Frames
from services.settings import profile
from tests.training.toy_clips import picture
from training import dry_run as subject
from training.base import load_base, load_dialog
from training.data import Medium, Sample
from training.dry_run import dry_run, examine
from training.preparation import prepare
from training.settings import TrainConfig

Settings = Callable[..., TrainConfig]


def read(path: Path, kind: MediaKind) -> Frames:
    if path.name.startswith("broken"):
        raise ClipError(f"{path.name} has no video stream.")
    return picture(0, "normal")


def lines_of(config: TrainConfig, samples: list[Sample], **values: object) -> list[str]:
    lines: list[str] = []
    dry_run(config, profile("demo"), samples, None, read, report=lines.append, **values)  # type: ignore[arg-type]
    return lines


def test_counts_are_those_of_the_batches_that_training_makes(settings: Settings, toys: list[Sample]) -> None:
    config = settings(batch=3)
    found = examine(config, toys, None, read)
    prepared = prepare(config, toys, None, None, None, read, False, lambda line: None)
    assert [s.digest for s in found.training] == [s.digest for s in prepared.training]
    assert [item.tokens for item in found.counts.samples] == prepared.lengths
    own = prepared.held[:3]
    batch = prepared.examples.batch(own, epoch=-1)
    rows = found.rows[len(found.training) :][:3]
    assert batch.input_ids.shape == (3, max(row.places for row in rows))
    assert len(batch.target) == sum(row.answers for row in rows)
    grids = [media.grid for media in batch.features]
    assert sum(int(grid.prod()) for grid in grids) == sum(row.patches for row in rows)


def test_it_trains_and_writes_nothing_and_says_so(settings: Settings, toys: list[Sample]) -> None:
    config = settings()
    told = "\n".join(lines_of(config, toys))
    assert not config.output.exists()
    assert "20 samples to train on (10 mounting, 10 normal)" in told and "4 samples held out" in told
    assert "Steps: 10 (5 an epoch" in told and told.endswith("Nothing was trained (--dry-run).")
    assert "Memory of training" in told and "Memory of an analysis" in told and "together" in told


def test_lora_is_shown_where_training_attaches_it_here_and_on_the_published_architectures(
    settings: Settings, toys: list[Sample]
) -> None:
    config = settings(targets="all")
    told = lines_of(config, toys[:10])
    base = load_base(config, load_dialog(config))
    trained = sum(p.numel() for p in base.peft.parameters() if p.requires_grad)
    here = next(line for line in told if line.startswith("LoRA here"))
    assert f"{trained:,} trained parameters" in here
    for name in ("qwen2-vl-2b", "qwen2.5-vl-3b", "qwen3-vl-2b", "qwen3-vl-4b"):
        line = next(line for line in told if line.strip().startswith(name))
        assert "vision blocks" in line and "language layers" in line
    assert any("not cached" in line for line in told) and any("vLLM" in line for line in told)


@pytest.mark.parametrize(("native", "chosen", "other"), [(True, "bf16", "fp32"), (False, "fp32", "bf16")])
def test_the_memory_is_that_of_the_precision_that_would_be_chosen(
    settings: Settings,
    toys: list[Sample],
    monkeypatch: pytest.MonkeyPatch,
    native: bool,
    chosen: str,
    other: str,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native})
    told = lines_of(settings(precision="auto", device="cpu"), toys[:10])
    assert told == lines_of(settings(precision=chosen, device="cpu"), toys[:10])
    assert told != lines_of(settings(precision=other, device="cpu"), toys[:10])


def test_every_sample_is_listed_on_request(settings: Settings, toys: list[Sample]) -> None:
    told = lines_of(settings(), toys, every_sample=True)
    found = examine(settings(), toys, None, read)
    for item in found.counts.samples:
        assert any(line.split()[0] == str(item.tokens) and item.title in line for line in told if line.split())


def test_all_problems_are_told_together_with_those_known_before(settings: Settings, toys: list[Sample]) -> None:
    broken = [
        Sample(digest=f"{n:064d}", media=(Medium(digest=f"{n:064d}", path=Path(f"broken{n}.mp4")),), label="normal")
        for n in range(3)
    ]
    told: list[str] = []
    with pytest.raises(AnnotationError) as caught:
        dry_run(
            settings(max_length=10), profile("demo"), [*toys[:8], *broken], None, read,
            problems=["entry 4: gone.mp4 is missing"], report=told.append,
        )  # fmt: skip
    problems = caught.value.problems
    assert problems[0] == "entry 4: gone.mp4 is missing"
    assert all(any(f"broken{n}.mp4" in problem for problem in problems) for n in range(3))
    assert sum("the answer would be cut" in problem for problem in problems) == 8
    assert any("LoRA here" in line for line in told) and not any("Nothing was trained" in line for line in told)


def test_an_estimate_above_the_memory_at_hand_is_a_sentence(
    settings: Settings, toys: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not any("more than" in line for line in lines_of(settings(), toys[:10]))
    monkeypatch.setattr(subject, "_there", lambda device: GIB // 1000)
    assert any("more than this CPU has" in line and "--batch" in line for line in lines_of(settings(), toys[:10]))


def test_what_is_there_is_what_the_machine_has_free(settings: Settings) -> None:
    free = psutil.virtual_memory().available
    assert subject._there(subject.device_of(settings(device="cpu"))) == pytest.approx(free, rel=0.5)
