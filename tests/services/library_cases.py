"""What the tests of the reference library share: small references and folders."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from services.library import Reference, create_shipped
from services.schema import Provenance

HERE = Provenance("tiny-videomae", "a" * 64, "mean", 16, "b" * 64)
OTHER = replace(HERE, weights="c" * 64)
JPEG = b"\xff\xd8\xff\xe0 a picture"
ROOT = Path(__file__).parents[2]
OUTSIDE = f"""
    import sys; sys.path.insert(0, {str(ROOT)!r})
    import hashlib, os
    import numpy as np
    from pathlib import Path
    from services.library import Library, Reference
    from services.schema import Provenance
    HERE = Provenance(*{(HERE.model, HERE.weights, HERE.pooling, HERE.frames, HERE.preprocessing)!r})
    def ref(name, vector):
        digest = hashlib.sha256(name.encode()).hexdigest()
        vector = np.asarray(vector, np.float32)
        return Reference(id=name, label="normal", description="", clip_sha256=digest, vector=vector)
"""
"""How the code of another process begins."""


def sha(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def ref(name: str, vector: Any, label: Any = "normal", **fields: Any) -> Reference:
    return Reference(
        id=fields.pop("id", name),
        label=label,
        description=fields.pop("description", f"about {name}"),
        clip_sha256=fields.pop("clip_sha256", sha(name)),
        vector=np.asarray(vector, np.float32),
        **fields,
    )


def tree(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def ids(hits: Any) -> list[str]:
    """Ids of hits or references, in their order."""
    return [hit.id for hit in hits]


def three(folder: Path) -> Path:
    """A shipped library: m (mounting) at 0°, n (normal) at 60°, far (normal) at 120°."""
    turn = [(np.cos(a), np.sin(a), 0) for a in np.radians((0, 60, 120))]
    references = [ref("m", turn[0], "mounting", thumbnail=JPEG), ref("n", turn[1])]
    create_shipped(folder, [*references, ref("far", turn[2], metadata={"light": "Night"})], HERE)
    return folder
