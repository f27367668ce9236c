"""Profiles of real checkpoints from clip to report, on random models of the same architecture, scaled down."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForImageTextToText

from agent.events import Finished, Token
from agent.graph import analyze
from services.adapters import write_record
from services.chat.generation import scoring_prefix
from services.chat.streaming import Detokenizer, ThoughtSplitter
from services.model_service import ModelService
from services.schema import Report, Request
from services.settings import ROOT, Settings, profile
from tests import stand_ins
from tests.services.chat.conftest import TARGETS

DEMO = {"embedder": "assets/demo/embedder", "library": "assets/demo/library", "device": "cpu"}
CASES = {
    "cpu": ("qwen3-vl-2b", False),
    "gpu-8gb": ("qwen3-vl-2b", False),
    "gpu-6gb": ("qwen2-vl-2b", False),
    "thinking": ("qwen3-vl-4b", True),
}


@pytest.fixture(scope="module", params=sorted(CASES))
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The profile as it stands, but for the folder of the base, the demo's retriever, the CPU, and short answers;
    ``thinking``: the gpu profile's Thinking model in this process."""
    name, thinking = CASES[request.param]
    folder = stand_ins.write(name, tmp_path_factory.mktemp(request.param) / "base", thinking=thinking)
    chosen = profile("cpu" if request.param == "thinking" else request.param)
    changes = {**DEMO, "base_model": str(folder), "max_tokens": 12, "tuned": "random"}
    made = ModelService(Settings(data=tmp_path_factory.mktemp("data")), chosen.model_copy(update=changes))
    _register_adapter(made, folder, tmp_path_factory.mktemp("adapter") / "random")
    yield made
    made.close()


def _register_adapter(service: ModelService, base: Path, folder: Path) -> None:
    torch.manual_seed(1)
    model = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
    tuned = get_peft_model(model, LoraConfig(r=4, target_modules=TARGETS, task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, weight in tuned.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    tuned.save_pretrained(folder)
    identity = service.identity
    record = {"name": "random", "task": "mounting", "base_model": identity.model, "metrics": {}}
    digests = {"architecture": identity.architecture, "weights": identity.weights}
    write_record(folder, {**record, **digests, "preprocessing": service.preprocessing_digest()})
    service.adapters.add(folder)


@pytest.fixture(scope="module")
def events(service: ModelService) -> list[Any]:
    clip = sorted((ROOT / "assets/demo/samples").glob("*.mp4"))[0]
    return list(analyze(Request(str(clip)), service, threading.Event()))


@pytest.fixture(scope="module")
def report(events: list[Any]) -> Report:
    assert isinstance(events[-1], Finished), events[-1]
    return events[-1].report


def test_both_variants_answer_and_are_scored(service: ModelService, report: Report) -> None:
    base, tuned = report.variants
    assert (base.error, tuned.error) == (None, None)
    assert (base.adapter, tuned.adapter) == (None, "random")
    assert 0.0 <= base.p_mounting <= 1.0 and 0.0 <= tuned.p_mounting <= 1.0
    assert (base.reasoning, base.answer) != (tuned.reasoning, tuned.answer), "the adapter must make a difference"
    assert report.verdict in ("mounting", "normal", "unclear")
    assert {hit.label for hit in report.neighbours[:2]} == {"mounting", "normal"}


def test_one_pass_of_the_vision_tower_and_one_prefill_serve_both(service: ModelService, report: Report) -> None:
    assert report.variants and (service.engine.counts.vision, service.engine.counts.prefill) == (1, 1)


def test_thoughts_are_thoughts_where_the_template_opens_them(service: ModelService, events: list[Any]) -> None:
    report = events[-1].report
    streamed = {event.channel for event in events if isinstance(event, Token)}
    if service.engine.dialog.opens_thoughts:  # a random model never ends them within its few tokens
        assert streamed == {"reasoning"}
        assert all(variant.reasoning and not variant.answer for variant in report.variants)
        assert {variant.finish_reason for variant in report.variants} == {"length"}
    else:
        assert streamed == {"answer"} and all(variant.answer for variant in report.variants)


def test_nf4_reaches_the_language_layers_and_no_other(service: ModelService) -> None:
    quantised = [
        name
        for name, module in service.engine._residents.base().named_modules()
        if isinstance(module, bnb.nn.Linear4bit)
    ]
    if service.profile.quantisation == "none":
        assert not quantised
        return
    assert len([name for name in quantised if "language_model.layers." in name]) == len(quantised) == 4 * 7


def test_the_real_tokens_of_thinking_split_the_answer() -> None:
    of = stand_ins.processor("qwen3-vl-4b", thinking=True).tokenizer
    ids = of("It rises.", add_special_tokens=False)["input_ids"] + [151668]
    ids += of("\n\nStatus: Mounting", add_special_tokens=False)["input_ids"]
    texts: dict[str, list[str]] = {"reasoning": [], "answer": []}
    splitter = ThoughtSplitter(lambda channel, text: texts[channel].append(text), inside=True)
    pieces = Detokenizer(of)
    for token in ids:
        splitter.push(pieces.push(token))
    splitter.close()
    assert {channel: "".join(parts) for channel, parts in texts.items()} == {
        "reasoning": "It rises.",
        "answer": "\n\nStatus: Mounting",
    }


@pytest.mark.parametrize(
    ("text", "inside", "expected"),
    [
        ("It rises.\nStatus: Normal", False, "It rises.\nStatus:"),
        ("It rises.", False, "It rises.\nStatus:"),
        ("", False, "Status:"),
        ("Status: Normal? No.</think>\n\nUp.\nStatus: Mo", True, "Status: Normal? No.</think>\n\nUp.\nStatus:"),
        ("Is it Status: Normal? It ri", True, "Is it Status: Normal? It ri\n</think>\n\nStatus:"),
        ("<think>It ri", False, "<think>It ri\n</think>\n\nStatus:"),
        ("Done.</think>", True, "Done.</think>\nStatus:"),
        ("", True, "\n</think>\n\nStatus:"),
    ],
)  # fmt: skip
def test_scoring_reads_behind_the_thoughts_and_ends_them_where_they_were_cut(
    text: str, inside: bool, expected: str
) -> None:
    assert scoring_prefix(text, "Status:", inside=inside) == expected
