"""Picture quality by classical means: blur, noise, low resolution, darkness, over-exposure, freezing and covering.

Everything is measured on the sampled pictures after one common reduction to the area of 448 x 256 (smaller pictures
stay as they are), so that a clip's size, frame rate and codec do not matter; lengths are in pixels of a picture 448
wide. The limits were set on rendered clips (``training.demo.render``: default camera, day and night, four strengths
of each degradation, coded as the renderer does) and on two real barn clips by day: pictures that were not spoilt stay
below them, the weakest strength of each degradation lies above. OpenCV and NumPy only.

Black, plain, burnt-out, mostly covered and unchanging pictures are *blocking*: nothing can be said from them. Dim
infrared footage at night is at most ``dark``, which is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from services.quality_grade import grade_of
from services.schema import Clip, Finding, Frames, Quality

COMMON_WIDTH, COMMON_HEIGHT = 448, 256

# Measured on the material above: clean at most / weakest degradation at least.
BLUR_LIMIT = 0.82  # sigma, pixels                    0.65 / 0.97
NOISE_LIMIT = 6.8  # standard deviation, grey levels   6.5 (night, uncoded) / 7.2
WIDTH_LIMIT = 200.0  # pixels that the picture really holds; the weakest reduction is to 132
STEP_LIMIT = 0.3  # strength of a pattern of steps     0.20 / 0.42
STEP_LIMIT_DARK = 0.6  # few grey levels make steps of their own
BRIGHTNESS_LIMIT = 84.0  # grey levels                  89 (night) / 82 (day darkened)
WHITE_LIMIT = 0.25  # share of the picture              0.05
COVERED_LIMIT = 0.07  # share of the picture            0.01 / 0.13
CHANGE_LIMIT = 0.0005  # share of the picture           0.05; a cow's ear is more

BLACK_LEVEL = 24.0  # nothing is brighter
PLAIN_SPREAD = 0.03  # between the picture's parts, as a share of its brightness
WHITE_BLOCKING = 0.9
COVERED_BLOCKING = 0.65
COVERED_BEYOND_SHADOWS = 0.45  # the dark part of a floor at night takes up to 0.38

SPARSE = 3  # brightness is taken at every third pixel of a row and column: sorting all of them cost a quarter of it all

Grey = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Measures:
    """What was measured; units as in the limits above. ``blur`` is None where there is no edge to judge by;
    ``spread`` is the standard deviation between the parts of the blurred picture, ``brightest`` the 99th
    percentile, ``changing`` the share of the picture that changes at all during the clip (1 for a single picture)."""

    blur: float | None
    noise: float
    width: float
    brightness: float
    brightest: float
    spread: float
    white: float
    covered: float
    changing: float


def measure(frames: Frames, clip: Clip) -> Quality:
    """Findings in plain words, worst first, and a score: 1 clean, 0.5 at a limit, 0 where nothing can be judged."""
    found = measures(frames, clip)
    rated = [(_badness(finding), finding) for finding in _all_kinds(found)]
    exceeding = sorted((pair for pair in rated if _exceeds(pair[1])), key=lambda pair: -pair[0])
    worst_first = tuple(finding for _, finding in exceeding)
    stopped = _blocking(found)
    if stopped is not None:
        return Quality(0.0, (stopped,), blocking=True, grade=grade_of((stopped, *worst_first)))
    score = 1.0 - float(sum(badness**4 for badness, _ in rated)) ** 0.25
    return Quality(round(max(score, 0.0), 3), worst_first, grade=grade_of(worst_first))


def measures(frames: Frames, clip: Clip) -> Measures:
    grey = _common(frames)
    noise = _noise(grey)
    cover = _cover(grey)
    sparse, open_part = grey[:, ::SPARSE, ::SPARSE], ~cover[::SPARSE, ::SPARSE]
    seen = sparse[:, open_part] if open_part.sum() > 100 else sparse.reshape(len(sparse), -1)
    brightness = float(seen.mean() + np.quantile(seen, 0.99)) / 2
    spread = float(np.median([cv2.GaussianBlur(picture, (0, 0), 4.0).std() for picture in grey]))
    return Measures(
        blur=_blur(grey, noise),
        noise=noise,
        width=_true_width(grey, clip, STEP_LIMIT if brightness >= BRIGHTNESS_LIMIT else STEP_LIMIT_DARK),
        brightness=brightness,
        brightest=float(np.quantile(sparse, 0.99)),
        spread=spread,
        white=float((grey >= 250).mean()),
        covered=float(cover.mean()),
        changing=_changing(grey, noise) if len(grey) > 1 else 1.0,
    )


def _blocking(found: Measures) -> Finding | None:
    """The one thing that makes the pictures worthless, if any; the plainest first."""
    if found.brightest < BLACK_LEVEL:
        text = "The picture is black; check that the camera sees light and is not covered."
        return Finding("dark", found.brightness, BRIGHTNESS_LIMIT, text)
    if found.white > WHITE_BLOCKING:
        text = "The picture is burnt out to white; turn the camera away from the light or lower its exposure."
        return Finding("over_exposed", found.white, WHITE_LIMIT, text)
    if found.spread < PLAIN_SPREAD * max(found.brightness, 30.0):
        text = "The picture is one plain surface; the lens is covered or the camera sends no picture."
        return Finding("covered", 1.0, COVERED_LIMIT, text)
    if found.covered > COVERED_BLOCKING:
        text = f"{found.covered:.0%} of the picture is covered by something dark; clean the lens or clear the view."
        return Finding("covered", found.covered, COVERED_LIMIT, text)
    if found.changing < CHANGE_LIMIT:
        text = (
            "Nothing at all changes in the picture; the camera or the recording is frozen, or nothing is there to move."
        )
        return Finding("frozen", found.changing, CHANGE_LIMIT, text)
    return None


def _all_kinds(found: Measures) -> list[Finding]:
    """A finding of each kind that was measured, below and above its limit."""
    kinds = [
        Finding(
            "noise",
            found.noise,
            NOISE_LIMIT,
            f"The picture is noisy (by {found.noise:.0f} of 255 grey levels); add light or clean the camera's cable.",
        ),
        Finding(
            "low_resolution",
            found.width,
            WIDTH_LIMIT,
            f"The picture holds no more detail than one {found.width:.0f} pixels wide; record at a higher resolution.",
        ),
        Finding(
            "dark",
            found.brightness,
            BRIGHTNESS_LIMIT,
            f"The picture is dark (brightness {found.brightness:.0f} of 255); add light or infrared light.",
        ),
        Finding(
            "over_exposed",
            found.white,
            WHITE_LIMIT,
            f"{found.white:.0%} of the picture is burnt out to white; turn the camera away from the light.",
        ),
    ]
    soft = found.width < WIDTH_LIMIT or (found.blur or 0.0) > BLUR_LIMIT
    # In the dark, and where a soft picture has lost the floor's texture, a shadow looks like a cover.
    if found.brightness >= BRIGHTNESS_LIMIT and not (soft and found.covered < COVERED_BEYOND_SHADOWS):
        text = f"{found.covered:.0%} of the picture is covered by something dark; clean the lens or clear the view."
        kinds.append(Finding("covered", found.covered, COVERED_LIMIT, text))
    if found.blur is not None:
        text = f"The picture is blurred (edges are {found.blur:.1f} pixels soft); clean the lens and set its focus."
        kinds.append(Finding("blur", found.blur, BLUR_LIMIT, text))
    return kinds


def _ratio(finding: Finding) -> float:
    """The measure in units of its limit, the larger the worse."""
    if finding.kind in ("low_resolution", "dark"):  # here little is bad
        return finding.limit / max(finding.value, 1e-6)
    return finding.value / finding.limit


def _exceeds(finding: Finding) -> bool:
    return _ratio(finding) > 1.0


def _badness(finding: Finding) -> float:
    """0 … 1, one half at the limit."""
    squared = _ratio(finding) ** 2
    return squared / (1.0 + squared)


def _common(frames: Frames) -> Grey:
    """(T, H, W) float32 luma, 0…255, area-averaged down to at most the common area."""
    height, width = frames.rgb.shape[1:3]
    scale = min(1.0, (COMMON_WIDTH * COMMON_HEIGHT / (height * width)) ** 0.5)
    size = (max(16, round(width * scale)), max(16, round(height * scale)))
    pictures = []
    for picture in frames.rgb:
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA) if scale < 1 else picture
        pictures.append(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY))
    return np.stack(pictures).astype(np.float32)


def _equivalent_width(height: float, width: float) -> float:
    """Width of the picture of the common shape that has as many pixels."""
    return float((height * width * COMMON_WIDTH / COMMON_HEIGHT) ** 0.5)


def _noise(grey: Grey) -> float:
    """Standard deviation of the noise: the response to Immerkaer's operator (1996), which straight edges and slopes do
    not excite, in the quietest blocks that are neither black nor white; median of the pictures."""
    operator = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 6
    levels = []
    for picture in grey:
        response = _block_means(np.abs(cv2.filter2D(picture, cv2.CV_32F, operator)))
        usable = response[np.abs(_block_means(picture) - 127.5) < 111.5]
        # The mean magnitude of Gaussian noise is sqrt(2 / pi) of its standard deviation.
        levels.append(float(np.quantile(usable, 0.15)) * (np.pi / 2) ** 0.5 if len(usable) >= 8 else 0.0)
    return float(np.median(levels))


def _block_means(picture: Grey, side: int = 16) -> Grey:
    height, width = picture.shape
    if height < side or width < side:
        return picture.mean(keepdims=True).ravel()
    whole = picture[: height // side * side, : width // side * side]
    return np.asarray(whole.reshape(height // side, side, width // side, side).mean(axis=(1, 3)).ravel())


def _blur(grey: Grey, noise: float) -> float | None:
    """How softly edges are drawn: sigma of the Gaussian that would spread a sharp edge so. Blurring once more by
    ``again`` lowers an edge's gradient by R = sqrt(1 + again² / sigma²) (Zhuo and Sim 2011). Taken at strong edges,
    and there at the sharpest tenth, because a sharp picture too has soft shadows; median of the pictures."""
    before, again = 0.6, 2.0  # a first touch keeps single noisy pixels from passing as edges
    sigmas = []
    for picture in grey:
        base = cv2.GaussianBlur(picture, (0, 0), before)
        once, twice = _gradient(base), _gradient(cv2.GaussianBlur(base, (0, 0), again))
        strong = once > max(4 * noise, 6.0, float(np.quantile(once, 0.9)))
        if strong.sum() >= 50:
            ratio = float(np.quantile(once[strong] / np.maximum(twice[strong], 1e-3), 0.9))
            sigmas.append(max(again**2 / max(ratio**2 - 1, 1e-3) - before**2, 0.04) ** 0.5)
    if len(sigmas) < len(grey) / 2:
        return None
    return float(np.median(sigmas)) * COMMON_WIDTH / _equivalent_width(*grey.shape[1:])


def _gradient(picture: Grey) -> Grey:
    across = cv2.Sobel(picture, cv2.CV_32F, 1, 0, ksize=3)
    down = cv2.Sobel(picture, cv2.CV_32F, 0, 1, ksize=3)
    return np.asarray(cv2.magnitude(across, down) / 4)


def _true_width(grey: Grey, clip: Clip, least: float) -> float:
    """How many pixels wide a picture of the common shape would hold all that this one shows: the clip's own size, or
    less where a coarse picture was enlarged in steps. Steps return at one spacing, across and down: a wave in the
    mean difference of neighbouring columns and of rows, which counts if it is stronger than ``least``."""
    own = _equivalent_width(clip.height, clip.width)
    waves = np.linspace(0.05, 0.46, 165)  # per pixel: pictures 22 to 206 wide, enlarged to 448
    strength = np.ones(len(waves))
    for axis in (2, 1):
        steps = np.abs(np.diff(grey, axis=axis)).mean(axis=(0, 3 - axis)).astype(np.float64)
        usual = cv2.blur(steps[None], (25, 1))[0] + 0.05
        window = np.hanning(len(steps))
        phases = np.exp(-2j * np.pi * np.outer(waves, np.arange(len(steps))))
        strength *= 2 * np.abs(phases @ ((steps / usual - 1) * window)) / window.sum()
    if float(strength.max()) ** 0.5 < least:
        return own
    first = int(np.argmax(strength > 0.25 * strength.max()))  # the basic wave may be weaker than its overtones
    while first + 1 < len(waves) and strength[first + 1] > strength[first]:
        first += 1
    return min(own, float(waves[first]) * _equivalent_width(*grey.shape[1:]))


def _cover(grey: Grey) -> NDArray[np.bool_]:
    """(H, W): where something near hides the view, as dirt or a leaf on the lens does: darker than the rest, flat,
    unchanging, and reaching the border. Shadows on the floor keep the floor's texture and the sensor's noise."""
    mean = grey.mean(axis=0)
    local = cv2.blur(mean, (9, 9))
    spread = np.sqrt(np.maximum(cv2.blur(mean * mean, (9, 9)) - local * local, 0))
    flicker = cv2.blur(grey.std(axis=0), (9, 9))
    dark = min(60.0, 0.4 * float(np.quantile(mean, 0.95)))
    flat = (local < dark) & (spread < 1.5) & (flicker < 1.5)
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(flat.astype(np.uint8), connectivity=4)
    height, width = flat.shape
    largest, size = 0, 0
    for label in range(1, count):
        left, top, across, down, area = boxes[label].tolist()
        edge = left == 0 or top == 0 or left + across == width or top + down == height
        if edge and area > size:
            largest, size = label, area
    return np.asarray(labels == largest) if size else np.zeros(flat.shape, bool)


def _changing(grey: Grey, noise: float) -> float:
    """Share of the picture whose brightness changes during the clip by more than coding and noise explain. Smoothing
    leaves a seventh of the noise, whose range over 16 pictures then stays below half its standard deviation."""
    smooth = np.stack([cv2.GaussianBlur(picture, (0, 0), 2.0) for picture in grey])
    return float((smooth.max(axis=0) - smooth.min(axis=0) > 3.0 + noise).mean())
