"""Runs on the demo bundle and real clips: what is measured is what is served, and only the asked-for thing changes."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.events import Finished
from agent.graph import analyze
from evaluation.altered import FrameAlteringReader, order
from evaluation.data import donors, read_data
from evaluation.plan import planned
from evaluation.records import ResultFile
from evaluation.runner import Job, open_service, run
from services.model_service import ModelService
from services.schema import Request, Sampling
from services.settings import ROOT, Settings, profile
from services.video import VideoReader

DATA = ROOT / "assets" / "demo" / "samples" / "annotations.json"
CLIPS = 4
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "default": ("ensemble", {}),
    "swapped": ("ensemble", {"swap_labels": True}),
    "vlm": ("vlm", {}),
    "none": ("rag", {"context": "none"}),
    "right": ("rag", {"context": "right"}),
    "wrong": ("rag", {"context": "wrong"}),
    "random": ("rag", {"context": "random"}),
    "text": ("text", {"retrieval": "off"}),
    "other": ("vlm", {"frames": "other"}),
    "knn": ("knn", {"variants": ()}),
}


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    """The demo's service as ``--scored-only`` makes it."""
    found = profile("demo").model_copy(update={"max_tokens": 1})
    made = ModelService(Settings(data=tmp_path_factory.mktemp("data")), found)
    yield made
    made.close()


def job(name: str, folder: Path, limit: int = CLIPS, data: Path = DATA) -> Job:
    mode, options = RUNS[name]
    given = {"variants": ("base", "tuned"), "scored_only": True, "limit": limit, **options}
    plan, items = planned(data, mode, "demo", **given)
    return Job(plan, items, folder / f"{name}.json")


@pytest.fixture(scope="module")
def results(scorer, tmp_path_factory) -> dict[str, ResultFile]:
    folder = tmp_path_factory.mktemp("results")
    return dict(zip(RUNS, run(scorer, [job(name, folder) for name in RUNS]), strict=True))


def p(result: ResultFile, variant: str = "tuned") -> list[float]:
    return [clip.variant(variant).p_model for clip in result.clips]


def test_the_ensemble_is_what_analyze_decides(scorer, results):
    for clip in results["default"].clips:
        request = Request(clip.path, ("base", "tuned"), "contrastive")
        *_, last = analyze(request, scorer, threading.Event())
        assert isinstance(last, Finished)
        assert (clip.verdict, clip.rule) == (last.report.verdict, last.report.decided_by.rule)
        assert clip.p_mounting == pytest.approx(last.report.p_mounting, abs=1e-9)
        assert clip.variant("tuned").p_final == pytest.approx(last.report.p_mounting, abs=1e-9)


def test_swapping_turns_every_label_and_the_vote_and_nothing_else(results):
    for usual, turned in zip(results["default"].clips, results["swapped"].clips, strict=True):
        assert turned.vote == pytest.approx(1 - usual.vote)
        for before, after in zip((*usual.shown, *usual.voters), (*turned.shown, *turned.voters), strict=True):
            assert (before.id, before.description) == (after.id, after.description)
            assert {before.label, after.label} == {"mounting", "normal"}


def test_contexts_show_the_cases_that_they_say(results):
    for name, same in (("right", True), ("wrong", False)):
        for clip in results[name].clips:
            assert [case.label == clip.truth for case in clip.shown] == [same]
    for clip, usual in zip(results["random"].clips, results["default"].clips, strict=True):
        assert {case.label for case in clip.shown} == {"mounting", "normal"}
        assert clip.vote == usual.vote


def test_an_empty_context_is_the_question_without_retrieval(results):
    assert p(results["none"]) == pytest.approx(p(results["vlm"]), abs=1e-5)


def test_without_a_video_all_clips_are_one(results):
    found = p(results["text"])
    assert found == pytest.approx([found[0]] * len(found), abs=1e-6)
    assert found[0] != pytest.approx(p(results["vlm"])[0], abs=1e-6)


def test_another_clips_frames_give_the_other_clips_score(results):
    alone = {clip.video: clip.variant("tuned").p_model for clip in results["vlm"].clips}
    for clip in results["other"].clips:
        assert clip.shown_video not in (None, clip.video)
        if clip.shown_video in alone:
            assert clip.variant("tuned").p_model == pytest.approx(alone[clip.shown_video], abs=1e-5)
    items, _ = read_data(DATA)
    given = donors(items, 0)
    assert sorted(item.video for item in given.values()) == sorted(given)


