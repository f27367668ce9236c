"""Picture quality: what is spoilt is named, what cannot be judged blocks, ordinary footage passes by day and night."""

from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np
import pytest

from services.quality import measure, measures
from services.schema import Clip, Frames, Quality, Window
from training.demo.degrade import degrade
from training.demo.draw import draw_frames
from training.demo.plan import plan_clip
from training.demo.render import frame_times

DAY, NIGHT = 4, 9  # seeds of the renderer's default camera by day and at night
# (seed, kind, level)
SPOILT = [
    (seed, kind, level)
    for seed in (DAY, NIGHT)
    for kind in ("blur", "noise", "low_resolution", "dark", "covered")
    for level in (1, 3)
]


@pytest.fixture(scope="module")
def rendered() -> dict[int, np.ndarray]:
    """Eight pictures of a rendered clip by day and of one at night, (8, 256, 448, 3)."""
    clips = {}
    for seed in (DAY, NIGHT):
        plan = plan_clip(seed)
        times = frame_times(plan)
        clips[seed] = draw_frames(plan, times[:: len(times) // 8][:8])
    return clips


def judged(rgb: np.ndarray) -> Quality:
    clip = Clip(
        "a.mp4", "0" * 64, 1, 8.0, Fraction(12), rgb.shape[2], rgb.shape[1], "h264", "mp4", Window(0.0, 8.0)
    )  # fmt: skip
    return measure(Frames(rgb, np.arange(len(rgb), dtype=np.float64)), clip)


def kinds(quality: Quality) -> set[str]:
    return {finding.kind for finding in quality.findings}


def noisy(rgb: np.ndarray, sigma: float) -> np.ndarray:
    random = np.random.default_rng(5)
    return (rgb + random.normal(0, sigma, rgb.shape)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("seed", [DAY, NIGHT])
def test_clean_pictures_have_no_findings_by_day_and_night(rendered, seed):
    quality = judged(rendered[seed])
    assert not quality.blocking and quality.findings == () and quality.score > 0.45


@pytest.mark.parametrize(("seed", "kind", "level"), SPOILT)
def test_what_is_spoilt_is_named_first_and_does_not_block(rendered, seed, kind, level):
    quality = judged(degrade(rendered[seed], kind, level, seed=1))
    assert quality.findings[0].kind == kind and quality.score < 0.5
    assert not quality.blocking or (kind, seed) == ("dark", NIGHT)


@pytest.mark.parametrize("kind", ["blur", "noise", "low_resolution", "dark", "covered"])
def test_worse_pictures_score_lower(rendered, kind):
    scores = [judged(rendered[DAY]).score]
    scores += [judged(degrade(rendered[DAY], kind, level, seed=1)).score for level in (1, 2, 3, 4)]
    assert scores == sorted(scores, reverse=True) and scores[0] > scores[1] > scores[4]


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_size_does_not_matter(rendered, scale):
    def resized(rgb):
        return np.stack([cv2.resize(p, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for p in rgb])

    assert kinds(judged(resized(rendered[DAY]))) == set()
    assert kinds(judged(resized(degrade(rendered[DAY], "blur", 2, seed=1)))) == {"blur"}
    assert kinds(judged(resized(degrade(rendered[DAY], "dark", 2, seed=1)))) == {"dark"}


def test_a_small_recording_is_low_in_resolution(rendered):
    small = np.stack([cv2.resize(p, (144, 82), interpolation=cv2.INTER_AREA) for p in rendered[DAY]])
    assert "low_resolution" in kinds(judged(small))


def test_the_width_that_was_enlarged_is_found_again(rendered):
    coarse = np.stack([cv2.resize(p, (120, 69), interpolation=cv2.INTER_AREA) for p in rendered[DAY]])
    enlarged = np.stack([cv2.resize(p, (960, 552), interpolation=cv2.INTER_NEAREST) for p in coarse])
    (finding,) = judged(enlarged).findings
    assert finding.kind == "low_resolution" and finding.value == pytest.approx(120, abs=6)


def black(rgb):
    return np.zeros_like(rgb)


def night_with_lens_cap(rgb):
    return noisy(np.full_like(rgb, 4), 4)


def grey(rgb):
    return np.full_like(rgb, 120)


def no_signal(rgb):
    return noisy(np.full_like(rgb, 0) + np.array([10, 20, 160], np.uint8), 3)


def white(rgb):
    return np.full_like(rgb, 255)


def frozen(rgb):
    return rgb[:1].repeat(8, axis=0)


def frozen_with_noise(rgb):
    return noisy(frozen(rgb), 4)


def mostly_covered(rgb):
    return degrade(rgb, "covered", 4, seed=1)


BLOCKING = {
    black: "dark",
    night_with_lens_cap: "dark",
    grey: "covered",
    no_signal: "covered",
    white: "over_exposed",
    frozen: "frozen",
    frozen_with_noise: "frozen",
    mostly_covered: "covered",
}


@pytest.mark.parametrize("spoil", BLOCKING, ids=lambda spoil: spoil.__name__)
@pytest.mark.parametrize("seed", [DAY, NIGHT])
def test_pictures_that_show_nothing_block(rendered, seed, spoil):
    quality = judged(spoil(rendered[seed]))
    assert quality.blocking and quality.score <= 0.1
    assert [finding.kind for finding in quality.findings] == [BLOCKING[spoil]]


@pytest.mark.parametrize("seed", [DAY, NIGHT])
def test_a_cow_that_only_moves_an_ear_is_not_frozen(rendered, seed):
    still = noisy(frozen(rendered[seed]), 2)
    still[4:, 100:112, 200:212] = (still[4:, 100:112, 200:212].astype(int) + 60).clip(0, 255)
    assert not judged(still).blocking


def test_burnt_out_parts_are_named(rendered):
    bright = rendered[DAY].copy()
    bright[:, :, :200] = 255
    assert kinds(judged(bright)) == {"over_exposed"}


def test_findings_are_plain_sentences(rendered):
    for kind in ("blur", "noise", "low_resolution", "dark", "covered"):
        for finding in judged(degrade(rendered[DAY], kind, 3, seed=1)).findings:
            assert finding.text[0].isalnum() and finding.text.endswith(".") and ";" in finding.text


def test_noise_is_measured_in_grey_levels():
    flat = np.full((4, 128, 224, 3), 120, np.uint8)
    flat[:, 30:90, 60:160] = 180
    for sigma in (5.0, 15.0):
        grey_noise = np.random.default_rng(1).normal(0, sigma, flat.shape[:3])[..., None]
        rgb = (flat + grey_noise).clip(0, 255).astype(np.uint8)
        clip = Clip("a", "0", 1, 1.0, Fraction(4), 224, 128, "h264", "mp4", Window(0.0, 1.0))
        assert measures(Frames(rgb, np.arange(4.0)), clip).noise == pytest.approx(sigma, rel=0.25)


def true_class(kind):
    return "dark_or_covered" if kind in ("dark", "covered") else kind


@pytest.mark.parametrize("count", [1, 8])
@pytest.mark.parametrize(("seed", "kind", "level"), SPOILT)
def test_the_grade_names_class_and_strength_of_clips_and_single_pictures(rendered, seed, kind, level, count):
    grade = judged(degrade(rendered[seed], kind, level, seed=1)[:count]).grade
    assert grade.kind == true_class(kind) and abs(grade.severity - level) <= 1


@pytest.mark.parametrize("seed", [DAY, NIGHT])
def test_a_single_picture_is_not_called_frozen(rendered, seed):
    quality = judged(rendered[seed][:1])
    assert not quality.blocking and quality.grade.kind == "clean"


def test_a_frozen_picture_is_graded_by_what_else_spoils_it(rendered):
    assert judged(frozen(rendered[DAY])).grade.kind == "clean"
    assert judged(frozen(degrade(rendered[DAY], "blur", 3, seed=1))).grade.kind == "blur"
