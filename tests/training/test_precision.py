"""What a run multiplies in where nothing is said."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
from torch import nn

from services.errors import Cancelled, ModelError
from tests.training.toy_clips import quiet
from training.base import EXPAND_LIMIT_BYTES, expands, load_base, load_dialog
from training.data import Sample
from training.precision import cpu_autocast, cpu_dtype, device_of, multiplied, native_bfloat16, settled
from training.settings import TrainConfig
from training.trainer import train

Settings = Callable[..., TrainConfig]


@pytest.mark.parametrize(
    ("able", "native"),
    [
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ({"avx2": True, "avx512_bf16": True, "amx_bf16": False}, True),
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": True}, True),
        ({"neon": True, "bf16": True}, True),
        ({"neon": True}, False),
    ],
)
def test_bfloat16_is_chosen_where_the_cpu_multiplies_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, able: dict[str, bool], native: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert native_bfloat16() == native
    assert settled(settings(precision="auto", device="cpu")).precision == ("bf16" if native else "fp32")


@pytest.mark.parametrize("asked", ["bf16", "fp32"])
def test_what_was_asked_for_stays(settings: Settings, asked: str) -> None:
    config = settings(precision=asked)
    assert settled(config) is config


def test_torch_tells_what_this_cpu_can() -> None:
    known = torch.cpu.get_capabilities()
    assert isinstance(known["architecture"], str)
    names = {"avx512_bf16", "amx_bf16"} if known["architecture"] == "x86_64" else {"bf16"}
    assert names <= known.keys(), "the names by which native_bfloat16 looks have changed"


def test_a_gpu_that_is_not_there_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError, match="--device cpu"):
        device_of(settings(device="cuda"))


@pytest.mark.parametrize(("native", "chosen", "dtype"), [(True, "bf16", "bfloat16"), (False, "fp32", "float32")])
def test_the_choice_is_trained_with_and_written_down(
    settings: Settings, toys: list[Sample], monkeypatch: pytest.MonkeyPatch, native: bool, chosen: str, dtype: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native})
    config = settings(precision="auto", device="cpu", max_steps=1)
    assert load_base(config, load_dialog(config)).dtype == getattr(torch, dtype)

    told: list[str] = []
    result = train(config, toys, report=told.append)
    assert result.metrics["settings"]["precision"] == chosen
    assert f"| precision | {chosen} |" in (config.output / "README.md").read_text()
    assert any(f"Multiplied in {dtype}" in line for line in told)


def test_a_resumed_run_keeps_to_its_precision_on_another_machine(
    settings: Settings, toys: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(precision="auto", device="cpu", max_steps=2)
    stop = threading.Event()
    stop.set()
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False})
    with pytest.raises(Cancelled):
        train(config, toys, report=quiet, cancelled=stop)

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    result = train(config, toys, resume=True, report=quiet)
    assert (result.metrics["settings"]["precision"], result.metrics["steps"]) == ("fp32", 2)


def test_what_is_held_dequantised_counts_in_the_type_that_it_is_held_in(settings: Settings) -> None:
    """float32 takes twice the memory: half as many weights fit under the same limit."""
    most, cpu = EXPAND_LIMIT_BYTES // 4, torch.device("cpu")
    assert expands(settings(precision="fp32"), most, cpu) and not expands(settings(precision="fp32"), most + 1, cpu)
    assert expands(settings(precision="bf16"), 2 * most, cpu)
    assert not expands(settings(precision="bf16"), 2 * most + 1, cpu)


def test_on_a_gpu_bfloat16_is_chosen(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False})
    assert settled(settings(precision="auto")).precision == "bf16"


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_the_demo_multiplies_in_what_is_fast_here(
    monkeypatch: pytest.MonkeyPatch, native: bool, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native})
    with cpu_autocast():
        assert nn.Linear(4, 4)(torch.zeros(1, 4)).dtype == dtype == cpu_dtype()
    assert multiplied() == ("bf16" if native else "fp32"), "features of the two have to lie in files of their own"
