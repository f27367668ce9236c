"""The card's figures, measured on held-out seeds: ``python -m training.demo.figures``.

Reads the shipped bundle and the rendered sets of the work folder (renders what is missing), writes
``figures.json`` beside the bundle's card. Scores are those of serving, but that the tower multiplies in bfloat16 where
the CPU does (``cache``): unquantised, uncalibrated softmax at one half unless *rule* is said: then the calibrated rule
with the neighbours' vote, *unclear* counted apart. ``--sets more`` tells the kinds of mountings and look-alikes apart
on three times as many clips of new viewpoints; the build leaves it out, for time.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from agent.prompts import mounting_question
from agent.verdict import combine, reason_of, text_verdict
from services.calibration import read_calibration
from services.novelty import NoveltyModel
from services.schema import Calibration, RetrievalMode
from services.settings import profile
from training.demo import shortcut_check, tower
from training.demo.annotate import LIGHTS, NUMBERS
from training.demo.bundle import BUNDLE, Bundle, Seen
from training.demo.cache import features, features_of
from training.demo.calibrate import F64
from training.demo.figures_file import (
    BUILT,
    MORE,
    ROWS,
    SHORTCUT,
    TITLES,
    TOWER,
    Figures,
    keep,
    measured_with,
    unchanged,
)
from training.demo.general import QUESTIONS, asked
from training.demo.harvest import WORK
from training.demo.novelty_fit import recoded
from training.demo.probe import probe
from training.demo.scoring import MODES, VARIANTS, mounting_scores, probabilities
from training.demo.shares import area_under_curve, balanced, share
from training.demo.video_mae import span_vectors
from training.demo.writing import written

SHORT = ("brief", "failed", "hidden")


def mounting(figures: Figures, bundle: Bundle, name: str, seen: Seen, title: str) -> None:
    """Both variants, all modes, on one set."""
    truth = seen.mounting
    votes = bundle.votes(name)
    rules = read_calibration(bundle.folder / "calibration.json")
    for variant in VARIANTS:
        scores = bundle.scores(variant, name)
        for mode in MODES:
            p = probabilities(scores[mode])
            row = f"{variant}, {mode}"
            figures.add(title, f"{row}: balanced accuracy", balanced(p >= 0.5, truth))
            figures.add(title, f"{row}: AUC", f"{area_under_curve(p, truth):.3f}")
            rule = rules.rule(mode, variant) or Calibration()
            fused = np.array(
                [combine(float(a), None if mode == "off" else float(v), rule) for a, v in zip(p, votes, strict=True)]
            )
            _rule(figures, title, row, fused, truth, rule.normal_below, rule.mounting_above)
            if variant == "tuned" and mode in ("off", "contrastive"):
                _kinds(figures, f"{title}: {row}", p >= 0.5, seen)
            if variant == "base" and mode == "contrastive":
                _gain(figures, bundle, name, title, truth)


def by_kind(figures: Figures, bundle: Bundle, name: str, seen: Seen, title: str) -> None:
    """The tuned model by light and kind, on a set with enough clips of each kind to tell."""
    scores = bundle.scores("tuned", name)
    for mode in ("off", "contrastive"):
        said = probabilities(scores[mode]) >= 0.5
        figures.add(f"{title}: tuned, {mode}", "balanced accuracy", balanced(said, seen.mounting))
        _kinds(figures, f"{title}: tuned, {mode}", said, seen)


def _rule(figures: Figures, title: str, name: str, p: F64, truth: NDArray[np.bool_], low: float, high: float) -> None:
    answered = (p <= low) | (p >= high)
    right = (p >= 0.5) == truth
    figures.add(title, f"{name}, rule: answered", share(answered))
    figures.add(title, f"{name}, rule: right among answered", share(right[answered]))


def _kinds(figures: Figures, title: str, said: NDArray[np.bool_], seen: Seen) -> None:
    """By light and by kind: recall of the mounting kinds, specificity of the look-alikes."""
    kinds = np.array([note["facts"]["kind"] for note in seen.stored.notes])
    night = np.array([note["facts"]["light"] == "night" for note in seen.stored.notes])
    right = said == seen.mounting
    figures.add(title, "recall", share(right[seen.mounting]))
    figures.add(title, "specificity", share(right[~seen.mounting]))
    figures.add(title, "night, balanced accuracy", balanced(said[night], seen.mounting[night]))
    figures.add(title, "day, balanced accuracy", balanced(said[~night], seen.mounting[~night]))
    figures.add(title, "recall on brief, failed and partly hidden", share(right[np.isin(kinds, SHORT)]))
    for kind in sorted(set(kinds)):
        name = "recall" if seen.mounting[kinds == kind][0] else "specificity"
        figures.add(title, f"{name}, {kind.replace('_', ' ')}", share(right[kinds == kind]))


def _gain(figures: Figures, bundle: Bundle, name: str, title: str, truth: NDArray[np.bool_]) -> None:
    """What contrastive cases give the base, paired by clip, with a normal interval of the difference; at one half, and
    at the median of its scores on the calibration clips, half of which are mounting: a model that was never asked the
    question leans to one of its words whatever it sees, and that says nothing about what it read."""
    scores, known = bundle.scores("base", name), bundle.scores("base", "calibration")
    modes: tuple[RetrievalMode, RetrievalMode] = ("off", "contrastive")
    for at, limits in (
        ("one half", [0.5, 0.5]),
        ("its median", [float(np.median(probabilities(known[mode]))) for mode in modes]),
    ):
        said = [probabilities(scores[mode]) >= limit for mode, limit in zip(modes, limits, strict=True)]
        if at != "one half":
            for mode, own in zip(modes, said, strict=True):
                figures.add(title, f"base, {mode}, at {at}: balanced accuracy", balanced(own, truth))
        difference = (said[1] == truth).astype(float) - (said[0] == truth)
        half = 1.96 * difference.std(ddof=1) / np.sqrt(len(difference))
        figures.add(title, f"base, gain from contrastive cases, at {at}", f"{difference.mean():+.3f} ± {half:.3f}")


def general(figures: Figures, bundle: Bundle, seen: Seen, title: str) -> None:
    """The base's answers to general questions, with the share of the commonest answer."""
    for name, (answered, true) in asked(bundle.model("base"), seen.stored.notes, seen.features).items():
        majority = np.bincount(true).max() / len(true)
        figures.add(
            title, name, f"{share(answered == true)}, commonest answer {majority:.3f} of {len(QUESTIONS[name][1])}"
        )
        if name == "count":
            figures.add(title, "count within one", share(abs(answered - true) <= 1))


