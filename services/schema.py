"""Value objects that pass between the rooms. Standard library and NumPy only; all frozen.

Times are seconds from the first presented frame of the file (float64). Pictures are RGB, uint8,
channel last. Probabilities are those of *mounting*. Digests are lower-case hexadecimal SHA-256.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Label = Literal["mounting", "normal"]
Verdict = Literal["mounting", "normal", "unclear"]
TextVerdict = Literal["mounting", "normal", "unparsed"]
VariantName = Literal["base", "tuned"]
Task = Literal["mounting", "quality"]
Degradation = Literal["clean", "blur", "noise", "low_resolution", "dark_or_covered"]
AnyVerdict = Verdict | Degradation
AnyTextVerdict = TextVerdict | Degradation
RetrievalMode = Literal["contrastive", "nearest", "off"]

LABELS: tuple[Label, Label] = ("mounting", "normal")
TASKS: tuple[Task, ...] = ("mounting", "quality")
DEGRADATION_WORDS: dict[Degradation, str] = {
    "clean": "Clean",
    "blur": "Blur",
    "noise": "Noise",
    "low_resolution": "Low resolution",
    "dark_or_covered": "Dark or covered",
}
"""The classes of the quality task as the models write them."""
SEVERITIES = (1, 2, 3, 4)


def digest_of(value: Any) -> str:
    """SHA-256 of the canonical JSON of ``value`` (dataclass, mapping or JSON scalar); keys sorted."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Window:
    """The span of a clip that is looked at: ``start_s <= t <= end_s``, seconds from the first frame."""

    start_s: float
    end_s: float

    @property
    def length_s(self) -> float:
        return self.end_s - self.start_s


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which frames are taken: ``frames`` of them, evenly spaced in time from the window's first to its last
    presented frame (S0: 16 uniform frames); ``window_s`` is the longest span looked at in one piece;
    ``max_frame_pixels`` caps the decoded picture (area-averaged down beyond it, aspect kept)."""

    frames: int = 16
    window_s: float = 60.0
    max_frame_pixels: int = 1920 * 1088


@dataclass(frozen=True, slots=True)
class Clip:
    """A probed and validated clip. ``width`` and ``height`` are as displayed (rotation and pixel aspect applied)."""

    path: str
    sha256: str
    size_bytes: int
    duration_s: float
    fps: Fraction
    width: int
    height: int
    codec: str
    container: str
    window: Window
    warnings: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Identity of what was looked at: content and window. Never the name, so renamed copies share work."""
        return f"{self.sha256}:{self.window.start_s:.3f}-{self.window.end_s:.3f}"


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """Sampled pictures. ``rgb``: (T, H, W, 3) uint8 RGB; ``pts_s``: (T,) float64, ascending, seconds from the
    first presented frame of the *file* (not of the window). ``between``, where asked for: (T - 1, h, w, 3) uint8, the
    pictures on display halfway in time between neighbouring ones, smaller, for an embedder that looks at spans."""

    rgb: NDArray[np.uint8]
    pts_s: NDArray[np.float64]
    between: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        if self.rgb.ndim != 4 or self.rgb.shape[3] != 3 or self.rgb.dtype != np.uint8:
            raise ValueError(f"frames must be (T, H, W, 3) uint8, not {self.rgb.shape} {self.rgb.dtype}")
        if self.pts_s.shape != (self.rgb.shape[0],):
            raise ValueError(f"{self.rgb.shape[0]} frames with {self.pts_s.shape} time stamps")

    def __len__(self) -> int:
        return int(self.rgb.shape[0])


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing the picture suffers from. ``kind``: blur, noise, low_resolution, dark, over_exposed, frozen,
    covered; ``value`` is the measure, ``limit`` where it becomes a finding; ``text`` a plain sentence."""

    kind: str
    value: float
    limit: float
    text: str


@dataclass(frozen=True, slots=True)
class Grade:
    """What spoils a picture most, and how strongly: ``severity`` 1…4, 0 for ``clean``."""

    kind: Degradation
    severity: int

    @property
    def words(self) -> str:
        """What stands after ``Status:``: ``Clean`` or ``Blur, severity 3``."""
        name = DEGRADATION_WORDS[self.kind]
        return f"{name}, severity {self.severity}" if self.severity else name


GRADES: tuple[Grade, ...] = (
    Grade("clean", 0),
    *(Grade(kind, severity) for kind in DEGRADATION_WORDS if kind != "clean" for severity in SEVERITIES),
)
"""Everything that the quality task can answer, in the order of its scores."""


@dataclass(frozen=True, slots=True)
class Quality:
    """Measured picture quality; ``score`` 1 is clean, 0 useless. ``blocking`` findings make a verdict `unclear`.
    ``grade``: the measures' own answer to the quality task (over-exposed and frozen pictures are no class of it)."""

    score: float
    findings: tuple[Finding, ...] = ()
    blocking: bool = False
    grade: Grade = GRADES[0]


@dataclass(frozen=True, slots=True)
class Novelty:
    """How far the pictures lie from what the models were trained on; above ``limit`` they are out of it.
    ``limit`` None: this profile has no measure (real checkpoints)."""

    score: float
    limit: float | None

    @property
    def outside(self) -> bool:
        return self.limit is not None and self.score > self.limit


