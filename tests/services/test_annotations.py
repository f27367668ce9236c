"""Annotation files: what is read, what is refused, and that everything wrong is told at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from services.annotations import MOUNTING_QUESTION, Entry, entry_for, read, write
from services.errors import AnnotationError

SOURCE = {
    "video": "./videos/crop001.mp4",
    "conversations": [
        {
            "from": "human",
            "value": "<video>\nBased on an analysis of the video focusing on the cows' behavior, "
            "was there any mounting behavior?\nOptions:\n(A) YES\n(B) NO",
        },
        {"from": "gpt", "value": "Answer: YES\nReason: front legs placed on\nthe hindquarters"},
    ],
}


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(texts)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("videos/crop001.mp4", "videos/b.mp4", "a.jpg", "b.png"):
        target = tmp_path / "data" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"x")
    return tmp_path / "data"


def saved(folder: Path, entries: Any, name: str = "notes.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(entries), encoding="utf-8")
    return path


def problems(folder: Path, *entries: Any, **options: Any) -> tuple[str, ...]:
    with pytest.raises(AnnotationError) as caught:
        read(saved(folder, list(entries)), **options)
    assert caught.value.problems[0] in str(caught.value)
    return caught.value.problems


def test_the_sources_own_entry_is_read(folder: Path) -> None:
    (entry,) = read(saved(folder, [SOURCE]))
    assert entry.video == (folder / "videos/crop001.mp4").resolve()
    assert entry.label == "mounting"
    assert entry.reason == "front legs placed on\nthe hindquarters"
    assert (entry.index, entry.kinds, dict(entry.metadata)) == (0, ("video",), {})


def test_entry_for_writes_the_sources_wording(folder: Path) -> None:
    made = entry_for("./videos/crop001.mp4", "mounting", "front legs placed on\nthe hindquarters ")
    assert made == SOURCE
    assert entry_for("x.mp4", "normal", "r")["conversations"][1]["value"] == "Answer: NO\nReason: r"
    assert MOUNTING_QUESTION.startswith("<video>\n")


def test_images_several_media_and_several_turns_keep_the_order_of_their_tags(folder: Path) -> None:
    entry = {
        "id": "q7",
        "image": ["a.jpg", "b.png"],
        "video": "videos/b.mp4",
        "conversations": [
            {"from": "system", "value": "You inspect cameras."},
            *turns("<image> then <video> then <image>: which is blurred?", "The second.", "How much?", "Slightly."),
        ],
        "metadata": {"camera": 3},
    }
    (read_back,) = read(saved(folder, [entry]))
    assert [path.name for path in read_back.media] == ["a.jpg", "b.mp4", "b.png"]
    assert read_back.kinds == ("image", "video", "image")
    assert read_back.video is None and read_back.label is None and read_back.reason == ""
    assert [turn.role for turn in read_back.conversations] == ["system", "human", "gpt", "human", "gpt"]
    assert read_back.metadata == {"camera": 3}


def test_plural_keys_are_read(folder: Path) -> None:
    entry = {"videos": ["videos/b.mp4"], "conversations": turns("<video> What?", "A barn.")}
    assert read(saved(folder, [entry]))[0].video == (folder / "videos/b.mp4").resolve()


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("Answer: NO\nReason: mounting was not seen, YES it stood", "normal"),
        ("answer:  (A) yes", "mounting"),
        ("Seen closely.\nAnswer: YES", "mounting"),
    ],
)
def test_only_the_answer_line_gives_the_label(folder: Path, answer: str, label: str) -> None:
    entry = {"video": "videos/b.mp4", "conversations": turns(MOUNTING_QUESTION, answer)}
    assert read(saved(folder, [entry]))[0].label == label


def test_yes_to_another_question_is_no_mounting_label(folder: Path) -> None:
    entry = {"video": "videos/b.mp4", "conversations": turns("<video> Does a cow lie?", "Answer: YES\nReason: one.")}
    (got,) = read(saved(folder, [entry]))
    assert got.label is None and got.reason == "one."


def test_all_problems_of_all_entries_come_at_once_with_number_and_file(folder: Path) -> None:
    found = problems(
        folder,
        SOURCE,
        {"video": "videos/gone.mp4", "conversations": turns("<video> a", "b")},
        {"video": "videos/b.mp4", "conversations": turns("no tag", "b")},
        {"video": "videos/b.mp4", "conversations": turns("<video><video> two", "b")},
        {"video": "videos/b.mp4", "conversations": turns("<video> unanswered")},
        {"video": "../outside.mp4", "conversations": turns("<video> a", "b")},
        {"conversations": turns("a", "b")},
        {"video": "videos/b.mp4", "conversations": turns(MOUNTING_QUESTION, "Perhaps.")},
        {"video": "videos/b.mp4", "conversations": turns(MOUNTING_QUESTION, "Answer: YES\nAnswer: NO")},
        {"video": "videos/b.mp4", "label": 1, "conversations": turns("<video> a", "b")},
        {"video": "videos/b.mp4", "videos": ["a"], "conversations": turns("<video> a", "b")},
        {"video": 7, "conversations": [{"from": "robot", "value": "x"}]},
        "text",
        {"video": "a\x00.mp4", "conversations": turns("<video> a", "b")},
        {"video": "videos", "conversations": turns("<video> a", "b")},
    )
    named = {int(line.split()[1].rstrip(":")) for line in found}
    assert named == set(range(2, 16))
    text = "\n".join(found)
    for expected in (
        "entry 2 ('videos/gone.mp4'): is not a file",
        "entry 3 ('videos/b.mp4'): has 0 <video> tag(s) for 1 video path(s)",
        "has 2 <video> tag(s) for 1 video path(s)",
        "must alternate human/gpt and end with gpt",
        "entry 6 ('../outside.mp4'): leaves",
        "neither 'video' nor 'image'",
        "without a line 'Answer: YES' or 'Answer: NO'",
        "both YES and NO",
        "label: extra inputs are not permitted",
        "has both 'video' and 'videos'",
    ):
        assert expected in text


def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.mp4").write_bytes(b"x")
    (folder / "videos/link.mp4").symlink_to(tmp_path / "secret.mp4")
    (line,) = problems(folder, {"video": "videos/link.mp4", "conversations": turns("<video> a", "b")})
    assert "leaves" in line


def test_a_media_root_opens_that_folder_and_no_other(folder: Path, tmp_path: Path) -> None:
    """The source keeps its file in datasets/ and writes paths from the folder above."""
    entry = {"video": "./data/videos/b.mp4", "conversations": turns("<video> a", "b")}
    assert "is not a file" in problems(folder, entry)[0]
    assert read(saved(folder, [entry]), media_root=tmp_path)[0].video == (folder / "videos/b.mp4").resolve()
    beside = {"video": "videos/b.mp4", "conversations": turns("<video> a", "b")}
    assert read(saved(folder, [beside]), media_root=tmp_path)[0].video == (folder / "videos/b.mp4").resolve()
    away = {"video": "../../x.mp4", "conversations": turns("<video> a", "b")}
    assert "leaves" in problems(folder, away, media_root=tmp_path)[0]


def test_missing_media_can_be_kept_on_request_but_never_outside(folder: Path) -> None:
    gone = {"video": "videos/gone.mp4", "conversations": turns("<video> a", "b")}
    assert read(saved(folder, [gone]), check_media=False)[0].video == folder.resolve() / "videos/gone.mp4"
    away = {"video": "../gone.mp4", "conversations": turns("<video> a", "b")}
    assert "leaves" in problems(folder, away, check_media=False)[0]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is not JSON: line 1"),
        (b"[\n {},\n}", "line 3"),
        (b"{}", "must be a list of entries"),
        (b"[]", "empty list"),
        (b"\xff\xfe[]", "UTF-8"),
        (b"[" * 200_000, "JSON"),
    ],
)
def test_a_file_that_is_no_list_says_what_it_is(folder: Path, content: bytes, says: str) -> None:
    path = folder / "bad.json"
    path.write_bytes(content)
    with pytest.raises(AnnotationError, match=says):
        read(path)


def test_a_missing_file_and_a_directory_are_named(folder: Path) -> None:
    for path in (folder / "no.json", folder):
        with pytest.raises(AnnotationError, match="cannot be read"):
            read(path)


def test_a_byte_order_mark_is_no_problem(folder: Path) -> None:
    path = folder / "bom.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps([SOURCE]).encode())
    assert len(read(path)) == 1


def test_write_puts_entries_back_as_they_were(folder: Path) -> None:
    image = {
        "image": ["a.jpg", "b.png"],
        "conversations": turns("<image><image> compare", "b"),
        "metadata": {"k": "한우"},
    }
    first = read(saved(folder, [SOURCE, image]))
    write(folder / "again.json", first)
    second = read(folder / "again.json")
    assert second == first
    assert not list(folder.glob("*.part")) and not list(folder.glob(".*"))


def test_write_refuses_media_outside_and_leaves_the_old_file(folder: Path, tmp_path: Path) -> None:
    path = saved(folder, [SOURCE])
    before = path.read_bytes()
    outside = Entry(0, (tmp_path / "x.mp4",), ("video",), ())
    with pytest.raises(AnnotationError, match="outside"):
        write(path, [outside])
    with pytest.raises(TypeError):
        write(path, [{"video": object()}])
    assert path.read_bytes() == before and not list(folder.glob(".*"))


@given(
    label=st.sampled_from(["mounting", "normal"]), reason=st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
)
def test_label_and_reason_survive_any_reason_text(
    tmp_path_factory: pytest.TempPathFactory, label: Any, reason: str
) -> None:
    folder = tmp_path_factory.getbasetemp() / "any"
    folder.mkdir(exist_ok=True)
    (folder / "c.mp4").write_bytes(b"x")
    assume(not any(mark in reason.lower() for mark in ("answer", "reason", "<")))
    write(folder / "n.json", [entry_for("c.mp4", label, reason)])
    (entry,) = read(folder / "n.json")
    assert (entry.label, entry.reason) == (label, reason.strip())