def leak(figures: Figures, bundle: Bundle, seen: Seen) -> None:
    """Whether the base's captions give the label away in other words."""
    notes = seen.stored.notes
    texts = written(bundle.model("base"), notes, seen.features, ["Describe this video."] * len(notes))
    words = CountVectorizer(ngram_range=(1, 2), token_pattern=r"[a-z]+").fit_transform(t.lower() for t in texts)
    said = cross_val_predict(LogisticRegression(C=0.3, max_iter=2000), words, seen.mounting, cv=5).astype(bool)
    figures.add(
        "Base, captions", "label from a bag of words and pairs, balanced accuracy", balanced(said, seen.mounting)
    )
    for number, text in enumerate(texts[:3], 1):
        figures.add("Base, captions", f"example {number}", text)


def reasons(figures: Figures, bundle: Bundle, name: str, seen: Seen, title: str) -> None:
    """The tuned answers' text against what happened, without cases and with those that the default mode shows."""
    notes = seen.stored.notes
    shown = bundle.shown(name)
    for mode in ("off", "contrastive"):
        table = f"Tuned, written answers, {title}, {mode}"
        questions = [mounting_question(mode, hits) for hits in shown[mode]]
        texts = written(bundle.model("tuned"), notes, seen.features, questions, 100)
        found = [_reason(text, note) for text, note in zip(texts, notes, strict=True)]
        for what in ("verdict", "behaviour", "light", "animals", "animals within one", "all three", "times within 1 s"):
            figures.add(table, what, share([row[what] for row in found if what in row]))
        for number, text in enumerate(texts[:3], 1):
            figures.add(table, f"example {number}", reason_of(text))


