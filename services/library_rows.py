"""Rows of the reference library: what a reference is, what may enter, and how it lies in an Arrow table.

Each row stores the SHA-256 of its other columns, because LanceDB reads a flipped byte without a word.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from services.errors import InputError, MismatchError, ModelError
from services.schema import LABELS, Label, Provenance

Origin = Literal["shipped", "user"]

DIGEST = "digest"
PROVENANCE = b"herdlens.provenance"
MAX_DESCRIPTION = 4000
MAX_THUMBNAIL_BYTES = 256 * 1024
MAX_METADATA_CHARS = 20_000
SMALLEST_NORM = 1e-6
"""Vectors shorter than this have no direction worth comparing; the embedder's have length 1."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_ANSWER_LINE = re.compile(r"\A\s*answer\s*:\s*(?:yes|no)\b[^\n]*\n?", re.IGNORECASE)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Reference:
    """A labelled clip of the library.

    ``vector``: (D,) float32, its embedding. ``description``: the reason, without an answer line. ``clip_path``:
    absolute, None where the clip's file is not kept. ``thumbnail``: JPEG bytes. ``metadata``: JSON values.
    ``hidden``: left out of searches. ``corrected``: the label or description is not the first one."""

    id: str
    label: Label
    description: str
    clip_sha256: str
    vector: NDArray[np.float32]
    origin: Origin = "user"
    clip_path: str | None = None
    thumbnail: bytes | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    hidden: bool = False
    corrected: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """What the user's overlay says about the clip of this digest; None: as it was."""

    clip_sha256: str
    hidden: bool = False
    label: Label | None = None
    description: str | None = None


OVERLAY_SCHEMA = pa.schema(
    [
        pa.field("clip_sha256", pa.string()),
        pa.field("hidden", pa.bool_()),
        pa.field("label", pa.string()),
        pa.field("description", pa.string()),
        pa.field(DIGEST, pa.string()),
    ]
)


def reference_id(clip_sha256: str) -> str:
    """The id of a user's reference that was not given one."""
    return f"user-{clip_sha256[:12]}"


def checked(reference: Reference) -> Reference:
    """``reference`` as it may be stored: id filled in, description without an answer line, vector (D,) float32.

    Raises InputError for values out of bounds, ModelError for a vector without a direction."""
    who = f"Reference {reference.id or reference.clip_sha256[:12]!r}"
    if not isinstance(reference.clip_sha256, str) or not _SHA256.fullmatch(reference.clip_sha256):
        raise InputError(f"{who} has clip digest {reference.clip_sha256!r}; give the SHA-256 of the clip's bytes.")
    if reference.id and not _ID.fullmatch(reference.id):
        raise InputError(f"{reference.id!r} is no id; use up to 80 letters, digits, dots, dashes and underscores.")
    if reference.label not in LABELS:
        raise InputError(f"{who} is labelled {reference.label!r}; use one of {', '.join(LABELS)}.")
    description = _ANSWER_LINE.sub("", reference.description).strip()
    if len(description) > MAX_DESCRIPTION:
        raise InputError(f"{who} is described in {len(description)} characters; use at most {MAX_DESCRIPTION}.")
    picture = reference.thumbnail
    if picture is not None and (len(picture) > MAX_THUMBNAIL_BYTES or not picture.startswith(b"\xff\xd8\xff")):
        raise InputError(f"{who} has a thumbnail that is no JPEG of at most {MAX_THUMBNAIL_BYTES // 1024} KB.")
    try:
        size = len(json.dumps(dict(reference.metadata), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InputError(f"{who} has metadata that is not JSON ({error}).") from error
    if size > MAX_METADATA_CHARS:
        raise InputError(f"{who} has {size} characters of metadata; use at most {MAX_METADATA_CHARS}.")
    return dataclasses.replace(
        reference,
        id=reference.id or reference_id(reference.clip_sha256),
        description=description,
        vector=checked_vector(reference.vector, who),
        metadata=dict(reference.metadata),
    )


def checked_vector(vector: ArrayLike, who: str) -> NDArray[np.float32]:
    """(D,) float32, finite and not zero, or ModelError naming ``who``; a zero vector turned NaN would rank first."""
    array = np.ascontiguousarray(vector, dtype=np.float32)
    if array.ndim != 1 or not array.size:
        raise ModelError(f"{who} has a vector of shape {array.shape}; one row of numbers is needed.")
    if not np.isfinite(array).all() or np.linalg.norm(array.astype(np.float64)) < SMALLEST_NORM:
        raise ModelError(f"{who} has a vector without a direction (zero or not finite); embed its clip again.")
    return array


def require_dimension(vector: NDArray[np.float32], dimension: int, who: str) -> None:
    if vector.shape[0] != dimension:
        raise MismatchError(
            f"{who} has a vector of {vector.shape[0]} numbers, the library's have {dimension}; "
            "embed its clip with the library's embedder."
        )


def require_provenance(stored: Provenance, wanted: Provenance, folder: Path, origin: Origin) -> None:
    """Raise MismatchError, naming both, unless they are the same."""
    if stored == wanted:
        return
    remedy = (
        "choose the profile that it was built for, or build the shipped library again with this embedder"
        if origin == "shipped"
        else "choose the profile that made it, or export it there and add its clips again here to embed them anew"
    )
    raise MismatchError(
        f"The reference library in {folder} was embedded with {_in_words(stored)}, but this profile embeds with "
        f"{_in_words(wanted)}: {remedy}."
    )


def reference_schema(dimension: int, provenance: Provenance) -> pa.Schema:
    """Columns of a table of references with (``dimension``,) float32 vectors; provenance stands in its metadata."""
    fields = [
        pa.field("id", pa.string()),
        pa.field("label", pa.string()),
        pa.field("description", pa.string()),
        pa.field("clip_sha256", pa.string()),
        pa.field("clip_path", pa.string()),
        pa.field("thumbnail", pa.binary()),
        pa.field("metadata", pa.string()),
        pa.field("corrected", pa.bool_()),
        pa.field("vector", pa.list_(pa.float32(), dimension)),
        pa.field(DIGEST, pa.string()),
    ]
    return pa.schema(fields, metadata={PROVENANCE: json.dumps(provenance.to_json(), sort_keys=True).encode()})


def references_to_table(references: Sequence[Reference], root: Path, provenance: Provenance) -> pa.Table:
    """Rows of ``references`` (at least one); clips inside ``root`` are stored relative to it, so that it can move."""
    schema = reference_schema(references[0].vector.shape[0], provenance)
    vectors = np.stack([reference.vector for reference in references]).astype(np.float32).reshape(-1)
    columns: dict[str, Any] = {
        "id": [r.id for r in references],
        "label": [r.label for r in references],
        "description": [r.description for r in references],
        "clip_sha256": [r.clip_sha256 for r in references],
        "clip_path": [_stored_path(r.clip_path, root) for r in references],
        "thumbnail": [r.thumbnail for r in references],
        "metadata": [json.dumps(dict(r.metadata), sort_keys=True, ensure_ascii=False) for r in references],
        "corrected": [r.corrected for r in references],
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors, pa.float32()), references[0].vector.shape[0]),
    }
    return _with_digests(columns, schema)


