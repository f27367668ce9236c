"""The reference library: labelled clips with vectors, searched exactly, in memory.

Two tables lie on disk: the shipped one, read-only at run time, and the user's, next to an overlay that hides or
corrects references (keyed by the clip's digest, so that it survives a rebuilt shipped library). Both are read into one
matrix; a search is one matrix product. App and command line may use the same folders at once: a search first looks
whether another process has written (about a millisecond) and then reads what is new.

Vectors of another provenance are refused when the library is opened and when it is read. Vectors without a direction
(all zero, or not finite) are refused wherever they come in: they would become NaN and rank first for every query.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from filelock import FileLock
from numpy.typing import ArrayLike, NDArray

from services.errors import InputError, MismatchError, ResourceError
from services.library_export import Exported, export_references
from services.library_files import LibraryFiles
from services.library_rows import (
    DIGEST,
    Change,
    Origin,
    Reference,
    changes_to_table,
    checked,
    checked_vector,
    reference_id,
    references_to_table,
    require_dimension,
    require_provenance,
    table_to_changes,
    table_to_references,
)
from services.library_store import LanceFile, writing
from services.schema import LABELS, Hit, Label, Neighbourhood, Provenance, RetrievalMode

__all__ = ["Exported", "Library", "Reference", "create_shipped", "reference_id"]

TABLE = "references"
OVERLAY = "overlay"

Hits = list[Hit]
References = list[Reference]


@dataclass(frozen=True, slots=True, eq=False)
class _Snapshot:
    """Everything in memory: ``references`` by id, hidden ones too, in order of id; ``matrix`` (N, D) float32 with rows
    of length 1 for the ``visible`` ones, in the same order. ``marks`` says which versions on disk this is."""

    marks: tuple[Any, ...]
    references: dict[str, Reference]
    visible: tuple[Reference, ...]
    matrix: NDArray[np.float32]


class Library:
    """Shipped and user's references together. Thread-safe; cheap to open, read on first use.

    ``user`` is created by the first change. Raises MismatchError when a table has another provenance."""

    def __init__(self, shipped: Path | None, user: Path, provenance: Provenance) -> None:
        self._user = Path(user).absolute()
        self._provenance = provenance
        self._lock = FileLock(self._user / ".lock")
        self._files = LibraryFiles(self._user)
        self._overlay_file = LanceFile(self._user, OVERLAY, self._lock)
        self._tables: list[tuple[LanceFile, Origin]] = [(LanceFile(self._user, TABLE, self._lock), "user")]
        if shipped is not None:
            table = LanceFile(Path(shipped).absolute(), TABLE)
            if table.mark() is None:
                raise ResourceError(
                    f"There is no reference library in {shipped}; restore the folder or build it again."
                )
            self._tables.append((table, "shipped"))
        self._snapshot: _Snapshot | None = None
        self._require_provenance()

    def search(
        self, vector: ArrayLike, k: int, *, exclude_sha256: str | None = None, label: Label | None = None
    ) -> Hits:
        """The ``k`` visible references most similar to ``vector`` (D,), most similar first, fewer if there are fewer;
        equal ones by id. The clip with digest ``exclude_sha256`` is never a hit."""
        _require_positive(k)
        ranked = self._ranked(vector, exclude_sha256)
        return [self._hit(*pair) for pair in ranked if label in (None, pair[0].label)][:k]

    def neighbourhood(
        self, vector: ArrayLike | None, mode: RetrievalMode, k: int, exclude_sha256: str | None = None
    ) -> Neighbourhood:
        """Cases to show and the vote. ``nearest`` shows the nearest; ``contrastive`` the nearest of each label (of one
        label, where the other is absent); ``off`` looks nothing up, and ``vector`` may be None.

        The vote is the share of mounting among the ``k`` nearest, weighted by similarity, negative similarity counting
        nothing. It is None with ``off``, with an empty library, and where no neighbour is similar at all."""
        if mode == "off":
            return Neighbourhood("off")
        if vector is None:
            raise InputError(f"Retrieval {mode!r} needs the clip's vector; embed the clip or choose 'off'.")
        _require_positive(k)
        ranked = self._ranked(vector, exclude_sha256)
        if mode == "nearest":
            shown = ranked[:1]
        else:
            firsts = [next((i for i, pair in enumerate(ranked) if pair[0].label == label), None) for label in LABELS]
            shown = [ranked[i] for i in sorted(i for i in firsts if i is not None)]
        voters = ranked[:k]
        weights = [(reference.label == "mounting", max(similarity, 0.0)) for reference, similarity in voters]
        total = sum(weight for _, weight in weights)
        return Neighbourhood(
            mode,
            tuple(self._hit(*pair) for pair in shown),
            tuple(self._hit(*pair) for pair in voters),
            sum(weight for mounting, weight in weights if mounting) / total if total > 0 else None,
        )

    def get(self, id: str) -> Reference:
        """The reference ``id``, hidden or not; InputError if there is none."""
        try:
            return self._current().references[id]
        except KeyError:
            raise InputError(f"There is no reference {id!r}; `library list` shows what there is.") from None

    def list(self, label: Label | None = None, origin: Origin | None = None, text: str | None = None) -> References:
        """References by id, hidden ones included; ``text`` is looked for in id, description and metadata, whatever
        its case."""
        wanted = (text or "").casefold()
        return [
            reference
            for reference in self._current().references.values()
            if label in (None, reference.label)
            and origin in (None, reference.origin)
            and wanted in f"{reference.id}\n{reference.description}\n{dict(reference.metadata)}".casefold()
        ]

    def count(self) -> int:
        """How many references a search looks at (hidden ones are not)."""
        return len(self._current().visible)

    def thumbnail(self, id: str) -> bytes | None:
        """JPEG bytes, or None where the reference has no picture."""
        return self.get(id).thumbnail

    def add(self, references: Iterable[Reference], *, keep_clips: bool = False) -> References:
        """Add ``references``, all or none, and return them as they stand in the library then.

        A clip that is there already (same digest) stays one reference: its label and description are updated and it
        is shown again; a shipped one is corrected in the overlay. An empty ``id`` is filled in. ``keep_clips`` puts
        the clips into the library's folder (hard links where possible), so that they outlive their upload."""
        given = {reference.clip_sha256: reference for reference in map(checked, references)}
        with self._changing():
            before = self._current()
            known = {reference.clip_sha256: reference for reference in before.references.values()}
            rows, changes = [], []
            for sha256, reference in given.items():
                old = known.get(sha256)
                if old is not None and old.origin == "shipped":
                    changes.append(Change(sha256, False, reference.label, reference.description))
                else:
                    rows.append(reference if old is None else _updated(old, reference))
                    changes += [Change(sha256)] if old is not None and old.hidden else []
            _require_comparable(rows, before)
            if rows:
                self._write([self._files.keep(row) for row in rows] if keep_clips else rows)
            if changes:
                self._overlay_file.upsert(changes_to_table(changes), "clip_sha256")
            after = {reference.clip_sha256: reference for reference in self._current().references.values()}
        return [after[sha256] for sha256 in given]

    def remove(self, id: str) -> Literal["removed", "hidden"]:
        """Delete a user's reference with the clip and thumbnail kept for it; a shipped one is hidden instead.

        Also removes a reference that is damaged on disk, for which everything else raises."""
        with self._changing():
            try:
                reference = self.get(id)
            except MismatchError:
                raise
            except ResourceError:
                if self._tables[0][0].delete("id", id):
                    return "removed"
                raise
            if reference.origin == "shipped":
                self.hide(id)
                return "hidden"
            self._tables[0][0].delete("id", id)
            self._overlay_file.delete("clip_sha256", reference.clip_sha256)
            self._files.forget(reference.clip_sha256)
            return "removed"

    def relabel(self, id: str, label: Label, description: str | None = None) -> Reference:
        """Correct a reference. Without a ``description`` the old one stays, unless the label changed: then it argues
        for the wrong label and is emptied."""
        with self._changing():
            old = self.get(id)
            if description is None:
                description = old.description if label == old.label else ""
            new = checked(dataclasses.replace(old, label=label, description=description, corrected=True))
            if old.origin == "user":
                self._write([new])
            else:
                change = Change(new.clip_sha256, old.hidden, new.label, new.description)
                self._overlay_file.upsert(changes_to_table([change]), "clip_sha256")
            return self.get(id)

    def hide(self, id: str) -> None:
        """Leave the reference out of searches; corrections stay."""
        with self._changing():
            old = self.get(id)
            change = Change(old.clip_sha256, hidden=True)
            if old.origin == "shipped" and old.corrected:
                change = dataclasses.replace(change, label=old.label, description=old.description)
            self._overlay_file.upsert(changes_to_table([change]), "clip_sha256")

    def restore(self, id: str) -> None:
        """Show the reference again; a shipped one as it was shipped, without its correction."""
        with self._changing():
            self._overlay_file.delete("clip_sha256", self.get(id).clip_sha256)

    def export(self, path: Path, *, origin: Origin | None = None) -> Exported:
        """Write the visible references as annotations in the source's format to ``path``, and copy the clips that
        are there into ``<name>_clips`` beside it. A reference without a clip is written all the same; its metadata
        says ``"clip": "absent"``."""
        return export_references([r for r in self._current().visible if origin in (None, r.origin)], Path(path))

    def _current(self) -> _Snapshot:
        """What is on disk now. Two threads may read it at the same time; either result is right."""
        marks = (self._overlay_file.mark(), *(table.mark() for table, _ in self._tables))
        snapshot = self._snapshot
        if snapshot is None or snapshot.marks != marks:
            snapshot = self._load(marks)
            self._snapshot = snapshot
        return snapshot

    def _load(self, marks: tuple[Any, ...]) -> _Snapshot:
        self._require_provenance()
        overlay = self._overlay_file.read()
        changes = {} if overlay is None else {change.clip_sha256: change for change in table_to_changes(overlay)}
        by_clip: dict[str, Reference] = {}
        for table, origin in self._tables:
            rows = table.read()
            for reference in [] if rows is None else table_to_references(rows, table.folder, origin):
                by_clip.setdefault(reference.clip_sha256, _changed(reference, changes.get(reference.clip_sha256)))
        ordered = sorted(by_clip.values(), key=lambda reference: reference.id)
        visible = tuple(reference for reference in ordered if not reference.hidden)
        return _Snapshot(marks, {r.id: r for r in ordered}, visible, _unit_rows(visible))

    def _require_provenance(self) -> None:
        for table, origin in self._tables:
            stored = table.provenance()
            if stored is not None:
                require_provenance(stored, self._provenance, table.folder, origin)

    def _ranked(self, vector: ArrayLike, exclude_sha256: str | None) -> Sequence[tuple[Reference, float]]:
        """All visible references but the excluded clip, with their cosine, most similar first, equal ones by id.
        Cosines are rounded to six digits, so that the order does not hang on how a product was summed."""
        query = checked_vector(vector, "The clip")
        snapshot = self._current()
        if not snapshot.visible:
            return []
        require_dimension(query, snapshot.matrix.shape[1], "The clip")
        cosines = np.clip(np.round(snapshot.matrix @ _unit(query), 6), -1.0, 1.0)
        order = np.argsort(-cosines, kind="stable")
        pairs = ((snapshot.visible[i], float(cosines[i])) for i in order)
        return [pair for pair in pairs if pair[0].clip_sha256 != exclude_sha256]

    def _hit(self, reference: Reference, similarity: float) -> Hit:
        clip = reference.clip_path
        return Hit(
            id=reference.id,
            label=reference.label,
            similarity=similarity,
            description=reference.description,
            origin=reference.origin,
            clip_path=clip if clip is not None and os.path.isfile(clip) else None,
            thumbnail_path=self._files.thumbnail(reference),
        )

    def _write(self, references: Sequence[Reference]) -> None:
        self._tables[0][0].upsert(references_to_table(references, self._user, self._provenance), "clip_sha256")

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with writing(self._lock):
            yield


