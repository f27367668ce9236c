"""One batch of variants against stock transformers and PEFT, one variant at a time."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from services.adapters_check import WEIGHTS
from services.chat.chat_model import AdapterRef
from services.chat.engine import Engine
from services.chat.generation import Generation
from services.dialog import messages
from services.errors import AdapterError, ModelError
from services.schema import Frames
from tests.services.chat.conftest import load

OPTIONS = (" Mounting", " Normal")
TURNS = messages("What happens here?")
GREEDY = Generation(max_tokens=24)


@dataclass
class Row:
    adapter: str | None = None
    stop_after: int | None = None
    tokens: list[int] = field(default_factory=list)

    def on_token(self, token: int) -> None:
        self.tokens.append(token)

    def is_cancelled(self) -> bool:
        return self.stop_after is not None and len(self.tokens) >= self.stop_after


@pytest.fixture(scope="module")
def engine(base_folder: Path, adapters: dict[str, AdapterRef]) -> Engine:
    engine = load(base_folder)
    for name in ("one", "two"):
        engine.ensure_adapter(name, adapters[name].folder, adapters[name].digest)
    return engine


@pytest.fixture(scope="module")
def stock(base_folder: Path, adapters: dict[str, AdapterRef]) -> dict[str | None, torch.nn.Module]:
    def plain() -> torch.nn.Module:
        return AutoModelForImageTextToText.from_pretrained(base_folder, dtype=torch.float32).eval()

    return {None: plain()} | {
        name: PeftModel.from_pretrained(plain(), adapters[name].folder).eval() for name in ("one", "two")
    }


def ask(engine: Engine, frames: Frames, rows: Sequence[Row], generation: Generation = GREEDY):
    return engine.run("clip", [frames], TURNS, rows, generation, "Status:", OPTIONS)


@torch.inference_mode()
def stock_scores(model: torch.nn.Module, engine: Engine, frames: Frames) -> list[float]:
    dialog, totals = engine.dialog, []
    inputs = dialog.prompt(TURNS, [frames])
    for option in OPTIONS:
        head, tail = dialog.text_ids("Status:"), dialog.answer_ids(option)
        ids = torch.cat([inputs["input_ids"], head, tail], dim=1)
        types = torch.zeros_like(ids)
        types[:, : inputs["input_ids"].shape[1]] = inputs["mm_token_type_ids"]
        whole = inputs | {"input_ids": ids, "attention_mask": torch.ones_like(ids), "mm_token_type_ids": types}
        logprobs = torch.log_softmax(model(**whole).logits, dim=-1)[0]
        start = ids.shape[1] - tail.shape[1] - 1
        totals.append(float(logprobs[start : start + tail.shape[1]].gather(1, tail[0][:, None]).sum()))
    return totals


def test_scores_and_greedy_text_of_a_mixed_batch_equal_stock_models(
    engine: Engine, stock: dict[str | None, torch.nn.Module], frames: Frames
) -> None:
    rows = [Row(None), Row("one"), Row("two")]
    results = ask(engine, frames, rows)
    inputs = engine.dialog.prompt(TURNS, [frames])
    for row, result in zip(rows, results, strict=True):
        model = stock[row.adapter]
        assert result.scores == pytest.approx(stock_scores(model, engine, frames), abs=2e-3)
        with torch.inference_mode():
            output = model.generate(
                **inputs,
                max_new_tokens=24,
                do_sample=False,
                eos_token_id=engine.dialog.terminator_id,
                pad_token_id=0,
                begin_suppress_tokens=engine.dialog.text_ids("Status:")[0, :1].tolist(),
            )
        expected = [t for t in output[0, inputs["input_ids"].shape[1] :].tolist() if t != engine.dialog.terminator_id]
        assert result.ids == expected == row.tokens
    assert len({tuple(result.ids) for result in results}) == 3, "the adapters must make a difference here"


def test_base_and_tuned_share_one_pass_of_the_vision_tower_and_one_prefill(engine: Engine, frames: Frames) -> None:
    engine.counts.vision = engine.counts.prefill = 0
    engine.run("fresh clip", [frames], TURNS, [Row(None), Row("one")], GREEDY, "Status:", OPTIONS)
    assert (engine.counts.vision, engine.counts.prefill) == (1, 1)


def test_a_rows_result_does_not_depend_on_its_companions(engine: Engine, frames: Frames) -> None:
    together = ask(engine, frames, [Row(None), Row("one")])
    alone = [ask(engine, frames, [Row(None)])[0], ask(engine, frames, [Row("one")])[0]]
    for one, other in zip(together, alone, strict=True):
        assert one.ids == other.ids
        assert one.scores == pytest.approx(other.scores, abs=2e-3)


def test_a_cancelled_row_stops_computing_and_the_other_goes_on(engine: Engine, frames: Frames) -> None:
    whole = ask(engine, frames, [Row(None), Row("one")])
    cut, other = ask(engine, frames, [Row(None, stop_after=3), Row("one")])
    assert cut.finish_reason == "cancelled" and len(cut.ids) <= 4 < len(whole[0].ids)
    assert other.ids == whole[1].ids


def test_scores_after_reasoning_read_the_generated_text(engine: Engine, frames: Frames) -> None:
    direct = ask(engine, frames, [Row(None)])[0]
    after = ask(engine, frames, [Row(None)], Generation(max_tokens=24, scoring="after_reasoning"))[0]
    assert after.ids == direct.ids, "this model does not begin with the bare form by itself"
    assert after.scores is not None and after.scores != pytest.approx(direct.scores, abs=1e-3)


def test_a_directly_scored_answer_never_begins_with_the_bare_verdict(engine: Engine, frames: Frames) -> None:
    """Asked until the random model begins with a token that its own text is read as (not every one is)."""
    dialog = engine.dialog
    for question in ("What happens here?", "How many cows are there?", "Is it night?", "Who walks?", "Describe it."):
        turns = messages(question)
        first = engine.run("clip", [frames], turns, [Row(None)], GREEDY, "Status:", OPTIONS)[0].ids[0]
        bare = dialog.tokenizer.decode([first])
        if dialog.text_ids(bare).tolist() == [[first]]:
            break
    else:
        pytest.fail("no question was answered with a plain token first")
    cut = engine.run("clip", [frames], turns, [Row(None)], GREEDY, bare, OPTIONS)[0]
    assert cut.ids[0] != first


@pytest.mark.parametrize("name", ["half", "train", "keys"])
def test_a_name_that_torch_uses_itself_is_as_good_as_any(
    engine: Engine, adapters: dict[str, AdapterRef], frames: Frames, name: str
) -> None:
    engine.ensure_adapter(name, adapters["one"].folder, adapters["one"].digest)
    assert ask(engine, frames, [Row(name)])[0].scores == ask(engine, frames, [Row("one")])[0].scores


def test_an_adapter_that_changes_nothing_is_refused(engine: Engine, adapters: dict[str, AdapterRef]) -> None:
    with pytest.raises(AdapterError, match="no-op"):
        engine.ensure_adapter("idle", adapters["idle"].folder, adapters["idle"].digest)


def broken(source: Path, folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Path:
    """A copy of an adapter with other tensors."""
    shutil.copytree(source, folder)
    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS)
    return folder


def wider(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The last matrix A does not fit its module; those before it do."""
    name = sorted(key for key in tensors if ".lora_A." in key)[-1]
    return tensors | {name: torch.cat([tensors[name]] * 2, 1)}


