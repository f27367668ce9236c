"""Fine-tuning end to end on the tiny base: it learns, it resumes bit for bit, stock PEFT loads what it writes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import bitsandbytes as bnb
import pytest
import torch
import yaml
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from services.adapters import validate
from services.annotations import entry_for, write
from services.dialog import messages
from services.errors import Cancelled, InputError
from services.memory import sizes
from services.schema import Label
from services.settings import ROOT
from tests.media import make_clip, numbered
from tests.training.tiny_bases import ARCHITECTURES
from tests.training.toy_clips import picture, quiet, toy
from training.base import load_base, load_dialog
from training.data import Sample
from training.features import CachedFeatures, LiveFeatures, Tower, cache_folder
from training.precision import native_bfloat16
from training.settings import TrainConfig, from_profile
from training.targets import SUFFIXES
from training.trainer import train

Settings = Callable[..., TrainConfig]


@pytest.fixture(scope="module")
def finished(short_run: Settings, toys: list[Sample], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("finished")
    learning = {"batch": 6, "epochs": 5, "learning_rate": 5e-3, "dropout": 0.0}
    config = short_run(output=output, precision="auto", validation_share=0.1, **learning)
    train(config, toys, report=quiet)
    return config.output


def test_it_learns_the_toy(finished: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics["last_loss"] < 0.8 * metrics["first_loss"]
    assert metrics["validation_loss"] < metrics["first_loss"]


def test_the_base_is_measured_on_the_held_out_clips_as_the_adapter_is(
    settings: Settings, toys: list[Sample], finished: Path
) -> None:
    """An adapter that learns nothing has the base's figures to the last bit; one that learns has better ones."""
    idle = train(settings(max_steps=1, learning_rate=1e-30), toys, report=quiet).metrics
    for key in ("validation_loss", "balanced_accuracy_off", "balanced_accuracy_contrastive"):
        assert idle[key] == idle[f"base_{key}"]
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics["validation_loss"] < 0.8 * metrics["base_validation_loss"]
    pair = f"| {metrics['base_validation_loss']:.4f} | {metrics['validation_loss']:.4f} | {metrics['held_out']} |"
    assert pair in (finished / "README.md").read_text()


def test_the_folder_is_a_whole_adapter_and_nothing_else(finished: Path) -> None:
    record = validate(finished)
    assert (record.name, record.task, record.rank) == ("mounting", "mounting", 16)
    assert {path.name for path in finished.iterdir()} == {
        *(
            "adapter_model.safetensors",
            "adapter_config.json",
            "herdlens.json",
            "metrics.json",
            "loss.csv",
            "loss.png",
            "progress.jsonl",
        ),
        "README.md",
    }
    assert {value.dtype for value in load_file(finished / "adapter_model.safetensors").values()} == {torch.bfloat16}


def test_a_finished_run_is_never_trained_over(finished: Path, tiny_base: Path, toys: list[Sample]) -> None:
    config = TrainConfig(model=str(tiny_base), output=finished, frames=4, min_pixels=16384, max_pixels=16384)
    before = (finished / "adapter_model.safetensors").read_bytes()
    told: list[str] = []
    with pytest.raises(InputError, match="finished adapter"):
        train(config, toys, report=quiet)
    again = train(config, toys, resume=True, report=told.append)
    assert again.metrics == json.loads((finished / "metrics.json").read_text())
    assert any("nothing to go on with" in line for line in told)
    assert (finished / "adapter_model.safetensors").read_bytes() == before


