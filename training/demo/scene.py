"""The renderer's interface for training and evaluation: plan a clip, draw it, get its targets and its annotation.

    plan = plan_clip(12, mounting=True)
    frames = draw_frames(plan, [0.0, 1.0, 2.0], width=224, height=128)      # (3, 128, 224, 3) uint8 RGB
    targets = draw_targets(plan, [0.0, 1.0, 2.0])                           # float32, (3, 8, 14[, C])
    frames, targets = draw_both(plan, [0.0, 1.0, 2.0])                      # both for little more than one
    entry = annotation(plan, "./clip_000012.mp4")

A worker process should call ``cv2.setNumThreads(1)``.
"""

from __future__ import annotations

from training.demo.annotate import annotation
from training.demo.behaviour import MOUNTING_KINDS, NORMAL_KINDS
from training.demo.body import PARTS
from training.demo.degrade import KINDS as DEGRADATIONS
from training.demo.degrade import LEVELS as DEGRADATION_LEVELS
from training.demo.degrade import degrade
from training.demo.draw import draw_frames
from training.demo.plan import DIFFICULTIES, KINDS, Animal, Barn, ClipPlan, plan_clip
from training.demo.targets import POSES, draw_both, draw_targets

__all__ = [
    "DEGRADATIONS", "DEGRADATION_LEVELS", "DIFFICULTIES", "KINDS", "MOUNTING_KINDS", "NORMAL_KINDS", "PARTS", "POSES",
    "Animal", "Barn", "ClipPlan", "annotation", "degrade", "draw_both", "draw_frames", "draw_targets", "plan_clip",
]  # fmt: skip
