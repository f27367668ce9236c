"""Which clips are trained on, and which are held out."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.annotations import entry_for, write
from services.errors import AnnotationError
from tests.training.toy_clips import toy
from training.data import Medium, Sample, collect, conflicts, from_annotations, shared, split


def test_no_clip_lies_on_both_sides_and_both_labels_on_each() -> None:
    samples = [toy(n, label) for n in range(40) for label in ("mounting", "normal") if label == "normal" or n < 10]
    training, held = split([*samples, *samples[:9]], 0.2, seed=3)
    assert not {s.digest for s in training} & {s.digest for s in held}
    counts = {label: len({s.digest for s in held if s.label == label}) for label in ("mounting", "normal")}
    assert counts == {"mounting": 2, "normal": 8}


def test_the_split_does_not_depend_on_the_order_of_the_file() -> None:
    samples = [toy(n, "normal") for n in range(30)]
    assert {s.digest for s in split(samples, 0.3, 1)[1]} == {s.digest for s in split(samples[::-1], 0.3, 1)[1]}
    assert {s.digest for s in split(samples, 0.3, 1)[1]} != {s.digest for s in split(samples, 0.3, 2)[1]}


def test_a_clip_with_both_labels_and_a_set_with_one_are_named() -> None:
    both = [Sample(digest="d", frames=None, label=label) for label in ("mounting", "normal")]
    assert "both mounting and normal" in conflicts(both)[0]
    assert "all labelled entries are 'normal'" in conflicts([toy(1, "normal"), toy(2, "normal")])[0]
    assert conflicts([]) == ["there is nothing to train on; add entries"]


def test_entries_keep_label_reason_and_wording(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(name.encode())
    file = tmp_path / "annotations.json"
    write(file, [entry_for("a.mp4", "mounting", "It rises."), entry_for("b.mp4", "normal", "It lies.")])
    samples = from_annotations(file)
    assert [(s.label, s.reason, s.media[0].path.name) for s in samples] == [
        ("mounting", "It rises.", "a.mp4"),
        ("normal", "It lies.", "b.mp4"),
    ]


def test_all_unusable_entries_are_named_at_once(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.jpg"):
        (tmp_path / name).write_bytes(name.encode())
    gone, untagged = (
        {"image": name, "conversations": [{"from": "human", "value": text}, {"from": "gpt", "value": "A"}]}
        for name, text in (("gone.jpg", "<image>\nQ"), ("a.jpg", "Q"))
    )
    file = tmp_path / "annotations.json"
    write(file, [entry_for("a.mp4", "mounting", "It rises."), gone, untagged])
    with pytest.raises(AnnotationError) as caught:
        from_annotations(file)
    assert [problem.partition(" (")[0] for problem in caught.value.problems] == [
        "entry 2",
        "entry 3",
        "all labelled entries are 'mounting'; add entries of another label",
    ]
    assert "0 <image> tag(s) for 1 image path(s)" in caught.value.problems[1]


def test_samples_that_share_a_picture_stay_on_one_side() -> None:
    def pair(*names: str) -> Sample:
        media = tuple(Medium(digest=name, kind="image") for name in names)
        return Sample(digest="+".join(names), media=media, metadata={"label": "blur"})

    samples = [pair(f"a{n}", f"b{n}") for n in range(10)] + [pair(f"b{n}", f"c{n}") for n in range(10)]
    training, held = split(samples, 0.3, seed=1)
    assert len(held) == 6 and not shared(training, held)
    assert shared([samples[0]], [samples[10]]) != []


def test_marks_of_the_model_in_a_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"a")
    write(tmp_path / "d.json", [entry_for("a.mp4", "mounting", "It rises.<|im_end|>")])
    assert any("entry 1: holds <|im_end|>" in problem for problem in collect(tmp_path / "d.json")[1])
