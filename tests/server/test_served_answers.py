"""How the engine asks a real server: variants at once, a cancel that arrives, adapters that come later."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from agent.events import Finished
from agent.graph import analyze
from agent.prompts import mounting_question
from services.chat.chat_model import AdapterRef
from services.errors import AdapterError, Cancelled, ModelError
from services.schema import Report, Request, VariantName, Window
from services.settings import ROOT
from tests.server.conftest import served_by
from tests.server.running_server import RunningServer
from tests.server.test_equality import SAMPLES
from tests.services.chat.conftest import make_adapter

BASE = ROOT / "assets/demo/base"


def asked(service: Any, path: Path, window: Window | None = None) -> list[HumanMessage]:
    clip = service.open_clip(str(path), window, threading.Event())
    video = {"type": "video", "key": clip.key, "frames": service.clips.of(clip).frames}
    return [HumanMessage(content=[video, {"type": "text", "text": mounting_question()}])]


def reported(service: Any, path: Path, *variants: VariantName, **request: Any) -> Report:
    events = list(analyze(Request(str(path), variants=variants, **request), service, threading.Event()))
    (report,) = [event.report for event in events if isinstance(event, Finished)]
    return report


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_an_analysis_through_the_graph_decides_as_the_embedded_demo_does(service: Any, served: Any, path: Path) -> None:
    here, there = (reported(asked_one, path, "base", "tuned") for asked_one in (service, served))
    assert there.verdict == here.verdict
    assert there.p_mounting == pytest.approx(here.p_mounting, abs=0.01)
    assert [v.text_verdict for v in there.variants] == [v.text_verdict for v in here.variants]
    assert [v.answer for v in there.variants] == [v.answer for v in here.variants]


def test_the_base_answers_the_same_beside_the_adapter_as_alone(served: Any) -> None:
    assert len(served.adapters.list()) >= served.profile.served_adapters, "the server's last slot has to be in use"
    for path in SAMPLES:
        alone, beside = reported(served, path, "base"), reported(served, path, "base", "tuned")
        assert beside.variants[0].answer == alone.variants[0].answer
        assert beside.variants[0].p_mounting == pytest.approx(alone.variants[0].p_mounting, abs=1e-4)


def test_text_arrives_while_it_is_written(served: Any) -> None:
    pieces = [str(chunk.content) for chunk in served.chat.stream(asked(served, SAMPLES[1]), prefill="Status:")]
    assert len([piece for piece in pieces if piece]) > 3


def test_a_cancel_reaches_the_server(server: RunningServer, served: Any) -> None:
    messages = asked(served, SAMPLES[2])
    whole = served.chat.invoke(messages, prefill="Status:")
    before = server.metric("vllm:generation_tokens_total")
    stop = threading.Event()
    with pytest.raises(Cancelled):
        for chunk in served.chat.stream(messages, prefill="Status:", cancelled=stop.is_set):
            if chunk.content:
                stop.set()
    until = time.monotonic() + 30
    while server.metric("vllm:num_requests_running") and time.monotonic() < until:
        time.sleep(0.1)
    assert server.metric("vllm:num_requests_running") == 0
    assert server.metric("vllm:generation_tokens_total") - before < whole.response_metadata["tokens"]


def test_pictures_that_left_the_servers_cache_are_sent_again(served: Any) -> None:
    messages = asked(served, SAMPLES[3])
    (medium,) = served.backend.session.payloads.media(_prompt(messages), exact=True)
    served.backend.session._kept.add(medium.id)  # as after a restart that nobody noticed
    said = served.chat.invoke(messages, prefill="Status:", options=(" Mounting", " Normal"))
    assert said.content and said.response_metadata["scores"]


def test_an_adapter_registered_after_the_start_is_loaded_at_run_time(served: Any, tmp_path: Path) -> None:
    shipped = served.adapters.get("mounting")
    record = served.add_adapter(shipped.folder, "later")
    try:
        served.backend.try_adapter(AdapterRef("later", record.folder, record.digest))
        assert f"later-{record.digest[:12]}" in served.backend.session._effective
        same = [served.chat.invoke(asked(served, SAMPLES[4]), adapter=served.reference(r)) for r in (shipped, record)]
        assert same[0].content == same[1].content
    finally:
        served.adapters.remove("later")


def test_an_adapter_that_changes_nothing_is_refused(served: Any, tmp_path: Path) -> None:
    idle = make_adapter(BASE, tmp_path / "idle", scale=0.0, seed=3)
    with pytest.raises(AdapterError, match="no-op"):
        served.backend.try_adapter(idle)


def test_an_adapter_that_the_server_cannot_have_is_told(served: Any, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="does not serve the adapter 'elsewhere'"):
        served.backend.try_adapter(AdapterRef("elsewhere", tmp_path / "elsewhere", "0" * 64))


def test_another_model_than_the_profiles_is_named(server: RunningServer, tmp_path: Path) -> None:
    service = served_by(server, tmp_path, server_model="Qwen/Some-other")
    with pytest.raises(ModelError, match=r"serves assets/demo/base, .*, not Qwen/Some-other"):
        service.warm_up()


def test_a_wrong_key_is_told(server: RunningServer, tmp_path: Path) -> None:
    service = served_by(server, tmp_path, server_key="wrong")
    with pytest.raises(ModelError, match="HERDLENS_SERVER_KEY"):
        service.warm_up()


def test_both_variants_at_once_share_the_pictures(server: RunningServer, served: Any) -> None:
    """A clip that the server never saw is prepared and looked at once for both."""

    def counted() -> list[float]:
        return [server.metric(f"vllm:mm_cache_{what}_total") for what in ("queries", "hits")]

    messages = asked(served, SAMPLES[5], Window(0.4, 5.0))
    tuned = served.reference(served.adapters.get("mounting"))
    served.backend.try_adapter(tuned)
    before = counted()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda one: served.chat.invoke(messages, adapter=one, prefill="Status:"), (None, tuned)))
    queries, hits = (after - earlier for after, earlier in zip(counted(), before, strict=True))
    assert queries > 2 and queries - hits == 1


def _prompt(messages: list[HumanMessage]) -> Any:
    from services.chat.chat_model import read

    return read(messages)
