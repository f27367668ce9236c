"""The source's own result files: a JSON list of ``{"video", "output"[, "retrieved_video"]}``, judged by our rules.

Truth is not in the file; it is the folder that the source's loop was pointed at, so the caller says it. Results were
appended to whatever file was there: of several answers about one clip the last counts.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from agent.verdict import text_verdict
from evaluation.data import read_json
from evaluation.records import CaseRecord, ClipRecord, ResultFile, RunSettings, VariantRecord, file_sha256
from services.errors import InputError
from services.schema import Label

_CLOSE = "</think>"


class _SourceEntry(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    video: str
    output: str
    retrieved_video: str | None = None


_ENTRIES = TypeAdapter(list[_SourceEntry])


def split_thoughts(output: str) -> tuple[str, str]:
    """(thoughts, answer): the answer stands behind the last ``</think>``. Thoughts that were opened and never closed
    are thoughts to the end; a text without either tag is all answer, as the source stored it.

    >>> split_thoughts("<think>Status: Normal?</think> Status: Mounting")
    ('Status: Normal?', 'Status: Mounting')
    """
    thoughts, closed, answer = output.rpartition(_CLOSE)
    if closed:
        return thoughts.replace("<think>", "", 1).strip(), answer.strip()
    if output.lstrip().startswith("<think>"):
        return output.replace("<think>", "", 1).strip(), ""
    return "", output.strip()


def read_source(path: Path, truth: Label, labels: dict[str, Label]) -> list[ClipRecord]:
    """Records of one of the source's files, in order; ``labels`` gives the label of each retrieved clip by name.
    Raises InputError if the file has another form or names a retrieved clip without a label."""
    try:
        entries = _ENTRIES.validate_python(read_json(path))
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise InputError(
            f"{path} is not a list of {{'video', 'output'}} entries ({place or 'file'}: {problem['msg']})."
        ) from error
    if not entries:
        raise InputError(f"{path} is an empty list; give a result file with answers.")
    last = {name_of(entry.video): entry for entry in entries}
    return [source_record(name, entry.output, truth, entry.retrieved_video, labels) for name, entry in last.items()]


def source_record(video: str, output: str, truth: Label, retrieved: str | None, labels: dict[str, Label]) -> ClipRecord:
    """One answer of the source as a record; its verdict is what the text says, there is no score."""
    thoughts, answer = split_thoughts(output)
    said = text_verdict(answer)
    variant = VariantRecord(name="base", text_verdict=said, reasoning=thoughts, answer=answer)
    return ClipRecord(
        video=video, truth=truth, variants=(variant,), speaker="base", rule="text only", shown=cases(retrieved, labels)
    )


def cases(retrieved: str | None, labels: dict[str, Label]) -> tuple[CaseRecord, ...]:
    """The one case that the source's model read."""
    if not retrieved:
        return ()
    name = name_of(retrieved)
    if name not in labels:
        raise InputError(
            f"The retrieved clip {name} has no label; give --labels a TSV or annotation file that names it."
        )
    return (CaseRecord(id=name, label=labels[name]),)


def name_of(path: str) -> str:
    return PurePosixPath(path.replace("\\", "/")).name


def source_result(paths: list[Path], records: list[ClipRecord]) -> ResultFile:
    """The records of one arm (mounting and normal set together) as a result file."""
    seen: dict[str, ClipRecord] = {}
    for record in records:
        if record.video in seen and seen[record.video].truth != record.truth:
            raise InputError(f"{record.video} is in the mounting and in the normal set; remove it from one of them.")
        seen[record.video] = record
    settings = RunSettings(
        mode="source",
        data=", ".join(path.name for path in paths),
        data_sha256=",".join(file_sha256(path) for path in paths),
        variants=("base",),
        retrieval="nearest" if any(record.shown for record in records) else "off",
    )
    return ResultFile(settings=settings, clips=tuple(seen.values()))