def table_to_references(table: pa.Table, root: Path, origin: Origin) -> list[Reference]:
    """The inverse of ``references_to_table``; vectors are read-only views of one (N, D) array."""
    vectors = _vectors(table)
    vectors.setflags(write=False)
    return [
        Reference(
            id=row["id"],
            label=row["label"],
            description=row["description"],
            clip_sha256=row["clip_sha256"],
            vector=vector,
            origin=origin,
            clip_path=None if row["clip_path"] is None else os.path.abspath(root / row["clip_path"]),
            thumbnail=row["thumbnail"],
            metadata=json.loads(row["metadata"]),
            corrected=row["corrected"],
        )
        for row, vector in zip(table.drop_columns(["vector"]).to_pylist(), vectors, strict=True)
    ]


def changes_to_table(changes: Sequence[Change]) -> pa.Table:
    columns = {name: [getattr(change, name) for change in changes] for name in OVERLAY_SCHEMA.names if name != DIGEST}
    return _with_digests(columns, OVERLAY_SCHEMA)


def table_to_changes(table: pa.Table) -> list[Change]:
    return [Change(**row) for row in table.drop_columns([DIGEST]).to_pylist()]


def row_digests(table: pa.Table) -> list[str]:
    """SHA-256 of every row, over the names and values of all columns but the digest itself."""
    hashes = [hashlib.sha256() for _ in range(table.num_rows)]
    for name in table.column_names:
        if name == DIGEST:
            continue
        values = _vectors(table) if name == "vector" else table.column(name).to_pylist()
        for row, value in zip(hashes, values, strict=True):
            content = _as_bytes(value)
            row.update(f"{name}:{value is None}:{len(content)}:".encode() + content)
    return [row.hexdigest() for row in hashes]


def _with_digests(columns: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    rows = len(next(iter(columns.values())))
    table = pa.table({**columns, DIGEST: [""] * rows}, schema=schema)
    index = schema.get_field_index(DIGEST)
    return table.set_column(index, schema.field(index), pa.array(row_digests(table), pa.string()))


def _vectors(table: pa.Table) -> NDArray[np.float32]:
    """(N, D) float32, C order."""
    dimension = table.schema.field("vector").type.list_size
    flat = table.column("vector").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.array(flat, np.float32).reshape(-1, dimension)


def _as_bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, np.ndarray):
        return value.astype("<f4", copy=False).tobytes()
    return b"" if value is None else str(value).encode()


def _stored_path(clip: str | None, root: Path) -> str | None:
    if clip is None:
        return None
    absolute, inside = Path(os.path.abspath(clip)), Path(os.path.abspath(root))
    return absolute.relative_to(inside).as_posix() if absolute.is_relative_to(inside) else str(absolute)


def _in_words(provenance: Provenance) -> str:
    return (
        f"{provenance.model} (weights {provenance.weights[:12]}, {provenance.pooling}, {provenance.frames} frames, "
        f"preprocessing {provenance.preprocessing[:12]})"
    )
