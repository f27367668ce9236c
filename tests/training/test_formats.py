"""The files of the public Qwen-VL fine-tuning code and of LLaMA-Factory say the same as the source's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from services.annotations import Turn
from services.errors import AnnotationError
from training.data import Sample, collect, from_annotations

TURNS = (
    Turn("system", "You look at barns."),
    Turn("human", "<image>\nWhat spoils this picture, and <video> this clip?"),
    Turn("gpt", "Blur."),
    Turn("human", "<image>How much here?"),
    Turn("gpt", "Severity 2."),
)
SOURCE = {
    "image": ["p.png", "q.webp"],
    "video": "c.mp4",
    "conversations": [{"from": turn.role, "value": turn.text} for turn in TURNS],
}
NAMES = {"system": "system", "human": "user", "gpt": "assistant"}
MESSAGES = {
    "messages": [{"role": NAMES[turn.role], "content": turn.text} for turn in TURNS],
    "images": ["p.png", "q.webp"],
    "videos": ["c.mp4"],
}
SHAREGPT = {
    "conversations": [{"from": turn.role, "value": turn.text} for turn in TURNS[1:]],
    "system": TURNS[0].text,
    "tools": "",
    "images": ["p.png", "q.webp"],
    "videos": ["c.mp4"],
}
NAMED = {
    "talk": [{"who": {"gpt": "vet"}.get(turn.role, "farmer"), "says": turn.text} for turn in TURNS[1:]],
    "intro": TURNS[0].text,
    "pics": ["p.png", "q.webp"],
    "clips": ["c.mp4"],
}
DESCRIPTION = {
    "barn": {
        "file_name": "data.json",
        "formatting": "sharegpt",
        "columns": {"messages": "talk", "system": "intro", "images": "pics", "videos": "clips"},
        "tags": {"role_tag": "who", "content_tag": "says", "user_tag": "farmer", "assistant_tag": "vet"},
    }
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("p.png", "q.webp", "c.mp4"):
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def only(folder: Path, item: dict[str, Any]) -> Sample:
    (folder / "data.json").write_text(json.dumps([item]))
    (sample,) = from_annotations(folder / "data.json")
    return sample


@pytest.mark.parametrize("item", [SOURCE, MESSAGES, SHAREGPT], ids=["source", "messages", "sharegpt"])
def test_each_format_gives_the_same_conversation_and_media(folder: Path, item: dict[str, Any]) -> None:
    sample = only(folder, item)
    assert sample.conversations == TURNS
    assert [(medium.kind, medium.path and medium.path.name) for medium in sample.media] == [
        ("image", "p.png"),
        ("video", "c.mp4"),
        ("image", "q.webp"),
    ]


def test_column_names_come_from_the_description_beside_the_file(folder: Path) -> None:
    (folder / "dataset_info.json").write_text(json.dumps(DESCRIPTION))
    assert only(folder, NAMED).conversations == TURNS


def test_one_entry_a_line(folder: Path) -> None:
    (folder / "data.jsonl").write_text("\n".join(json.dumps(item) for item in (SOURCE, MESSAGES)) + "\n")
    assert [sample.conversations for sample in from_annotations(folder / "data.jsonl")] == [TURNS, TURNS]
    (folder / "bad.jsonl").write_text('{"image": "p.png"\n[]\n{]\n')
    with pytest.raises(AnnotationError) as caught:
        from_annotations(folder / "bad.jsonl")
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["line 1", "line 3"]


def test_what_no_format_knows_is_named_and_not_dropped(folder: Path) -> None:
    odd = {**MESSAGES, "audios": ["a.wav"]}
    role = {**MESSAGES, "messages": [*MESSAGES["messages"], {"role": "tool", "content": "x"}]}
    (folder / "data.json").write_text(json.dumps([odd, role, SOURCE]))
    samples, problems = collect(folder / "data.json")
    assert len(samples) == 1
    assert ["audios" in problems[0], "entry 2" in problems[1]] == [True, True]
