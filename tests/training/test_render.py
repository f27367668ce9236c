"""The renderer's promises: the same pictures always, times independent, annotations true to the geometry."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from services.errors import InputError
from training.demo import render
from training.demo.camera import VIEWS
from training.demo.geometry import criteria, visible
from training.demo.scene import (
    DEGRADATIONS,
    DIFFICULTIES,
    KINDS,
    MOUNTING_KINDS,
    NORMAL_KINDS,
    PARTS,
    POSES,
    annotation,
    degrade,
    draw_both,
    draw_frames,
    draw_targets,
    plan_clip,
)  # fmt: skip

ROOT = Path(__file__).resolve().parents[2]


def _digest(seed: int) -> str:
    plan = plan_clip(seed)
    return hashlib.sha256(draw_frames(plan, [0.0, 2.5, 5.0]).tobytes()).hexdigest()


def test_another_process_draws_the_same_pictures() -> None:
    code = "from tests.training.test_render import _digest; print(_digest(3), _digest(4))"
    other = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert other.stdout.split() == [_digest(3), _digest(4)]


@pytest.mark.parametrize("seed", [1, 6])
def test_a_frame_depends_on_its_own_time_only(seed: int) -> None:
    plan = plan_clip(seed)
    together = draw_frames(plan, [0.3, 2.0, 4.7])
    alone = draw_frames(plan, [2.0])
    np.testing.assert_array_equal(together[1], alone[0])
    many, one = draw_targets(plan, [0.3, 2.0]), draw_targets(plan, [2.0])
    for name, value in one.items():
        np.testing.assert_array_equal(many[name][1], value[0], err_msg=name)


def test_a_small_picture_is_the_large_one_averaged() -> None:
    plan = plan_clip(8)
    large, small = draw_frames(plan, [1.0, 3.0]), draw_frames(plan, [1.0, 3.0], width=224, height=128)
    mean = large.reshape(2, 128, 2, 224, 2, 3).mean((2, 4))
    assert np.abs(mean - small).mean() < 4.0
    assert abs(float(mean.mean() - small.mean())) < 1.5


def test_both_at_once_equals_each_alone() -> None:
    plan = plan_clip(9)
    frames, targets = draw_both(plan, [1.0, 4.0])
    np.testing.assert_array_equal(frames, draw_frames(plan, [1.0, 4.0], width=224, height=128))
    for name, value in draw_targets(plan, [1.0, 4.0]).items():
        np.testing.assert_array_equal(targets[name], value)


def test_targets_have_the_promised_shapes_and_ranges() -> None:
    targets = draw_targets(plan_clip(10), [0.5, 1.5, 2.5])
    one = ("cow", "part", "animal_pose", "height", "pitch", "overlap", "coat", "distance", "head_height", "head_gap")
    for name in (*one, "centre", "facing", "motion"):
        shape = (3, 8, 14, 2) if name in ("facing", "motion") else (3, 8, 14)
        assert targets[name].shape == shape and targets[name].dtype == np.float32, name
        assert np.isfinite(targets[name]).all(), name
    assert 0 < targets["cow"].mean() < 0.8 and targets["cow"].max() <= 1
    assert targets["part"].max() < len(PARTS) and targets["animal_pose"].max() < len(POSES)
    empty = targets["cow"] == 0
    assert not targets["height"][empty].any() and not targets["animal_pose"][empty].any()


@pytest.mark.parametrize("seed", range(10, 20))
def test_the_centres_count_the_animals_that_are_seen(seed: int) -> None:
    plan = plan_clip(seed, difficulty="easy")
    times = np.array([0.1, 0.5, 0.9]) * plan.duration_s
    counts = draw_targets(plan, times)["centre"].sum((1, 2))
    np.testing.assert_allclose(counts, counts.round(), atol=1e-5)
    assert round(float(counts.max())) == sum(visible(plan))


def test_heads_are_near_and_low_where_they_push_and_high_where_they_mount() -> None:
    found = {}
    for kind in ("head_pushing", "chin_resting", "full"):
        plan = plan_clip(14, kind=kind)
        targets = draw_targets(plan, [(plan.act.start_s + plan.act.end_s) / 2])
        shown = targets["cow"][0] > 0.12
        found[kind] = (float(targets["head_gap"][0][shown].min()), float(targets["head_height"][0][shown].max()))
    gaps, heights = zip(*found.values(), strict=True)
    assert max(gaps[:2]) < 0.35 < 0.5 < gaps[2] < 1.0
    assert heights[0] < heights[1] < heights[2]


@pytest.mark.parametrize("kind", MOUNTING_KINDS)
@pytest.mark.parametrize("viewpoints", ["train", "new"])
def test_mounting_meets_the_criteria(kind: str, viewpoints: str) -> None:
    for seed in range(8):
        found = criteria(plan_clip(seed, kind=kind, viewpoints=viewpoints))  # type: ignore[arg-type]
        assert found.lifted and found.on_back and found.same_pair, (kind, seed, found)


@pytest.mark.parametrize("kind", NORMAL_KINDS)
def test_look_alikes_never_meet_them(kind: str) -> None:
    for seed in range(8):
        found = criteria(plan_clip(seed, kind=kind))
        assert not found.on_back and not found.same_pair, (kind, seed, found)
        assert found.lifted == (kind == "front_raised"), (kind, seed, found)


def test_half_of_the_seeds_mount_and_all_kinds_occur() -> None:
    plans = [plan_clip(seed) for seed in range(160)]
    assert sum(plan.mounting for plan in plans) == 80
    assert {plan.kind for plan in plans} == set(KINDS)


def test_the_label_changes_nothing_but_the_act() -> None:
    for seed in range(20):
        a, b = plan_clip(seed, mounting=True), plan_clip(seed, mounting=False)
        assert (a.light, a.duration_s, a.timing, a.difficulty, a.hidden) == (
            b.light,
            b.duration_s,
            b.timing,
            b.difficulty,
            b.hidden,
        )
        np.testing.assert_array_equal(a.camera.position, b.camera.position)
        assert [x.coat for x in a.animals][:1] == [x.coat for x in b.animals][:1]


@pytest.mark.parametrize("seed", range(0, 24))
def test_annotation_is_in_the_sources_format(seed: int) -> None:
    plan = plan_clip(seed)
    entry = annotation(plan, "./clip.mp4")
    human, gpt = entry["conversations"]
    assert human["value"].startswith("<video>\nBased on an analysis") and human["value"].endswith("(A) YES\n(B) NO")
    assert re.fullmatch(r"Answer: (YES|NO)\nReason: [A-Z].*\.", gpt["value"])
    assert gpt["value"].startswith("Answer: YES") == plan.mounting
    facts = json.loads(json.dumps(entry))["metadata"]
    assert ("infrared night" in gpt["value"]) == (facts["light"] == "night")
    assert 1 <= facts["animals"] <= 6 and facts["duration_s"] == plan.duration_s
    act = facts["act"]
    said = re.search(r"from (\d+\.[05]) s to (\d+\.[05]) s", gpt["value"].lower())
    assert said is not None
    assert abs(float(said[1]) - act["start_s"]) <= 0.25 and abs(float(said[2]) - act["end_s"]) <= 0.25
    assert 0 <= act["start_s"] < act["end_s"] <= plan.duration_s
    for spell in facts["behaviours"]:
        assert 0 <= spell["start_s"] < spell["end_s"] <= plan.duration_s
    assert facts["criteria"]["same_pair"] == plan.mounting


def test_new_viewpoints_are_none_of_the_others() -> None:
    """A height and a direction to which no camera of the training clips comes within a hand's breadth and a degree."""
    for name, heights, azimuths in VIEWS["new"]:
        for other, known_heights, known_azimuths in VIEWS["train"]:
            apart = max(heights[0] - known_heights[1], known_heights[0] - heights[1])
            turned = min(
                abs((a - b + 180) % 360 - 180)
                for a in np.arange(*azimuths, 0.5)
                for b in np.arange(*known_azimuths, 0.5)
            )
            assert name != other and (apart > 0.02 or turned > 1)