def test_neighbours_alone_need_no_model(results):
    for clip, usual in zip(results["knn"].clips, results["default"].clips, strict=True):
        assert (clip.vote, clip.variants) == (usual.vote, ())
        assert clip.verdict == ("mounting" if clip.vote >= 0.5 else "normal")


def test_a_result_says_what_it_was_made_with(results):
    digests = results["default"].digests
    assert {"preprocessing", "base", "adapter", "embedder", "library", "calibration"} <= set(digests)
    assert {"torch", "transformers", "python"} <= set(results["default"].versions)
    assert results["default"].clips[0].metadata["kind"]


def test_a_second_run_repeats_nothing_and_a_longer_one_only_the_rest(scorer, tmp_path):
    (short,) = run(scorer, [job("vlm", tmp_path, 1)])
    (again,) = run(scorer, [job("vlm", tmp_path, 1)])
    assert again.clips == short.clips
    (longer,) = run(scorer, [job("vlm", tmp_path, 2)])
    assert longer.clips[0] == short.clips[0] and len(longer.clips) == 2


def test_two_clips_at_a_time_answer_as_one_at_a_time(scorer, results, tmp_path):
    (found,) = run(scorer, [job("default", tmp_path)], parallel=2)
    assert [clip.video for clip in found.clips] == [clip.video for clip in results["default"].clips]
    assert p(found) == pytest.approx(p(results["default"]), abs=1e-6)


def test_a_broken_clip_is_a_record_and_the_others_go_on(scorer, tmp_path):
    entries = json.loads(DATA.read_text(encoding="utf-8"))[:2]
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    (tmp_path / "good.mp4").write_bytes((DATA.parent / entries[1]["video"]).read_bytes())
    entries[0]["video"], entries[1]["video"] = "broken.mp4", "good.mp4"
    data = tmp_path / "annotations.json"
    data.write_text(json.dumps(entries), encoding="utf-8")
    (found,) = run(scorer, [job("vlm", tmp_path, data=data)])
    assert found.clips[0].error and not found.clips[0].variants
    assert found.clips[1].error is None and found.clips[1].variants


@pytest.mark.parametrize("choice", ["shuffled", "one"])
def test_altered_frames_keep_times_and_change_only_the_order(choice):
    path = str(read_data(DATA)[0][0].path)
    reader, altering = VideoReader(), FrameAlteringReader(choice, 0)
    try:
        clip, frames = reader.open(path, Sampling(), None, threading.Event())
        _, altered = altering.open(path, Sampling(), None, threading.Event(), between_pixels=10**6)
        _, dense = reader.open(path, Sampling(), None, threading.Event(), between_pixels=10**6)
    finally:
        reader.close()
        altering.close()
    taken = order(len(frames), choice, np.random.default_rng([0, int(clip.sha256[:12], 16)]))
    assert (altered.pts_s == frames.pts_s).all()
    assert (altered.rgb == frames.rgb[taken]).all()
    if choice == "one":
        assert (altered.between == frames.rgb[8]).all()
    else:
        assert (altered.between != dense.between).any()
        assert {p.tobytes() for p in altered.between} == {p.tobytes() for p in dense.between}
    assert sorted(taken) == list(range(16)) if choice == "shuffled" else set(taken) == {8}


def test_a_run_with_altered_frames_reaches_the_models(results, tmp_path):
    plan, items = planned(DATA, "rag", "demo", variants=("tuned",), scored_only=True, frames="one", limit=CLIPS)
    service = open_service(Settings(data=tmp_path), plan)
    try:
        (altered,) = run(service, [Job(plan, items, tmp_path / "one.json")])
        clip = service.open_clip(str(items[0].path), None, threading.Event())
        seen = service.clips.of(clip).frames.rgb
    finally:
        service.close()
    assert (seen == seen[0]).all()
    usual = {clip.video: clip.variant("tuned").p_model for clip in results["default"].clips}
    assert any(abs(clip.variant("tuned").p_model - usual[clip.video]) > 1e-3 for clip in altered.clips)