def create_shipped(folder: Path, references: Iterable[Reference], provenance: Provenance) -> None:
    """Write a shipped library into ``folder``: one version, one data file. Left untouched where it already holds
    exactly this, so that a rebuild that changed nothing changes no file.

    Clips outside ``folder`` are not recorded: their paths mean nothing on another machine."""
    folder = Path(folder).absolute()
    given = sorted(map(checked, references), key=lambda reference: reference.id)
    if not given:
        raise InputError("A shipped library needs at least one reference.")
    _require_comparable(given, _Snapshot((), {}, (), np.zeros((0, 0), np.float32)))
    if len({reference.clip_sha256 for reference in given}) < len(given):
        raise InputError("Two references of the shipped library are the same clip; keep one.")
    kept = [r if _inside(r.clip_path, folder) else dataclasses.replace(r, clip_path=None) for r in given]
    rows = references_to_table(kept, folder, provenance)
    old = LanceFile(folder, TABLE)
    if old.provenance() == provenance:
        stored = old.read()
        if stored is not None and stored.column(DIGEST).to_pylist() == rows.column(DIGEST).to_pylist():
            return
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as fresh:
        LanceFile(Path(fresh), TABLE).upsert(rows, "clip_sha256")
        shutil.rmtree(folder / f"{TABLE}.lance", ignore_errors=True)
        os.replace(Path(fresh) / f"{TABLE}.lance", folder / f"{TABLE}.lance")
    # Git must never take a table's files for text and change their line ends on a checkout.
    (folder / ".gitattributes").write_text("*.lance/** -text -diff\n", encoding="utf-8", newline="\n")


