"""The files that farms and public tools keep conversations in, brought to the source's shape before they are read.

Read are the source's own JSON list (services.annotations), which is also what the public Qwen-VL fine-tuning code
reads (``image`` and ``video``, a path or a list of them, ``conversations`` of ``from``/``value``), and the
sharegpt-style files of LLaMA-Factory: ``messages`` or ``conversations``, ``role``/``content`` or ``from``/``value``,
``images`` and ``videos``, a ``system`` text. Other column names are taken from a ``dataset_info.json`` in the file's
folder that describes it. A file that ends in ``.jsonl`` holds one entry a line. What is not understood is left as it
is: services.annotations names it as a problem.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from services.annotations import MAX_FILE_BYTES, load_list
from services.errors import AnnotationError

DESCRIPTIONS = "dataset_info.json"

_COLUMNS = {"messages": ("conversations", "messages"), "system": ("system",)} | {
    name: (name,) for name in ("images", "videos", "tools")
}
_TAGS = {"role_tag": ("from", "role"), "content_tag": ("value", "content")}
_ROLES = {"user_tag": ("human", "user"), "assistant_tag": ("gpt", "assistant"), "system_tag": ("system",)}
_OURS = {"user_tag": "human", "assistant_tag": "gpt", "system_tag": "system"}

Names = dict[str, tuple[str, ...]]


def load(file: Path) -> list[Any]:
    """The entries of ``file`` in the source's shape. AnnotationError when the file as a whole cannot be read."""
    items = _lines(file) if file.suffix.lower() == ".jsonl" else load_list(file)
    names = _names(file)
    return [_converted(item, names) if isinstance(item, dict) else item for item in items]


def _lines(file: Path) -> list[Any]:
    """One JSON value a line; every line that is none is named."""
    try:
        size = file.stat().st_size
        if size > MAX_FILE_BYTES:
            raise AnnotationError(f"{file.name} has {size} bytes; at most {MAX_FILE_BYTES} are read: split the file.")
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise AnnotationError(f"{file} cannot be read ({error.strerror}); give the path of a data file.") from error
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{file.name} is not UTF-8 text (byte {error.start}); save it as UTF-8.") from error
    items: list[Any] = []
    problems: list[str] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            items.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            problems.append(f"line {number}: is not JSON ({error}); mend it")
    if problems or not items:
        raise AnnotationError(f"{file.name} holds no usable list of entries, one a line.", tuple(problems))
    return items


def _names(file: Path) -> Names:
    """What each part is called in ``file``: the usual names, or those that its description gives."""
    found: Names = {**_COLUMNS, **_TAGS, **_ROLES}
    description = _description(file)
    for group in ("columns", "tags"):
        given = description.get(group)
        for part, name in given.items() if isinstance(given, Mapping) else ():
            if part in found and isinstance(name, str) and name:
                found[part] = (name,)
    return found


def _description(file: Path) -> Mapping[str, Any]:
    """The entry of ``dataset_info.json`` about ``file``; empty when there is none."""
    place = file.parent / DESCRIPTIONS
    if not place.is_file() or place == file:
        return {}
    try:
        known = json.loads(place.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise AnnotationError(f"{place} is not usable JSON ({error}); mend it or move it away.") from error
    entries = known.values() if isinstance(known, dict) else ()
    mine = [entry for entry in entries if isinstance(entry, dict) and entry.get("file_name") == file.name]
    if not mine:
        return {}
    if mine[0].get("formatting", "alpaca") != "sharegpt":
        raise AnnotationError(
            f"{DESCRIPTIONS} says that {file.name} is formatted {mine[0].get('formatting', 'alpaca')!r}; only sharegpt "
            "is read: convert the file."
        )
    return mine[0]


def _converted(item: Mapping[str, Any], names: Names) -> dict[str, Any]:
    """One entry in the source's shape; unknown keys stay."""
    rest = dict(item)
    turns = _taken(rest, names["messages"])
    system = _taken(rest, names["system"])
    for name in names["tools"]:
        if not rest.get(name, True):
            rest.pop(name)  # an empty list of tools says nothing
    entry: dict[str, Any] = {}
    for kind in ("images", "videos"):
        paths = _taken(rest, names[kind])
        if paths:
            entry[kind] = paths
    if isinstance(turns, Sequence) and not isinstance(turns, str):
        talk = [_turn(turn, names) for turn in turns]
        head = [{"from": "system", "value": system}] if system else []
        entry["conversations"] = [*head, *talk]
    elif turns is not None:
        entry["conversations"] = turns
    for kind in ("image", "video"):
        if rest.get(kind, "") in (None, []):
            rest.pop(kind)
    return {**rest, **entry}


def _turn(turn: Any, names: Names) -> Any:
    if not isinstance(turn, dict):
        return turn
    rest = dict(turn)
    role, text = _taken(rest, names["role_tag"]), _taken(rest, names["content_tag"])
    for part, ours in _OURS.items():
        if role in names[part]:
            role = ours
            break
    return {**rest, **({"from": role} if role is not None else {}), **({"value": text} if text is not None else {})}


def _taken(item: dict[str, Any], names: tuple[str, ...]) -> Any:
    """Remove and return the value under the first of ``names`` that ``item`` has."""
    return next((item.pop(name) for name in names if name in item), None)