def elsewhere(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.replace("layers.0.", "layers.9."): value for name, value in tensors.items()}


@pytest.mark.parametrize("change", [wider, elsewhere])
def test_an_adapter_of_other_shapes_is_refused_and_changes_no_answer(
    base_folder: Path, adapters: dict[str, AdapterRef], frames: Frames, tmp_path: Path, change: Callable[..., Any]
) -> None:
    """As the first one of a process, and beside others; the right one under the same name loads afterwards."""
    fresh = load(base_folder)
    folder = broken(adapters["one"].folder, tmp_path / "broken", change)
    before = ask(fresh, frames, [Row(None)])[0].scores
    for known in (["two"], []):
        with pytest.raises(AdapterError, match="does not fit this base model"):
            fresh.ensure_adapter("one", folder, "0" * 64)
        assert ask(fresh, frames, [Row(None)])[0].scores == before
        for name in known:
            fresh.ensure_adapter(name, adapters[name].folder, adapters[name].digest)
    fresh.ensure_adapter("one", adapters["one"].folder, adapters["one"].digest)
    assert ask(fresh, frames, [Row("one")])[0].scores != before


def test_a_load_that_fails_half_way_leaves_nothing(
    base_folder: Path, adapters: dict[str, AdapterRef], frames: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = load(base_folder)
    before = ask(fresh, frames, [Row(None)])[0]
    with monkeypatch.context() as patch:
        patch.setattr("peft.peft_model.set_peft_model_state_dict", _fails)
        with pytest.raises(AdapterError, match="cannot be loaded"):
            fresh.ensure_adapter("one", adapters["one"].folder, adapters["one"].digest)
    after = ask(fresh, frames, [Row(None)])[0]
    assert (after.ids, after.scores) == (before.ids, before.scores)
    fresh.ensure_adapter("one", adapters["one"].folder, adapters["one"].digest)
    assert ask(fresh, frames, [Row("one")])[0].scores != before.scores


def _fails(*_: Any, **__: Any) -> None:
    raise RuntimeError("the disk went away")


def test_a_full_memory_is_told_in_words_and_the_next_clip_is_answered(
    base_folder: Path, frames: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = load(base_folder)

    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    with monkeypatch.context() as patch:
        patch.setattr("torch.nn.functional.scaled_dot_product_attention", full)
        with pytest.raises(ModelError, match="use a shorter window or a profile with a smaller model"):
            ask(fresh, frames, [Row(None)])
    assert ask(fresh, frames, [Row(None)])[0].scores
