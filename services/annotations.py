"""The source's annotation files: a JSON list of conversations about clips and images (SOURCES S0).

One entry is ``{"video": path, "conversations": [{"from": "human"|"gpt", "value": text}, …], "metadata": {…}}``;
``image`` instead of or beside ``video``, lists of paths, the plurals ``videos`` and ``images``, several turns, an
``id`` and a leading ``system`` turn are read too. Every ``<video>`` and ``<image>`` tag of the human turns stands
for the next path of its kind. Unknown keys are problems, not noise.

``read`` collects the problems of all entries before it raises, so that a person can mend a file in one go. It
looks at paths and text only; whether a clip decodes is for the video service.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.errors import AnnotationError
from services.schema import Label

MediaKind = Literal["video", "image"]
Role = Literal["system", "human", "gpt"]

MOUNTING_QUESTION = (
    "<video>\nBased on an analysis of the video focusing on the cows' behavior, was there any mounting behavior?\n"
    "Options:\n(A) YES\n(B) NO"
)
MAX_FILE_BYTES = 256 * 1024 * 1024

_ANSWER = re.compile(r"^[ \t]*answer[ \t]*:[ \t]*(?:\([ab]\)[ \t]*)?(yes|no)\b", re.IGNORECASE | re.MULTILINE)
_REASON = re.compile(r"^[ \t]*reason[ \t]*:[ \t]*(.*)\Z", re.IGNORECASE | re.MULTILINE | re.DOTALL)
_TAG = re.compile(r"<(video|image)>")


@dataclass(frozen=True, slots=True)
class Turn:
    """One message; ``text`` still carries its ``<video>`` and ``<image>`` tags."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One annotated example. ``index`` counts from 0 (messages to people count from 1). ``media`` are absolute,
    resolved paths in the order of their tags, ``kinds`` says what each of them is. ``label`` is set for the
    mounting question only; ``reason`` is what follows ``Reason:`` in the last answer that has one, else empty."""

    index: int
    media: tuple[Path, ...]
    kinds: tuple[MediaKind, ...]
    conversations: tuple[Turn, ...]
    label: Label | None = None
    reason: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def video(self) -> Path | None:
        """The clip of an entry about exactly one clip, else None."""
        return self.media[0] if self.kinds == ("video",) else None


class _RawTurn(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    role: Role = Field(alias="from")
    value: str


class _RawEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    id: str | int | None = None
    video: str | list[str] | None = None
    videos: str | list[str] | None = None
    image: str | list[str] | None = None
    images: str | list[str] | None = None
    conversations: list[_RawTurn] = Field(min_length=1)
    metadata: dict[str, Any] = Field(default_factory=dict)

    def paths(self, kind: MediaKind) -> list[str]:
        """The written paths of ``kind``; singular and plural key together are refused by ``_problems_of_shape``."""
        written = (self.video, self.videos) if kind == "video" else (self.image, self.images)
        found = next((value for value in written if value is not None), [])
        return [found] if isinstance(found, str) else list(found)


def read(path: Path, media_root: Path | None = None, *, check_media: bool = True) -> list[Entry]:
    """All entries of the annotation file ``path``, in order.

    Media paths resolve against the file's folder and may not leave it (symbolic links followed); with
    ``media_root`` they resolve against that folder first, then against the file's, and may lie in either.
    ``check_media`` False keeps entries whose files are not there.

    Raises AnnotationError with every problem in ``problems``, each naming entry number and media file."""
    path = Path(path)
    entries, problems = parse(load_list(path), path.parent, media_root, check_media=check_media)
    if problems:
        more = f" and {len(problems) - 1} more problem(s)" if len(problems) > 1 else ""
        raise AnnotationError(f"{path.name} cannot be used: {problems[0]}{more}.", tuple(problems))
    return entries


def parse(
    items: Sequence[Any], folder: Path, media_root: Path | None = None, *, check_media: bool = True
) -> tuple[list[Entry], list[str]]:
    """The usable entries among ``items`` (JSON values of a file in ``folder``), and every problem of the others."""
    folder = Path(folder).resolve()
    roots = [folder] if media_root is None else [Path(media_root).resolve(), folder]
    entries: list[Entry] = []
    problems: list[str] = []
    for index, item in enumerate(items):
        entry, found = _entry(index, item, roots, check_media)
        problems += found
        if entry is not None:
            entries.append(entry)
    return entries, problems


def entry_for(
    video: str | Path, label: Label, reason: str, metadata: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """One mounting entry in the source's wording; ``video`` is the path as it is to be written."""
    answer = "YES" if label == "mounting" else "NO"
    written = video.as_posix() if isinstance(video, Path) else video
    entry: dict[str, Any] = {
        "video": written,
        "conversations": [
            {"from": "human", "value": MOUNTING_QUESTION},
            {"from": "gpt", "value": f"Answer: {answer}\nReason: {reason.strip()}"},
        ],
    }
    if metadata:
        entry["metadata"] = dict(metadata)
    return entry


