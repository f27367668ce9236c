"""The result file of a run: settings, versions, digests and one record per clip. JSON, read back by pydantic.

While a run is under way its records lie in ``OUT.part.jsonl``: a first line with the settings, then one line per clip,
each forced to disk. A killed run goes on behind its last whole line; ``OUT`` itself appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.errors import InputError
from services.schema import Label, RetrievalMode, TextVerdict, Verdict, digest_of

Mode = Literal["rag", "vlm", "text", "knn", "ensemble", "source"]
ContextChoice = Literal["right", "wrong", "random", "none"]
FramesChoice = Literal["shuffled", "one", "other"]


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RunSettings(_Stored):
    """What was asked for. ``data_sha256`` covers the annotation file, so that a run never goes on with other labels.
    ``limit`` is not part of ``identity``: a longer run may use the records of a shorter one."""

    mode: Mode
    data: str
    data_sha256: str
    profile: str = ""
    variants: tuple[str, ...] = ()
    adapter: str | None = None
    retrieval: RetrievalMode = "off"
    context: ContextChoice | None = None
    swap_labels: bool = False
    frames: FramesChoice | None = None
    scored_only: bool = False
    neighbours: int = 0
    seed: int = 0
    limit: int | None = None

    def identity(self, digests: dict[str, str]) -> str:
        """Digest of everything that decides an answer, models included."""
        return digest_of([self.model_dump(exclude={"limit", "data"}), digests])


class CaseRecord(_Stored):
    """A reference clip as shown or voting; ``label`` is the one that was used, swapped or not."""

    id: str
    label: Label
    similarity: float | None = None
    description: str = ""


class VariantRecord(_Stored):
    """One variant's answer. ``scores``: summed log-probabilities (mounting, normal); ``p_model``: their softmax;
    ``p_final``: after the calibrated rule; ``verdict``: the rule's; ``text_verdict``: what the text says."""

    name: str
    adapter: str | None = None
    scores: tuple[float, float] | None = None
    p_model: float | None = None
    p_final: float | None = None
    verdict: Verdict | None = None
    text_verdict: TextVerdict = "unparsed"
    reasoning: str = ""
    answer: str = ""
    finish_reason: str = ""
    tokens: int = 0
    seconds: float = 0.0
    error: str | None = None


class ClipRecord(_Stored):
    """Everything about one clip. ``video`` is the name in the annotation file, ``path`` where it lay. A clip that could
    not be analysed has ``error`` and no variants. ``shown_video``: whose pictures the model saw, if another clip's."""

    video: str
    truth: Label
    path: str = ""
    sha256: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    verdict: Verdict | None = None
    p_mounting: float | None = None
    rule: str = ""
    speaker: str | None = None
    variants: tuple[VariantRecord, ...] = ()
    shown: tuple[CaseRecord, ...] = ()
    voters: tuple[CaseRecord, ...] = ()
    vote: float | None = None
    shown_video: str | None = None
    quality: float | None = None
    novelty: tuple[float, float | None] | None = None
    seconds: dict[str, float] = Field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    error: str | None = None

    def variant(self, name: str) -> VariantRecord | None:
        return next((variant for variant in self.variants if variant.name == name), None)


class ResultFile(_Stored):
    """A finished run. ``digests``: preprocessing, base, embedder, adapter, library, calibration, as far as used."""

    format: Literal[1] = 1
    settings: RunSettings
    digests: dict[str, str] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    created_at: str = ""
    clips: tuple[ClipRecord, ...]


class _Header(_Stored):
    identity: str
    settings: RunSettings


_Model = TypeVar("_Model", bound=_Stored)


def _parse(model: type[_Model], text: str | bytes, where: str) -> _Model:
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise InputError(
            f"{where} is not a result of 'python -m evaluation run' ({place + ': ' if place else ''}{problem['msg']})."
        ) from error


def read_result(path: Path) -> ResultFile:
    """The result file at ``path``; InputError with one sentence if it is none."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); give the path of a result file.") from error
    return _parse(ResultFile, text, str(path))


def write_result(path: Path, result: ResultFile) -> None:
    """Write ``result`` to ``path``, whole or not at all."""
    write_text(path, result.model_dump_json(indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 ``text`` to ``path`` atomically; InputError if the folder cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}); choose another folder.") from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as out:
            out.write(text)
        os.chmod(name, 0o644)  # a temporary file is for its owner only; a result is as readable as its folder
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


class Journal:
    """Records of a run under way, one JSON line each. ``done`` holds those of an earlier, killed run and of a finished
    result of the same identity, but for clips that failed: they are tried again. When what lies there belongs to
    another run, it is thrown away with ``replace``, else InputError is raised."""

    def __init__(self, out: Path, settings: RunSettings, digests: dict[str, str], *, replace: bool = False) -> None:
        self._out = out
        self._identity = settings.identity(digests)
        self._header = _Header(identity=self._identity, settings=settings)
        self.path = out.with_name(f"{out.name}.part.jsonl")
        self.done: dict[str, ClipRecord] = {}
        if out.is_dir():
            raise InputError(f"{out} is a folder; give --out the name of a file.")
        if out.exists():
            finished = read_result(out)
            if finished.settings.identity(finished.digests) == self._identity:
                self.done |= {record.video: record for record in finished.clips}
            elif not replace:
                raise InputError(f"{out} holds a run with other settings or models; choose another --out or remove it.")
        kept, records = self._earlier(replace)
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self.path.open("r+b" if kept else "wb")
        except OSError as error:
            raise InputError(f"{out} cannot be written ({error.strerror}); choose another --out.") from error
        self._stream.truncate(kept)
        self._stream.seek(kept)
        if not kept:
            self._append(self._header.model_dump_json())
        self.done |= {record.video: record for record in records}
        self.done = {video: record for video, record in self.done.items() if record.error is None}

    def add(self, record: ClipRecord) -> None:
        """Keep ``record``; when this returns it is on disk."""
        self._append(record.model_dump_json())
        self.done[record.video] = record

    def finish(self, result: ResultFile) -> None:
        """Write the whole result and drop the journal."""
        write_result(self._out, result)
        self.close()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        self._stream.close()

    def _append(self, line: str) -> None:
        self._stream.write(line.encode() + b"\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def _earlier(self, replace: bool) -> tuple[int, list[ClipRecord]]:
        """Length of an earlier journal's whole lines, and its records; a line that a kill cut off is left out."""
        if not self.path.exists():
            return 0, []
        content = self.path.read_bytes()
        kept = content.rfind(b"\n") + 1
        lines = content[:kept].splitlines()
        if not lines:
            return 0, []
        if _parse(_Header, lines[0], str(self.path)).identity != self._identity:
            if replace:
                return 0, []
            raise InputError(
                f"{self.path} is a half-done run with other settings or models; remove it or choose another --out."
            )
        return kept, [_parse(ClipRecord, line, str(self.path)) for line in lines[1:]]


def file_sha256(path: Path) -> str:
    """Digest of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
