"""Annotations in the source's format: the question, the answer with a reason from what really happened, and facts.

Reasons come from a small regular grammar with few words; mounting and look-alikes share every sentence frame, so the
words differ only in what the animals did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from training.demo.geometry import criteria, visible
from training.demo.plan import ClipPlan

QUESTION = (
    "<video>\nBased on an analysis of the video focusing on the cows' behavior, was there any mounting behavior?\n"
    "Options:\n(A) YES\n(B) NO"
)
NUMBERS = ("no", "one", "two", "three", "four", "five", "six")
LIGHTS = {"day": "daylight", "night": "infrared night"}
_DOES = {
    "full": "mounts {other} {way}", "brief": "briefly mounts {other} {way}", "hidden": "mounts {other} {way}",
    "failed": "tries to mount {other} {way} and comes off", "standing_close": "stands close to {other}",
    "passing_behind": "passes behind {other}", "chin_resting": "rests its chin on {other} {way}",
    "head_pushing": "pushes {other} {way} with its head", "sniffing": "sniffs {other} {way}",
    "following": "follows {other}", "lying_down": "lies down next to {other}", "getting_up": "gets up next to {other}",
    "walking_past": "walks past {other}", "feeding": "feeds next to {other}",
    "front_raised": "stands with its front feet on a step next to {other}",
}  # fmt: skip
_WALKS = ("walking", "following", "walking past", "passing behind")
_WAYS = {"rear": "from behind", "side": "from the side", "head": "at the head"}


def _names(coats: Sequence[str]) -> tuple[str, str]:
    """How the acting animal and the other one are called."""
    first = coats[0]
    if len(coats) < 2:
        return f"the {first} cow", "the wall"
    second = coats[1]
    return (f"a {first} cow", f"another {second} cow") if first == second else (f"the {first} cow", f"the {second} cow")


def deed(kind: str, direction: str, coats: Sequence[str], hidden: bool) -> str:
    """Who does what to whom; ``coats`` of all animals, the acting one first, the other second."""
    actor, other = _names(coats)
    text = _DOES[kind].format(other=other, way=_WAYS[direction])
    if len(coats) < 2:
        text = text.replace(" next to the wall", "")
    if hidden:
        text += ", partly hidden"
    return f"{actor} {text}"


_OFF = "the ground and its chest is on the back of the other cow."
_ON = "the ground and its chest is not on the back of a cow."


def _feet(plan: ClipPlan) -> str:
    """The sentence about the decisive criteria."""
    second = bool(plan.seed // 7 % 2)
    if plan.mounting:
        return f"It lifts its front legs off {_OFF}" if second else f"Its front legs are off {_OFF}"
    if plan.kind == "front_raised":
        return "Its front legs are on the step and its chest is not on the back of a cow."
    if plan.kind in ("lying_down", "getting_up"):
        return "Its chest is close to the ground and not on the back of a cow."
    return f"It keeps its front legs on {_ON}" if second else f"Its front legs are on {_ON}"


def stretch(start_s: float, end_s: float) -> str:
    """Times to half a second: frames lie about that far apart, so nobody could read them more finely."""
    return f"from {round(2 * start_s) / 2:.1f} s to {round(2 * end_s) / 2:.1f} s"


def reason(plan: ClipPlan, count: int) -> str:
    """One to three sentences: number of animals, light, who did what from when to when, and the criteria."""
    rng = np.random.default_rng([plan.seed, 4])
    cows = f"{NUMBERS[count]} cow" + ("" if count == 1 else "s")
    light = LIGHTS[plan.light]
    span = stretch(plan.act.start_s, plan.act.end_s)
    done = deed(plan.kind, plan.direction, [animal.coat for animal in plan.animals], plan.hidden)
    are = "is" if count == 1 else "are"
    opening = (
        f"{cows.capitalize()} {are} visible in {light}.", f"The video shows {cows} in {light}.",
        f"In {light}, {cows} {are} visible.", f"There {are} {cows} in {light}.",
    )[int(rng.integers(4))]  # fmt: skip
    style = int(rng.integers(4))
    if style == 0:
        opening = opening[:-1] + ", and " + f"{span} {done}."
        return f"{opening} {_feet(plan)}"
    main = f"{span.capitalize()} {done}." if style < 3 else f"{done[0].upper()}{done[1:]} {span}."
    return f"{opening} {main}" if style == 1 else f"{opening} {main} {_feet(plan)}"


def annotation(plan: ClipPlan, video: str) -> dict[str, Any]:
    """One entry of the source's list, with ``metadata``; ``video`` is written as given."""
    entry = told(plan, video)
    entry["metadata"]["criteria"] = asdict(criteria(plan))
    return entry


def told(plan: ClipPlan, video: str) -> dict[str, Any]:
    """The annotation without the criteria, which take time and no stage reads."""
    seen = visible(plan)
    behaviours = [
        {"animal": n, "behaviour": s.behaviour, "start_s": s.start_s, "end_s": s.end_s}
        for n, animal in enumerate(plan.animals) for s in animal.track.spells
    ]  # fmt: skip
    animals = [
        {
            "animal": n, "coat": a.coat, "visible": seen[n],
            "lying": any(s.behaviour == "lying" for s in a.track.spells),
            "walking": any(s.behaviour in _WALKS for s in a.track.spells),
            "feeding": any(s.behaviour == "feeding" for s in a.track.spells),
        }
        for n, a in enumerate(plan.animals)
    ]  # fmt: skip
    answer = "YES" if plan.mounting else "NO"
    return {
        "video": video,
        "conversations": [
            {"from": "human", "value": QUESTION},
            {"from": "gpt", "value": f"Answer: {answer}\nReason: {reason(plan, sum(seen))}"},
        ],
        "metadata": {
            "label": plan.label, "kind": plan.kind, "direction": plan.direction, "timing": plan.timing,
            "act": {"start_s": plan.act.start_s, "end_s": plan.act.end_s}, "behaviours": behaviours,
            "light": plan.light, "viewpoint": plan.camera.name, "viewpoints": plan.viewpoints,
            "difficulty": plan.difficulty, "style": plan.style, "hidden": plan.hidden, "animals": sum(seen),
            "duration_s": plan.duration_s, "seed": plan.seed, "herd": animals,
        },
    }  # fmt: skip
