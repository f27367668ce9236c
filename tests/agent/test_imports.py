"""What importing costs: the agent never loads torch, and help is instant work."""

from __future__ import annotations

import subprocess
import sys

import pytest

from services.settings import ROOT


def loaded_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(' '.join(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(result.stdout.split())


@pytest.mark.parametrize(
    "statement",
    ["import agent.graph, agent.nodes, agent.events", "import agent.__main__", "import services, services.settings"],
)
def test_deciding_needs_no_models(statement: str) -> None:
    assert not loaded_after(statement) & {"torch", "transformers", "streamlit", "cv2", "av", "lancedb"}


def test_help_loads_no_graph_either() -> None:
    assert "langgraph" not in loaded_after("import agent.__main__")