def test_harder_clips_hide_more_and_shake_more() -> None:
    plans = {level: [plan_clip(seed, difficulty=level) for seed in range(60)] for level in DIFFICULTIES}
    assert all(plan.difficulty == level for level, found in plans.items() for plan in found)
    noise = [np.mean([plan.noise for plan in plans[level]]) for level in DIFFICULTIES]
    shake = [np.mean([plan.camera.shake for plan in plans[level]]) for level in DIFFICULTIES]
    assert noise == sorted(noise) and noise[0] < noise[2] and shake == sorted(shake) and shake[0] < shake[2]


def test_the_vocabulary_stays_small() -> None:
    words: set[str] = set()
    for seed in range(300):
        plan = plan_clip(seed)
        from training.demo.annotate import reason

        words |= set(re.findall(r"[a-z-]+", reason(plan, len(plan.animals)).lower()))
    assert len(words) < 120


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_degradation_grows_with_its_level(kind: str) -> None:
    frames = draw_frames(plan_clip(1), [1.0])
    change = [np.abs(degrade(frames, kind, level, 5).astype(float) - frames).mean() for level in (1, 2, 3, 4)]
    assert change == sorted(change) and change[0] > 1.0
    np.testing.assert_array_equal(degrade(frames, kind, 2, 5), degrade(frames, kind, 2, 5))


def test_the_command_writes_playable_clips(tmp_path: Path) -> None:
    assert render.main(["--clips", "2", "--seed", "40", "--out", str(tmp_path), "--digests"]) == 0
    entries = json.loads((tmp_path / "annotations.json").read_text())
    digests = json.loads((tmp_path / "digests.json").read_text())
    assert [e["video"] for e in entries] == ["./clip_000040.mp4", "./clip_000041.mp4"] == list(digests)
    for entry, seed in zip(entries, (40, 41), strict=True):
        times = render.frame_times(plan_clip(seed))
        with av.open(str(tmp_path / entry["video"])) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 448, 256)
            decoded = [f.to_ndarray(format="rgb24") for f in container.decode(stream)]
        assert len(decoded) == len(times)
        drawn = draw_frames(plan_clip(seed), times[10:11])[0]
        assert np.abs(decoded[10].astype(float) - drawn).mean() < 8
    first = hashlib.sha256(draw_frames(plan_clip(40), render.frame_times(plan_clip(40))).tobytes()).hexdigest()
    assert digests["./clip_000040.mp4"] == first


@pytest.mark.parametrize(
    "arguments",
    [
        ["--clips", "0", "--out", "x"],
        ["--clips", "two", "--out", "x"],
        ["--clips", "1", "--out", "x", "--kind", "dance"],
        ["--clips", "1", "--out", "x", "--degrade", "fog:9"],
        ["--clips", "1", "--out", "x", "--seed", "-4"],
        ["--clips", "1"],
    ],
)
def test_a_wrong_call_is_one_sentence_and_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert render.main(arguments) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and message.rstrip().endswith(".")


def test_unknown_names_are_refused() -> None:
    for choices in ({"kind": "dance"}, {"viewpoints": "moon"}, {"style": "third"}, {"difficulty": "none"},
                    {"kind": "full", "mounting": False}):  # fmt: skip
        with pytest.raises(InputError):
            plan_clip(0, **choices)  # type: ignore[arg-type]