_DEEDS = {
    "mount": ("mounts", "mount "),
    "chin_resting": ("chin",),
    "head_pushing": ("pushes",),
    "sniffing": ("sniffs",),
    "following": ("follows",),
    "lying_down": ("lies down",),
    "getting_up": ("gets up",),
    "walking_past": ("walks past",),
    "feeding": ("feeds",),
    "front_raised": ("step",),
    "standing_close": ("stands close",),
    "passing_behind": ("passes",),
}


def _reason(text: str, note: dict[str, Any]) -> dict[str, bool]:
    facts, reason = note["facts"], reason_of(text).lower()
    truth = facts["label"] == "mounting"
    deed = "mount" if truth else facts["kind"]
    count = note["annotation"]["metadata"]["animals"]
    numbers = re.search(rf"\b({'|'.join(NUMBERS)}) cow", reason)
    row = {
        "verdict": text_verdict(text) == facts["label"],
        "behaviour": any(word in reason for word in _DEEDS[deed]),
        "light": LIGHTS[facts["light"]] in reason,
        "animals": f"{NUMBERS[count]} cow" in reason,
        "animals within one": numbers is not None and abs(NUMBERS.index(numbers[1]) - count) <= 1,
    }
    row["all three"] = row["behaviour"] and row["light"] and row["animals"]
    times = re.search(r"from (\d+\.\d) s to (\d+\.\d) s", reason)
    if times or truth:  # of a mounting the times have to be told
        row["times within 1 s"] = bool(times) and all(
            abs(float(said) - true) <= 1.0
            for said, true in zip(times.groups() if times else (), facts["act"], strict=False)
        )
    return row


def retrieval(figures: Figures, bundle: Bundle, seen: Seen, title: str) -> None:
    """Labels and light of the nearest references."""
    nearest = np.argsort(-(seen.vectors @ bundle.neighbours.vectors.T), 1)[:, :5]
    night = np.array([note["facts"]["light"] == "night" for note in bundle.neighbours.notes])
    own = np.array([note["facts"]["light"] == "night" for note in seen.stored.notes])
    votes = bundle.neighbours.labels[nearest].mean(1) > 0.5
    figures.add("Embedder", f"{title}: label by 5 nearest", share(votes == seen.mounting))
    figures.add(
        "Embedder", f"{title}: label of the nearest", share(bundle.neighbours.labels[nearest[:, 0]] == seen.mounting)
    )
    same = (night[nearest] == own[:, None]).mean()
    figures.add("Embedder", f"{title}: neighbours of the same light", f"{same:.3f} (by chance about 0.51)")


def unknown(figures: Figures, bundle: Bundle, name: str, seen: Seen, row: str) -> None:
    """What the whole rule does (tuned, contrastive, outside the limit is *unclear*)."""
    scores = bundle.scores("tuned", name)["contrastive"]
    pictures = [tower.pictures(np.asarray(patches)) for patches in seen.stored.patches[: len(seen.stored)]]
    _whole_rule(figures, bundle, row, probabilities(scores), seen.vectors, pictures, seen.mounting)


def recoded_control(figures: Figures, bundle: Bundle, seen: Seen, count: int = 400) -> None:
    """The set's first ``count`` clips at other times, sizes, qualities and codecs."""
    notes, dense = [], []
    for note in seen.stored.notes[:count]:
        frames, times = recoded(note["seed"])
        notes.append({**note, "times_s": times[::2].tolist()})
        dense.append(frames)
    pictures = [clip[::2] for clip in dense]
    patches = np.stack([tower.patches(clip) for clip in pictures])
    vectors = span_vectors(bundle.embedder, dense, len(dense))
    tuned = bundle.model("tuned")
    seen_again = np.concatenate([features_of(tuned.model, patches[i : i + 16]) for i in range(0, len(patches), 16)])
    shown: dict[RetrievalMode, Any] = {"contrastive": bundle.neighbours.shown(vectors, "contrastive")}
    p = probabilities(mounting_scores(tuned, notes, seen_again, shown)["contrastive"])
    _whole_rule(figures, bundle, "re-encoded renders", p, vectors, pictures, seen.mounting[:count])