def test_stock_peft_loads_it_on_the_served_model_and_the_logits_change(finished: Path, tiny_base: Path) -> None:
    served = AutoModelForImageTextToText.from_pretrained(tiny_base, dtype=torch.float32).eval()
    config = TrainConfig(model=str(tiny_base), output=finished, frames=4, min_pixels=16384, max_pixels=16384)
    inputs = load_dialog(config).prompt(messages("What happens?"), [picture(1, "mounting")])
    with torch.no_grad():
        before = served(**inputs).logits
        tuned = PeftModel.from_pretrained(served, finished).eval()
        after = tuned(**inputs).logits
        with tuned.disable_adapter():
            off = tuned(**inputs).logits
    assert float((after - before).abs().max()) > 0.1
    assert torch.equal(off, before)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_language_linear_and_nothing_else_is_quantised_and_trained(
    settings: Settings, tiny_bases: dict[str, Path], architecture: str
) -> None:
    config = settings(model=str(tiny_bases[architecture]), expand="off")
    base = load_base(config, load_dialog(config))
    expected = {
        name
        for name, _ in base.model.named_modules()
        if "language_model.layers" in name and name.rpartition(".")[2] in SUFFIXES
    }
    assert len(expected) == 7 * len(base.model.model.language_model.layers)
    assert set(base.quantised) == set(base.trained) == expected
    assert all(isinstance(base.model.get_submodule(name).base_layer, bnb.nn.Linear4bit) for name in expected)
    assert not any(isinstance(m, bnb.nn.Linear4bit) for m in base.model.model.visual.modules())
    trained = {name for name, p in base.peft.named_parameters() if p.requires_grad}
    assert all(".lora_A." in name or ".lora_B." in name for name in trained)
    assert len(trained) == 2 * len(expected)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_weights_held_dequantised_are_the_nf4_values(settings: Settings, precision: str) -> None:
    loaded = {}
    for expand in ("on", "off"):
        config = settings(expand=expand, precision=precision)
        loaded[expand] = load_base(config, load_dialog(config))
    for name in loaded["on"].quantised:
        packed = loaded["off"].model.get_submodule(name).base_layer
        plain = loaded["on"].model.get_submodule(name).base_layer
        x = torch.randn(3, plain.in_features, dtype=loaded["on"].dtype)
        values = bnb.functional.dequantize_4bit(packed.weight.data, packed.weight.quant_state).to(x.dtype)
        assert torch.equal(plain.weight, values)
        torch.testing.assert_close(plain(x), packed(x))


def test_a_run_stopped_after_every_step_ends_bit_for_bit_like_an_unbroken_one(
    settings: Settings, toys: list[Sample], tmp_path: Path
) -> None:
    whole = train(settings(output=tmp_path / "whole", epochs=2, batch=8), toys, report=quiet)
    config = settings(output=tmp_path / "broken", epochs=2, batch=8)
    stop = threading.Event()
    stop.set()
    stops = 0
    while True:
        try:
            broken = train(config, toys, resume=True, report=quiet, cancelled=stop)
            break
        except Cancelled:
            stops += 1
    assert stops == whole.metrics["steps"]
    assert broken.metrics["last_loss"] == whole.metrics["last_loss"]
    assert broken.metrics["validation_loss"] == whole.metrics["validation_loss"]
    first, second = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("whole", "broken"))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("name", "architecture"),
    [("cpu", "qwen3-vl-2b"), ("gpu-8gb", "qwen3-vl-2b"), ("gpu-6gb", "qwen2-vl-2b"), ("gpu", "qwen3-vl-4b")],
)
def test_clips_of_every_profile_fit_its_training_defaults(name: str, architecture: str) -> None:
    """A clip of the profile's largest size with 600 tokens of question and answer, one in a pass."""
    config, model = from_profile(name, output=Path("run")), sizes(architecture)
    tokens = model.tokens(config.frames, config.max_pixels) + 600
    assert tokens <= config.max_length
    assert (config.batch, config.gradient_checkpointing) == (1, True)
    assert config.batch * config.accumulation == 16
    assert from_profile(name, output=Path("run"), learning_rate=1e-3, batch=None).learning_rate == 1e-3
    demo = from_profile("demo", output=Path("run"))
    assert demo.batch == 16 and not demo.gradient_checkpointing


def test_cached_features_are_those_of_the_tower_and_outlive_damage(settings: Settings, tmp_path: Path) -> None:
    config = settings()
    dialog = load_dialog(config)
    base = load_base(config, dialog)
    tower = Tower(base.model, dialog, lambda path, kind: picture(0, "normal"), torch.float32)
    sample = toy(7, "mounting")
    folder = cache_folder(tmp_path, base.model, dialog, torch.float32)
    live = LiveFeatures(tower).get(sample.media)[0]
    CachedFeatures(folder, tower).fill([sample])
    stored = next(folder.iterdir())
    assert stored.stem == sample.digest
    again = CachedFeatures(folder, tower)
    assert torch.equal(again.get(sample.media)[0].pooled, live.pooled)
    assert torch.equal(again.get(sample.media)[0].deepstack, live.deepstack)
    assert (again.hits, again.misses) == (2, 0)
    stored.write_bytes(stored.read_bytes()[:100])
    assert torch.equal(again.get(sample.media)[0].pooled, live.pooled)
    assert again.misses == 1


