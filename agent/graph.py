"""The analysis as a LangGraph ``StateGraph``, and ``analyze``, which runs it and yields typed events.

mounting: START → inspect → retrieve → classify (one branch per variant) → report → END
quality:  START → inspect → grade (one branch per variant) → quality_report → END
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, cast

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from agent import nodes, quality_nodes
from agent.deps import AnalysisServices, Cancellation, RunContext
from agent.events import Event, Failed, Finished
from agent.state import AnalysisState
from services.errors import HerdLensError
from services.schema import Request

log = logging.getLogger(__name__)


def build_graph(
    checkpointer: BaseCheckpointSaver[Any] | None = None,
) -> CompiledStateGraph[AnalysisState, RunContext, AnalysisState, AnalysisState]:
    """The compiled graph; services arrive with each run through the runtime context."""
    graph = StateGraph(AnalysisState, context_schema=RunContext)
    graph.add_node("inspect", nodes.inspect)
    graph.add_node("retrieve", nodes.retrieve)
    graph.add_node("classify", nodes.classify)
    graph.add_node("report", nodes.report)
    graph.add_node("grade", quality_nodes.grade)
    graph.add_node("quality_report", quality_nodes.report)
    graph.add_edge(START, "inspect")
    graph.add_conditional_edges("inspect", quality_nodes.route, ["retrieve", "grade"])
    graph.add_conditional_edges("retrieve", nodes.fan_out, ["classify"])
    graph.add_edge("classify", "report")
    graph.add_edge("report", END)
    graph.add_edge("grade", "quality_report")
    graph.add_edge("quality_report", END)
    return graph.compile(checkpointer=checkpointer)


def analyze(request: Request, services: AnalysisServices, cancelled: Cancellation) -> Iterator[Event]:
    """Run one analysis; the last event is exactly one ``Finished`` or ``Failed``. Nothing is raised."""
    try:
        context = RunContext(services=services, cancelled=cancelled)
        stream = build_graph().stream(
            {"request": request}, context=context, stream_mode=["custom", "values"], config={"callbacks": []}
        )
        report = None
        for part in stream:
            mode, value = cast(tuple[str, Any], part)
            if mode == "custom":
                yield value
            else:
                report = value.get("report", report)
        if report is None:
            raise RuntimeError("the graph ended without a report")
        yield Finished(report)
    except HerdLensError as error:
        yield Failed(str(error), error.exit_status)
    except Exception as error:
        log.exception("analysis failed")
        yield Failed(f"Something went wrong inside HerdLens ({type(error).__name__}); see the log for details.", 1)
