"""Held-out clips: seeds from FIRST_SEED on, which training, calibration, library and samples never use.

The renderer runs as a command in a process of its own, because ``evaluation`` does not import ``training``.
"""

from __future__ import annotations

import ast
import hashlib
import json
import subprocess
import sys
from pathlib import Path

from services.errors import InputError, ResourceError
from services.settings import ROOT

FIRST_SEED = 3_000_000
CLIPS = 400
QUICK_CLIPS = 24


def require_count(clips: int, option: str = "--clips") -> None:
    """Raise InputError unless ``clips`` is a number of whole pairs of a mounting and a normal clip."""
    if clips < 2 or clips % 2:
        raise InputError(f"{option} must be an even number from 2 on (half mounting, half normal), not {clips}.")


def rendered(clips: int, folder: Path) -> Path:
    """Annotations of ``clips`` held-out clips below ``folder``, drawn unless they are there. A folder belongs to one
    state of the renderer's sources, so that clips are drawn again when these change."""
    target = folder / f"clips_{clips}_{_renderer_digest()[:8]}"
    annotations = target / "annotations.json"
    if annotations.is_file():
        return annotations
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{target} cannot be written ({error.strerror}); choose another --out.") from error
    print(f"Drawing {clips} held-out clips into {target} …", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "training.demo.render", "--clips", str(clips), "--seed", str(FIRST_SEED)]
    done = subprocess.run([*command, "--out", str(target)], cwd=ROOT, check=False)
    if done.returncode or not annotations.is_file():
        raise ResourceError(f"The renderer failed (exit status {done.returncode}); its own message stands above.")
    if len(json.loads(annotations.read_text(encoding="utf-8"))) != clips:
        raise ResourceError(f"The renderer wrote another number of clips than {clips}; remove {target} and try again.")
    return annotations


def renderer_sources() -> list[Path]:
    """The renderer and what it imports of the project, by its text: other parts of the builder may change without
    clips being drawn again."""
    waiting, found = [ROOT / "training" / "demo" / "render.py"], set[Path]()
    while waiting:
        path = waiting.pop()
        if path in found or not path.is_file():
            continue
        found.add(path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            waiting += [ROOT.joinpath(*name.split(".")).with_suffix(".py") for name in names]
    return sorted(found)


def _renderer_digest() -> str:
    found = hashlib.sha256()
    for path in renderer_sources():
        found.update(path.read_bytes())
    return found.hexdigest()