def write(path: Path, entries: Iterable[Entry | Mapping[str, Any]]) -> None:
    """Write ``entries`` (as read, or as ``entry_for`` makes them) to ``path``, whole or not at all.

    Paths of an ``Entry`` are written relative to the file's folder; one outside it raises AnnotationError."""
    path = Path(path)
    items = [_as_json(entry, path.parent.resolve()) if isinstance(entry, Entry) else dict(entry) for entry in entries]
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as out:
            json.dump(items, out, ensure_ascii=False, indent=1)
            out.write("\n")
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def load_list(path: Path) -> list[Any]:
    """The JSON list in ``path``; AnnotationError when there is none."""
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise AnnotationError(f"{path.name} has {size} bytes; at most {MAX_FILE_BYTES} are read: split the file.")
        value = json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise AnnotationError(
            f"{path} cannot be read ({error.strerror}); give the path of an annotation file."
        ) from error
    except UnicodeDecodeError as error:
        raise AnnotationError(
            f"{path.name} is not UTF-8 text (byte {error.start}); give a JSON annotation file, saved as UTF-8."
        ) from error
    except json.JSONDecodeError as error:
        raise AnnotationError(
            f"{path.name} is not JSON: line {error.lineno}, column {error.colno}: {error.msg}; mend that line."
        ) from error
    except (RecursionError, ValueError) as error:
        raise AnnotationError(f"{path.name} is not usable JSON ({error}); it must be a list of entries.") from error
    if not isinstance(value, list):
        raise AnnotationError(f"{path.name} holds a {type(value).__name__}; it must be a list of entries.")
    if not value:
        raise AnnotationError(f"{path.name} is an empty list; add at least one entry.")
    return value


def _entry(index: int, item: Any, roots: Sequence[Path], check_media: bool) -> tuple[Entry | None, list[str]]:
    """Entry ``index``, or its problems."""
    where = f"entry {index + 1}"
    try:
        raw = _RawEntry.model_validate(item)
    except ValidationError as error:
        return None, [f"{where}{_named(item)}: {_shape(detail)}" for detail in error.errors(include_url=False)]
    problems = [f"{where}{_named(item)}: {text}" for text in _problems_of_shape(raw)]
    if problems:
        return None, problems
    waiting: dict[str, list[str]] = {"video": raw.paths("video"), "image": raw.paths("image")}
    media: list[Path] = []
    kinds: list[MediaKind] = []
    for kind in _tags(raw):
        written = waiting[kind].pop(0)
        resolved = _resolve(written, roots, check_media)
        if isinstance(resolved, str):
            problems.append(f"{where} ({written!r}): {resolved}")
        else:
            media.append(resolved)
            kinds.append(kind)
    turns = tuple(Turn(turn.role, turn.value) for turn in raw.conversations)
    label, conflict = _label(turns)
    if conflict:
        problems.append(f"{where}{_named(item)}: {conflict}")
    if problems:
        return None, problems
    return Entry(index, tuple(media), tuple(kinds), turns, label, _reason(turns), raw.metadata), []


