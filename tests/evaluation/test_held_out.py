"""Held-out clips are drawn again when the renderer changes, and only then."""

from __future__ import annotations

import subprocess
import sys

import pytest

from evaluation.held_out import renderer_sources, require_count
from services.errors import InputError
from services.settings import ROOT


def test_the_renderers_sources_are_those_that_python_loads():
    """The modules of this project that a process has loaded after importing the renderer."""
    code = (
        "import sys, training.demo.render\n"
        "print('\\n'.join(m.__file__ for m in list(sys.modules.values())"
        " if getattr(m, '__file__', None) and not m.__file__.endswith('__init__.py')))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    rooms = ("agent", "services", "training")
    own = {p for p in loaded.stdout.split() if any(p.startswith(f"{ROOT / room}/") for room in rooms)}
    found = {str(path) for path in renderer_sources()}
    assert own <= found and str(ROOT / "training" / "demo" / "draw.py") in found
    assert not any(path.endswith(("card.py", "language.py", "build.py")) for path in found)


@pytest.mark.parametrize("clips", [0, 3, -2])
def test_a_count_without_pairs_is_refused_by_the_name_of_its_option(clips):
    with pytest.raises(InputError, match="--limit must be an even number"):
        require_count(clips, "--limit")
