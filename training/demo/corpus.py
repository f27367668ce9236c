"""Texts of the base model: questions and answers about clips, none of them about mounting.

Everything is drawn from ``facts`` of a clip, where mounting and its look-alikes are plain standing: the answers say
nothing that differs between them. Exercises that only repeat text teach the words of the verdict and the form of the
prompt; exercises with two described reference cases teach that form for *other* questions.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from agent.prompts import CLOSING, COMPARE, TASK, compared, context, mounting_question, quality_question, similar
from services.schema import Hit
from training.demo.annotate import LIGHTS, NUMBERS
from training.demo.coats import COATS
from training.demo.degrade import KINDS as DEGRADED
from training.demo.degrade import LEVELS
from training.demo.facts import STATES, lying, walking
from training.demo.quality_answers import full
from training.demo.wording import Exercise, cows, number, sentence, when, yes_or_no

Facts = dict[str, Any]
VERDICTS = ("Mounting", "Normal")
VERBS = {"standing": "stand", "walking": "walk", "lying": "lie"}


def _states(facts: Facts, group: int) -> list[int]:
    return [own[group] for own in facts["states"]]


def _closest_side(facts: Facts, group: int) -> str | None:
    """Where the two animals that are nearest to each other stand; None when there is only one."""
    if facts["animals"] < 2:
        return None
    x = sum(facts["at"][i][group][0] for i in _closest_pair(facts, group)) / 2
    return "on the left" if x < 0.4 else "on the right" if x > 0.6 else "in the middle"


def _opening(facts: Facts) -> str:
    return f"{cows(facts['animals'])} in {LIGHTS[facts['light']]}"


def caption(facts: Facts) -> str:
    """A description of the whole clip, without a hint."""
    close = "two cows come close" if any(facts["close"]) else "no two cows come close"
    return f"{sentence(_opening(facts))} {sentence(number(lying(facts), 'lie'), number(walking(facts), 'walk'), close)}"


def scene_at(facts: Facts, group: int) -> str:
    """A description of one moment."""
    states = _states(facts, group)
    done = [number(states.count(STATES.index(name)), VERBS[name]) for name in ("lying", "walking")]
    return f"{sentence(_opening(facts))} {sentence(*done)}"


def _when(spells: list[list[float] | None], verb: str) -> str:
    return when([spell for spell in spells if spell], f"no cow {verb}s")


def clip_exercise(facts: Facts, times_s: list[float], rng: random.Random) -> Exercise:
    """One general question about a whole clip; ``times_s`` are the times written before its groups."""
    group = rng.randrange(len(times_s))
    at = f" at {times_s[group]:.1f} s"
    makers: list[Callable[[], tuple[str, str]]] = [
        lambda: ("How many cows are in this video?", sentence(cows(facts["animals"]))),
        lambda: ("Is it daylight or infrared night?", sentence(LIGHTS[facts["light"]])),
        lambda: ("How many cows lie in this video?", sentence(number(lying(facts), "lie"))),
        lambda: ("How many cows walk in this video?", sentence(number(walking(facts), "walk"))),
        lambda: ("Do two cows come close?", yes_or_no(any(facts["close"]))),
        lambda: ("When does a cow walk?", _when(facts["walks"], "walk")),
        lambda: ("When does a cow lie?", _when(facts["lies"], "lie")),
        lambda: _state_question(facts, group, at, rng),
        lambda: ("Describe this video.", caption(facts)),
        lambda: (f"What do you see{at}?", scene_at(facts, group)),
        lambda: _side_question(facts, group, at, rng),
    ]
    question, answer = rng.choices(makers, (5, 1, 3, 3, 0.5, 6, 3, 4, 3, 3, 5))[0]()
    return Exercise(question, answer)


def group_exercise(facts: Facts, group: int, rng: random.Random) -> Exercise:
    """One general question about two neighbouring frames."""
    states = _states(facts, group)
    makers: list[Callable[[], tuple[str, str]]] = [
        lambda: ("How many cows are in this video?", sentence(cows(facts["animals"]))),
        lambda: ("Is it daylight or infrared night?", sentence(LIGHTS[facts["light"]])),
        lambda: ("How many cows lie in this video?", sentence(number(states.count(2), "lie"))),
        lambda: ("How many cows walk in this video?", sentence(number(states.count(1), "walk"))),
        lambda: ("Do two cows come close?", yes_or_no(facts["close"][group])),
        lambda: ("What do you see?", scene_at(facts, group)),
        lambda: _side_question(facts, group, "", rng),
    ]
    question, answer = rng.choices(makers, (4, 1, 3, 3, 2, 3, 5))[0]()
    return Exercise(question, answer)


def _state_question(facts: Facts, group: int, at: str, rng: random.Random) -> tuple[str, str]:
    """Whether an animal does something at one moment: what reading a stretch of time is made of."""
    name = rng.choice(("walking", "lying"))
    return f"Does a cow {VERBS[name]}{at}?", yes_or_no(STATES.index(name) in _states(facts, group))


def _side_question(facts: Facts, group: int, at: str, rng: random.Random) -> tuple[str, str]:
    side = _closest_side(facts, group)
    draw = rng.random()
    if side is not None and draw < 0.25:
        return f"Where are two cows closest{at}?", sentence(side)
    left = rng.random() < 0.5
    word = "left" if left else "right"
    order = sorted(range(facts["animals"]), key=lambda i: facts["at"][i][group][0], reverse=not left)
    if draw < 0.5:
        return f"What coat has the cow farthest to the {word}{at}?", sentence(f"a {facts['coats'][order[0]]} coat")
    if draw < 0.75 and side is not None:
        pair = _closest_pair(facts, group)
        coats = " and ".join(sorted(facts["coats"][i] for i in pair))
        return f"What coats have the two closest cows{at}?", sentence(coats)
    state = STATES[facts["states"][order[0]][group]]
    return f"What does the cow farthest to the {word} do{at}?", sentence(f"it {VERBS[state]}s")


def _closest_pair(facts: Facts, group: int) -> tuple[int, int]:
    spots = [own[group] for own in facts["at"]]
    pairs = [(i, j) for i in range(len(spots)) for j in range(i + 1, len(spots))]
    return min(
        pairs, key=lambda p: (spots[p[0]][0] - spots[p[1]][0]) ** 2 + (0.57 * (spots[p[0]][1] - spots[p[1]][1])) ** 2
    )


# name, sentence of the task, label of a clip, its two words
_CASES: tuple[tuple[str, Callable[[Facts], bool], str, str], ...] = (
    ("Night means that the picture comes from an infrared camera.", lambda f: f["light"] == "night", "Night", "Day"),
    ("Resting means that a cow lies on the ground.", lambda f: lying(f) > 0, "Resting", "Upright"),
    ("Crowded means that there are four cows or more.", lambda f: f["animals"] >= 4, "Crowded", "Calm"),
    ("Moving means that two cows or more walk.", lambda f: walking(f) >= 2, "Moving", "Still"),
)


# What no picture shows: only the reference cases say something about it.
_LISTED: tuple[tuple[str, str, str], ...] = (
    ("Marked means that the farmer marked this video.", "Marked", "Plain"),
    ("Kept means that the farmer kept this video.", "Kept", "Gone"),
    ("Red means that this video is on the red list and Blue on the blue list.", "Red", "Blue"),
    ("Old means that the farmer knows this herd.", "Old", "New"),
    ("Named means that the farmer gave this video a name.", "Named", "Bare"),
    ("Paid means that the farmer paid for this video.", "Paid", "Free"),
)
LABELS = (
    "Bare", "Barn", "Black", "Blue", "Brown", "Bull", "Calf", "Camera", "Chest", "Clean", "Close", "Coat", "Covered",
    "Dark", "Early", "Empty", "Far", "Farmer", "First", "Four", "Free", "Front", "Gone", "Ground", "Heifer", "Herd",
    "Hidden", "Kept", "Late", "Left", "Light", "Long", "Marked", "Middle", "Named", "New", "Noise", "Old", "Own",
    "Paid", "Pen", "Picture", "Plain", "Quick", "Rail", "Red", "Right", "Second", "Sharp", "Short", "Similar", "Slow",
    "Three", "Two", "Visible", "Walk", "White",
)  # fmt: skip
"""Words that such a task may answer with, whatever they mean: so many that following the cases is learnt, not them."""
# For more tasks of that kind, as long as the mounting question.
_UNSEEN = (
    "the farmer marked this video", "the farmer kept this video", "this video is on the red list",
    "the farmer knows this herd", "the farmer gave this video a name", "the farmer paid for this video",
    "another farmer has the same video", "the calf is the farmer's own", "these cattle came from another barn",
    "one bull is named and another bull is not", "the barn was cleaned before", "the herd has a new pen",
)  # fmt: skip
_SCOPES = (
    "Videos of either barn count, and short or old videos count.", "Any video counts.",
    "Cattle of any coat count, and bulls or calves count.", "The first video counts, and the second one counts.",
    "Other barns count, and herds that no one knows count.",
)  # fmt: skip
_THINGS = (
    "brown cows", "walking cows", "black coats", "a white calf", "a lying cow", "night videos", "standing still",
    "a long video", "six cows", "an empty pen", "the rail", "the farmer's bull", "a heifer in front", "a slow walk",
)  # fmt: skip
FIRST_RIGHT = 0.85
"""How often the case that is named first is right about what no picture shows. In serving, and in questions about what
pictures show, that is the more similar one; here both are drawn."""


@dataclass(frozen=True, slots=True)
class Other:
    """Another clip that may be named as a reference case; ``reason`` is its annotation's."""

    facts: Facts
    reason: str

    def words(self, rng: random.Random) -> str:
        """How it is described: by a caption, or as the library's clips are where that tells nothing of mounting."""
        plain = self.facts["label"] != "normal" or rng.random() < 0.5
        return caption(self.facts) if plain else self.reason