def _problems_of_shape(raw: _RawEntry) -> list[str]:
    """What is wrong with keys, turns and tags, whatever lies on disk."""
    problems = [
        f"has both {kind!r} and '{kind}s'; keep one of them"
        for kind, both in (("video", (raw.video, raw.videos)), ("image", (raw.image, raw.images)))
        if None not in both
    ]
    roles = [turn.role for turn in raw.conversations]
    spoken = roles[1:] if roles[0] == "system" else roles
    if not spoken or len(spoken) % 2 or spoken != ["human", "gpt"] * (len(spoken) // 2):
        problems.append(f"turns are {'/'.join(roles)}; they must alternate human/gpt and end with gpt")
    if any(turn.role != "human" and _TAG.search(turn.value) for turn in raw.conversations):
        problems.append("has a media tag outside the human turns; tags belong to the question")
    if any(turn.role != "system" and not _TAG.sub("", turn.value).strip() for turn in raw.conversations):
        problems.append("has an empty turn; write the question and the answer out")
    tags = list(_tags(raw))
    if not tags and not raw.paths("video") and not raw.paths("image"):
        problems.append("has neither 'video' nor 'image'")
    for kind in ("video", "image"):
        count, paths = tags.count(kind), len(raw.paths(kind))
        if count != paths:
            problems.append(f"has {count} <{kind}> tag(s) for {paths} {kind} path(s); write one tag for each path")
    return problems


def _tags(raw: _RawEntry) -> Iterable[MediaKind]:
    for turn in raw.conversations:
        if turn.role == "human":
            for match in _TAG.finditer(turn.value):
                yield "video" if match[1] == "video" else "image"


def _resolve(written: str, roots: Sequence[Path], check_media: bool) -> Path | str:
    """The file that ``written`` names, or what is wrong with it. The first root that has the file wins."""
    inside: list[Path] = []
    for root in roots:
        try:
            candidate = (root / written).resolve()
        except (OSError, ValueError, RuntimeError) as error:
            return f"is no usable path ({error})"
        if any(candidate.is_relative_to(allowed) for allowed in roots):
            if candidate.is_file():
                return candidate
            inside.append(candidate)
    if not inside:
        return (
            f"leaves {' and '.join(str(root) for root in roots)}; move the file inside or give its folder as media root"
        )
    if not check_media:
        return inside[0]
    return f"is not a file ({inside[0]}); put it there or mend the path"


def _label(turns: Sequence[Turn]) -> tuple[Label | None, str | None]:
    """The label that the answers to the mounting question give, or a sentence saying why there is none."""
    found: set[str] = set()
    asked = False
    for question, answer in pairwise(turns):
        if not _asks_mounting(question):
            continue
        answers = {match.lower() for match in _ANSWER.findall(answer.text)}
        found |= answers
        asked = asked or ("mounting behavio" in question.text.lower() and not answers)
    if len(found) > 1:
        return None, "answers both YES and NO to the mounting question; keep one"
    if asked and not found:
        return None, "answers the mounting question without a line 'Answer: YES' or 'Answer: NO'"
    if not found:
        return None, None
    return ("mounting" if found == {"yes"} else "normal"), None


def _asks_mounting(question: Turn) -> bool:
    return question.role == "human" and "mounting" in question.text.lower()


def answers_mounting(question: Turn, answer: Turn) -> bool:
    """Whether ``answer`` is the one that a label is read from."""
    return _asks_mounting(question) and bool(_ANSWER.search(answer.text))


def _reason(turns: Sequence[Turn]) -> str:
    for turn in reversed(turns):
        if turn.role == "gpt" and (match := _REASON.search(turn.text)):
            return match[1].strip()
    return ""


def _named(item: Any) -> str:
    """`` ('clips/a.mp4')`` for messages, as far as the entry names a file."""
    if isinstance(item, dict):
        for key in ("video", "videos", "image", "images"):
            value = item.get(key)
            if isinstance(value, list) and value:
                value = value[0]
            if isinstance(value, str):
                return f" ({value[:200]!r})"
    return ""


def _shape(detail: Any) -> str:
    where = ".".join(str(part) for part in detail["loc"])
    return f"{where or 'entry'}: {detail['msg'][:1].lower()}{detail['msg'][1:]}"


def _as_json(entry: Entry, folder: Path) -> dict[str, Any]:
    item: dict[str, Any] = {}
    for kind in ("video", "image"):
        paths = [path for path, of in zip(entry.media, entry.kinds, strict=True) if of == kind]
        outside = [path for path in paths if not path.is_relative_to(folder)]
        if outside:
            raise AnnotationError(f"{outside[0]} lies outside {folder}; write the annotations next to their media.")
        written = [path.relative_to(folder).as_posix() for path in paths]
        if written:
            item[kind] = written[0] if len(written) == 1 else written
    item["conversations"] = [{"from": turn.role, "value": turn.text} for turn in entry.conversations]
    if entry.metadata:
        item["metadata"] = dict(entry.metadata)
    return item