def _changed(reference: Reference, change: Change | None) -> Reference:
    """``reference`` under the user's overlay."""
    if change is None:
        return reference
    label, description = change.label or reference.label, change.description
    description = reference.description if description is None else description
    corrected = reference.corrected or (label, description) != (reference.label, reference.description)
    return dataclasses.replace(
        reference, label=label, description=description, hidden=change.hidden, corrected=corrected
    )


def _updated(old: Reference, new: Reference) -> Reference:
    """A user's reference whose clip was added again."""
    return dataclasses.replace(
        new,
        id=old.id,
        clip_path=new.clip_path or old.clip_path,
        thumbnail=new.thumbnail or old.thumbnail,
        metadata={**old.metadata, **new.metadata},
        corrected=old.corrected or new.label != old.label,
    )


def _require_comparable(rows: Sequence[Reference], there: _Snapshot) -> None:
    """Refuse rows of different dimensions, and ids that another clip has."""
    owner = {reference.id: reference.clip_sha256 for reference in there.references.values()}
    everyone = [*there.references.values(), *rows]
    for row in rows:
        require_dimension(row.vector, everyone[0].vector.shape[0], f"Reference {row.id!r}")
        if owner.setdefault(row.id, row.clip_sha256) != row.clip_sha256:
            raise InputError(f"Another clip already has the id {row.id!r}; choose another or leave it empty.")


def _require_positive(k: int) -> None:
    if k < 1:
        raise InputError(f"{k} references were asked for; ask for at least 1.")


def _unit_rows(references: Sequence[Reference]) -> NDArray[np.float32]:
    """(N, D) float32, each row of length 1."""
    if not references:
        return np.zeros((0, 0), np.float32)
    return _unit(np.stack([reference.vector for reference in references]))


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """``vectors`` (…, D) scaled to length 1, summed in double precision."""
    exact = vectors.astype(np.float64)
    return (exact / np.linalg.norm(exact, axis=-1, keepdims=True)).astype(np.float32)


def _inside(clip: str | None, folder: Path) -> bool:
    return clip is not None and Path(os.path.abspath(clip)).is_relative_to(folder)