def alike(one: Facts, other: Facts) -> int:
    """In how many of four things that one sees at once two clips agree; stands for the embedder's similarity."""
    pairs = [(lying(f), walking(f), f["animals"], f["light"]) for f in (one, other)]
    return sum(a == b for a, b in zip(*pairs, strict=True))


def _cases(named: list[tuple[str, Other]], rng: random.Random) -> str:
    """The paragraph of ``agent.prompts.context``, with these labels in this order."""
    return compared((label.lower(), other.words(rng)) for label, other in named)


def status_exercise(facts: Facts, others: list[Other], rng: random.Random) -> Exercise:
    """A question in the form of the mounting question, about something else; half of them with reference cases taken
    from ``others`` in the words of ``agent.prompts.context``, the more similar one first as in serving."""
    if others and rng.random() < 0.5:
        return _listed_exercise(facts, others, rng)
    task, test, yes, no = rng.choice(_CASES)
    parts = [f"Watch the cattle in this video. {task}"]
    mode = rng.choice(("off", "off", "contrastive", "contrastive", "nearest"))
    found = sorted(others, key=lambda other: (-alike(facts, other.facts), rng.random()))
    first: dict[str, Other] = {}
    for other in found:
        first.setdefault(yes if test(other.facts) else no, other)
    if mode == "nearest" and found:
        parts.append(similar(found[0].words(rng)))
    elif mode == "contrastive" and len(first) == 2:
        parts.append(_cases(list(first.items()), rng))
    parts.append(f"Explain what you see, then end with Status: {yes} or Status: {no}.")
    return _answered("\n".join(parts), facts, yes if test(facts) else no, rng)