@dataclass(frozen=True, slots=True)
class Hit:
    """A reference clip found by the library; ``similarity`` is the cosine, -1…1."""

    id: str
    label: Label
    similarity: float
    description: str
    origin: Literal["shipped", "user"]
    clip_path: str | None = None
    thumbnail_path: str | None = None


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """What retrieval found. ``shown`` are the cases that the model reads (most similar first); ``voters`` the k
    nearest of any label, whose similarity-weighted share of mounting is ``vote`` (None when retrieval is off)."""

    mode: RetrievalMode
    shown: tuple[Hit, ...] = ()
    voters: tuple[Hit, ...] = ()
    vote: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What one variant said. ``scores``: summed log-probability of each complete continuation after ``Status:``
    (mounting, normal; or one for each of ``GRADES``), None where the engine cannot score. ``reasoning`` is the text
    between think tags, ``answer`` what follows; ``error`` a sentence when the variant failed (all else is
    then empty)."""

    name: VariantName
    adapter: str | None
    reasoning: str = ""
    answer: str = ""
    finish_reason: str = ""
    scores: tuple[float, ...] | None = None
    seconds: float = 0.0
    tokens: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class VariantResult:
    """One variant's line of the report; ``p_mounting`` is this model alone, from scoring (uncalibrated), ``p_decided``
    the calibrated one that its verdict rests on, the neighbours' vote included. Of the quality task: ``severity``
    (0 clean … 4) and ``class_scores``, the probability of each degradation."""

    name: VariantName
    adapter: str | None
    p_mounting: float | None
    verdict: AnyVerdict
    text_verdict: AnyTextVerdict
    reasoning: str
    answer: str
    finish_reason: str
    seconds: float
    error: str | None
    severity: int | None = None
    class_scores: dict[str, float] | None = None
    p_decided: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """Which rule on which variant gave the verdict."""

    rule: str
    variant: VariantName | None


@dataclass(frozen=True, slots=True)
class Report:
    """The result of one analysis: what browser, command line and exports all render. Of the quality task ``verdict``
    is the degradation, ``severity`` and ``class_scores`` are those of the deciding variant, ``p_mounting`` is None."""

    clip: Clip
    profile: str
    model: str
    retrieval: RetrievalMode
    verdict: AnyVerdict
    p_mounting: float | None
    decided_by: Decision
    reason: str
    variants: tuple[VariantResult, ...]
    neighbours: tuple[Hit, ...]
    quality: Quality
    timings: dict[str, float]
    warnings: tuple[str, ...]
    frame_times_s: tuple[float, ...] = ()
    preprocessing: str = ""
    created_at: str = ""
    task: Task = "mounting"
    severity: int | None = None
    class_scores: dict[str, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """The stable object of the command line (``--json``), with further keys behind it."""
        clip = self.clip
        return {
            "clip": {
                "path": clip.path,
                "sha256": clip.sha256,
                "duration_s": round(clip.duration_s, 3),
                "fps": round(float(clip.fps), 3),
                "width": clip.width,
                "height": clip.height,
                "window": [round(clip.window.start_s, 3), round(clip.window.end_s, 3)],
            },
            "profile": self.profile,
            "verdict": self.verdict,
            "p_mounting": self.p_mounting,
            "decided_by": dataclasses.asdict(self.decided_by),
            "variants": [dataclasses.asdict(variant) for variant in self.variants],
            "neighbours": [
                {"id": h.id, "label": h.label, "similarity": h.similarity, "description": h.description}
                for h in self.neighbours
            ],
            "quality": {
                "score": self.quality.score,
                "findings": [f.text for f in self.quality.findings],
                "verdict": self.quality.grade.kind,
                "severity": self.quality.grade.severity,
            },
            "timings": self.timings,
            "warnings": list(self.warnings),
            "reason": self.reason,
            "model": self.model,
            "retrieval": self.retrieval,
            "frame_times_s": list(self.frame_times_s),
            "preprocessing": self.preprocessing,
            "created_at": self.created_at,
            "task": self.task,
            "severity": self.severity,
            "class_scores": self.class_scores,
        }


@dataclass(frozen=True, slots=True)
class Calibration:
    """The verdict rule's numbers for one retrieval mode and variant: logit(p) = ``bias`` + ``weight_vlm`` ·
    logit(p_vlm) + ``weight_vote`` · (vote − ½) · 2; *unclear* strictly between ``normal_below`` and
    ``mounting_above``. The defaults stand for "not calibrated": the model's own probability, unclear from ¼ to ¾."""

    bias: float = 0.0
    weight_vlm: float = 1.0
    weight_vote: float = 0.0
    normal_below: float = 0.25
    mounting_above: float = 0.75


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where an embedding comes from; vectors of different provenance are never compared."""

    model: str
    weights: str
    pooling: str
    frames: int
    preprocessing: str

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asks for: one clip and how to look at it. ``window`` None: chosen by motion if too long. The task
    ``quality`` takes pictures (JPEG, PNG, WebP) too, and compares with no references."""

    path: str
    variants: tuple[VariantName, ...] = ("base", "tuned")
    retrieval: RetrievalMode = "contrastive"
    adapter: str | None = None
    window: Window | None = None
    task: Task = "mounting"