def test_training_with_and_without_the_cache_gives_the_same_losses(
    settings: Settings, toys: list[Sample], tmp_path: Path
) -> None:
    rows = [
        train(settings(output=tmp_path / str(cache), max_steps=2, batch=6), toys, use_cache=cache, report=quiet).metrics
        for cache in (True, False)
    ]
    assert rows[0]["last_loss"] == pytest.approx(rows[1]["last_loss"], abs=1e-5)


def run_script(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    script = ROOT / "training/Qlora_train.py"
    return subprocess.run([sys.executable, script, *arguments], cwd=folder, capture_output=True, text=True, timeout=240)


def test_the_script_runs_from_elsewhere_and_lists_every_problem_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no clip")
    entries = [entry_for("a.mp4", "mounting", "It rises."), entry_for("gone.mp4", "normal", "x"), {"video": "a.mp4"}]
    write(tmp_path / "data.json", entries)
    done = run_script("--data", "data.json", folder=tmp_path)
    assert done.returncode == 2
    assert "entry 2" in done.stderr and "entry 3" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_clips_that_cannot_be_read_are_all_named_before_training(tmp_path: Path, tiny_base: Path) -> None:
    names = [f"{n}.mp4" for n in range(8)]
    for name in names:
        (tmp_path / name).write_bytes(f"no clip {name}".encode())
    labels = ["mounting", "normal"] * 4
    write(tmp_path / "data.json", [entry_for(n, label, "Seen.") for n, label in zip(names, labels, strict=True)])  # type: ignore[arg-type]
    done = run_script("--data", "data.json", "--model", str(tiny_base), "--output", "out", folder=tmp_path)
    assert done.returncode == 2
    assert all(name in done.stderr for name in names) and "Traceback" not in done.stderr


def test_the_script_asks_for_data_in_words(tmp_path: Path) -> None:
    done = run_script(folder=tmp_path)
    assert done.returncode == 2 and "--data" in done.stderr and "Traceback" not in done.stderr


def test_the_script_trains_on_clips_from_files(tmp_path: Path, tiny_base: Path) -> None:
    labels: list[Label] = ["mounting", "normal"] * 3
    for number in range(len(labels)):
        make_clip(tmp_path / f"{number}.mp4", 20, fps=10, paint=lambda n, w, h, k=number: numbered(n + 50 * k, w, h))
    write(tmp_path / "data.json", [entry_for(f"{n}.mp4", label, "Seen.") for n, label in enumerate(labels)])
    flags = ["--data", "data.json", "--model", str(tiny_base), "--output", "out", "--max-steps", "1", "--batch", "2"]
    done = run_script(*flags, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert validate(tmp_path / "out").base_model == tiny_base.name
    precision = yaml.safe_load((tmp_path / "out" / "settings.yaml").read_text())["precision"]
    assert precision == ("bf16" if native_bfloat16() else "fp32"), "it repeats the run on any machine"


KILLED = """
import sys
from pathlib import Path
from tests.training.toy_clips import toy
from training.settings import TrainConfig
from training.targets import SUFFIXES
from training.trainer import train
toys = [toy(seed, label) for seed in range(12) for label in ("mounting", "normal")]
train(
    TrainConfig(
        model=sys.argv[1], output=Path(sys.argv[2]), frames=4, min_pixels=16384, max_pixels=16384,
        precision="fp32", batch=4, epochs=4, save_every=1,
    ),
    toys,
    resume=True,
)
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_run_killed_again_and_again_ends_bit_for_bit_like_an_unbroken_one(tiny_base: Path, tmp_path: Path) -> None:
    def start(output: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", KILLED, str(tiny_base), str(tmp_path / output)]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    assert start("whole").wait(900) == 0
    kills, steps = 0, 0
    while not (tmp_path / "broken/herdlens.json").exists():
        process = start("broken")
        while process.poll() is None:
            found = sorted((tmp_path / "broken").glob("checkpoint-*"))
            reached = int(found[-1].name.rpartition("-")[2]) if found else 0
            if reached > steps + 2 and kills < 3:
                process.send_signal(signal.SIGKILL)
                kills, steps = kills + 1, reached
            time.sleep(0.02)
    assert kills >= 2
    first, second = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("whole", "broken"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    rows = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("whole", "broken")]
    assert rows[0]["last_loss"] == rows[1]["last_loss"] and rows[0]["validation_loss"] == rows[1]["validation_loss"]