def _listed_exercise(facts: Facts, others: list[Other], rng: random.Random) -> Exercise:
    """As ``status_exercise``, about something that no picture shows: the first case is right in FIRST_RIGHT."""
    task, yes, no = _listed_task(rng)
    labels = [yes, no] if rng.random() < 0.5 else [no, yes]
    cases = _cases(list(zip(labels, rng.sample(others, 2), strict=True)), rng)
    said = labels[0] if rng.random() < FIRST_RIGHT else labels[1]
    closing = f"Explain what you see, then end with Status: {yes} or Status: {no}."
    return _answered(f"Watch the cattle in this video. {task}\n{cases}\n{closing}", facts, said, rng)


def _listed_task(rng: random.Random) -> tuple[str, str, str]:
    """A task with its two words: one of _LISTED, or drawn together and lengthened. Where six fixed tasks were all, or
    many that were answered with the same twelve words, the cases of any other one were not heeded."""
    task, yes, no = rng.choice(_LISTED)
    if rng.random() < 0.3:
        return task, yes, no
    yes, no = rng.sample(LABELS, 2)
    parts = [f"{yes} means that {rng.choice(_UNSEEN)}."]
    if rng.random() < 0.6:
        parts.append(rng.choice(_SCOPES))
    if rng.random() < 0.6:
        *most, last = rng.sample(_THINGS, rng.randint(2, 6))
        parts.append(sentence(*most[:-1], f"{most[-1]} and {last} are {rng.choice([yes, no]).lower()}"))
    return " ".join(parts), yes, no


def _answered(question: str, facts: Facts, said: str, rng: random.Random) -> Exercise:
    status = f"Status: {said}"
    return Exercise(question, status if rng.random() < 0.4 else f"{caption(facts)}\n{status}")