def _whole_rule(
    figures: Figures,
    bundle: Bundle,
    row: str,
    p: F64,
    vectors: NDArray[np.float32],
    pictures: list[NDArray[np.uint8]],
    truth: NDArray[np.bool_],
) -> None:
    rule = read_calibration(bundle.folder / "calibration.json").rule("contrastive", "tuned") or Calibration()
    votes = bundle.neighbours.votes(vectors, profile("demo").neighbours)
    fused = np.array([combine(float(a), float(v), rule) for a, v in zip(p, votes, strict=True)])
    model = NoveltyModel.load(bundle.folder / "embedder")
    inside = np.array(
        [float(model.distances(clip, v).max()) <= model.limit for clip, v in zip(pictures, vectors, strict=True)]
    )
    answered = inside & ((fused <= rule.normal_below) | (fused >= rule.mounting_above))
    right = (fused >= 0.5) == truth
    title = "Whole rule (tuned, contrastive, unclear where unlike the training clips)"
    figures.add(title, f"{row}: inside the limit", share(inside))
    figures.add(title, f"{row}: answered", share(answered))
    figures.add(title, f"{row}: right among answered", share(right[answered]))
    figures.add(title, f"{row}: right or unclear", share(right | ~answered))


def shortcut(figures: Figures, bundle: Bundle) -> None:
    """Whether anything but the behaviour tells the label."""
    x, y = shortcut_check.features(bundle.count(2000), 500_000, None, processes=1)
    told = balanced(shortcut_check.guesses(x, y), y > 0.5)
    figures.add(SHORTCUT, "from light, viewpoint, herd, length, brightness, colour", told)


def measured(bundle: Bundle, sets: Sequence[str], there: Mapping[str, ROWS]) -> Figures:
    """All tables; ``sets`` among test, new, second, more; with second what is of none of them. Of what base or embedder
    decide alone, not what is ``there``."""
    figures = Figures()

    def wanted(table: str, row: str = "") -> bool:
        return not any(name.startswith(row) for name in there.get(table, ()))

    for name in sets:
        seen, title = bundle.seen(name), TITLES[name]
        if name == MORE:
            by_kind(figures, bundle, name, seen, f"Mounting, {title}")
            continue
        mounting(figures, bundle, name, seen, f"Mounting, {title}")
        if name != "second":
            reasons(figures, bundle, name, seen, title)
            if wanted(general_title := f"Base, general questions, {title}"):
                general(figures, bundle, seen, general_title)
            if wanted(TOWER, title):
                known = bundle.stored("calibration")
                for what, right in probe((known, features(bundle.base, known)), (seen.stored, seen.features)).items():
                    figures.add(TOWER, f"{title}: {what}", right)
        if wanted("Embedder", title):
            retrieval(figures, bundle, seen, title)
        unknown(figures, bundle, name, seen, title)
        if name == "test":
            recoded_control(figures, bundle, seen)
            if wanted("Base, captions"):
                leak(figures, bundle, seen)
        if name == "second" and wanted(SHORTCUT):
            shortcut(figures, bundle)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the card's figures on held-out seeds.")
    parser.add_argument("--bundle", type=Path, default=BUNDLE)
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--sets", nargs="+", default=BUILT, choices=list(TITLES))
    parser.add_argument("--scale", type=float, default=1.0, help="as the build's")
    parser.add_argument(
        "--changed",
        action="store_true",
        help="keep what the base or the embedder decides alone where they are as they were (and the renderer is)",
    )
    a = parser.parse_args()
    if a.scale < 1.0 and a.bundle == BUNDLE:
        parser.error("a rehearsal's figures would replace those of the shipped bundle; give --bundle and --work too")
    torch.set_num_threads(1)
    files = measured_with(a.bundle)
    figures = measured(Bundle(a.bundle, a.work, a.scale), a.sets, unchanged(a.bundle) if a.changed else {})
    if measured_with(a.bundle) != files:
        raise SystemExit("The bundle's files changed while they were measured; measure again.")
    keep(figures, a.bundle)
    for title, rows in figures.tables.items():
        print(f"\n{title}")
        for name, value in rows.items():
            print(f"  {name}: {value}")


if __name__ == "__main__":
    main()