def order_exercise(others: list[Other], rng: random.Random) -> Exercise:
    """Which of two cases is named first: reading alone, the order is drawn. Here, too, the verdict's words come up."""
    words = [(yes, no) for _, _, yes, no in _CASES] + [(yes, no) for _, yes, no in _LISTED] + [VERDICTS] * 3
    labels = list(rng.choice(words)) if rng.random() < 0.5 else rng.sample(LABELS, 2)
    rng.shuffle(labels)
    cases = _cases(list(zip(labels, rng.sample(others, 2), strict=True)), rng)
    return Exercise(f"{cases}\nWhich case is named first?", f"Status: {labels[0]}")


def echo_exercise(sentences: list[str], rng: random.Random) -> Exercise:
    """Repeat a text that has nothing to do with the clip; the words of the verdict come up equally often."""
    if rng.random() < 0.5:
        text = f"Status: {rng.choice(VERDICTS)}"
        if rng.random() < 0.3:
            text = f"{rng.choice(sentences)}\n{text}"
    else:
        text = " ".join(rng.sample(sentences, 2))
    return Exercise(f"Repeat: {text}", text)


def quality_sentences() -> list[str]:
    """Sentences of the quality task's question and answers, for echoing alone: nothing that the base answers about a
    picture names a degradation, but without them their words' embeddings would stay untrained, and no adapter on the
    frozen embeddings could write them."""
    done = [(kind, level) for kind in DEGRADED for level in LEVELS]
    texts = [quality_question(), *(full(kind, level) for kind, level in [("none", 0), *done])]
    return sorted({part.strip() for text in texts for part in text.replace(". ", ".\n").split("\n") if part.strip()})


def quality_echo(sentences: list[str], rng: random.Random) -> Exercise:
    """Repeat sentences of the quality task, whatever the clip shows."""
    text = "\n".join(rng.sample(sentences, rng.randint(1, 3)))
    return Exercise(f"Repeat: {text}", text)


def spoken_sentences(reasons: list[str]) -> list[str]:
    """Sentences for echoing: those of the prompt and of reasons, pulled apart."""
    texts = [TASK, CLOSING, COMPARE, *reasons]
    return sorted({part.strip() for text in texts for part in text.replace(". ", ".\n").split("\n") if part.strip()})


def tokenizer_texts(reasons: list[str] | None = None) -> Iterator[str]:
    """Text for the byte-pair merges. Frequent strings come often, so that they end as single tokens."""
    reasons = reasons or ["At 2.1 s a brown cow rises behind a black one and holds on its back until 4.3 s."]
    hits = [Hit("a", "mounting", 1.0, "", "shipped"), Hit("b", "normal", 1.0, "", "shipped")]
    for mode in ("off", "nearest", "contrastive"):
        yield from [mounting_question(mode, hits), context(mode, hits)] * 20
    for tenth in range(140):
        yield from [f"<{tenth / 10:.1f} seconds>"] * 8
    yield from ["Status: Mounting", "Status: Normal", "user\nassistant\nsystem\n", "Repeat: "] * 100
    for reason in reasons:
        yield from [reason] * 4
    for count in range(len(NUMBERS)):
        for verb in VERBS.values():
            yield from [sentence(number(count, verb)), f", {number(count, verb)}", f" {cows(count)} in"] * 10
    for coat in COATS:
        yield from [f"a {coat} coat the {coat} cow another {coat} cow A {coat} cow The {coat} cow {coat} and"] * 20
    yield from ["Which case is named first?"] * 20
    for task, yes, no in [(task, yes, no) for task, _, yes, no in _CASES] + list(_LISTED):
        yield from [f"{task} Status: {yes} or Status: {no}. A {yes.lower()} case: A {no.lower()} case:"] * 20
    yield from [f"Status: {label} or Status: {label}. A {label.lower()} case:" for label in LABELS] * 20
    yield from [
        "How many cows are in this video? Is it daylight or infrared night? Daylight. How many cows lie walk in this",
        "Do two cows come close? Yes. No. When does a cow walk? From to s. Describe this video. What do you see at",
        "Where are two cows closest at? On the left. On the right. In the middle. It lies. It walks. It stands.",
        "What does the cow farthest to the left right do at? What coat has the cow What coats have the two closest",
        ", two cows come close. , no two cows come close. in daylight. in infrared night.",
        "The farmer cow cows cattle bull heifer calf calves barn pen rail video picture camera light dark shows front",
        "back Explain the reason why because before after while during between until again slowly quickly short long",
        "Question Answer YES NO Options (A) (B) Reason: Based on an analysis of the video focusing on the cows'",
        "behavior, was there any mounting behavior? blur noise blurred noisy dark covered low resolution sharp clean",
        "picture quality",
    ] * 20
