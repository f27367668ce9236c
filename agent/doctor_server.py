"""What doctor asks of a model server: is it there, is it the right one, and can it do what an analysis needs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from agent.findings import Finding, tried
from services.errors import HerdLensError
from services.schema import Task

if TYPE_CHECKING:
    from services.chat.model_server import ModelServer
    from services.model_service import ModelService

RESTART = "Start 'make serve' for this profile with this version of HerdLens."


def examine(service: ModelService, server: ModelServer) -> Iterator[Finding]:
    """One thing after the other; without a server that answers nothing more can be asked."""
    from services.chat.server_session import names_of

    try:
        found = server.features()
    except HerdLensError as error:
        yield Finding("server", False, "not usable", str(error))
        return
    yield Finding("server", True, f"{server.client.url} serves {names_of(found.served)}")
    yield tried("server's version", lambda: _version(server))
    yield tried("server's weights", lambda: f"{server.identity.weights[:12]}")
    yield _context(service, found.context)
    yield Finding(
        "frames with exact times",
        found.exact,
        "taken, and prepared as here" if found.exact else "not taken",
        "" if found.exact else RESTART,
    )
    yield Finding(
        "log-probabilities",
        found.scores,
        "given for chosen tokens" if found.scores else "not given",
        "" if found.scores else RESTART,
    )
    yield tried("server's adapters", lambda: _adapters(service, server))


def _version(server: ModelServer) -> str:
    """The server's and the pinned version of vLLM, which may differ for other servers."""
    return f"vLLM {server.version()}"


def _context(service: ModelService, context: int | None) -> Finding:
    from services.fit import context_needed

    try:
        need = context_needed(service.profile, service.base_folder)
    except HerdLensError as error:
        return Finding("context", False, "unknown", str(error))
    if context is None:
        return Finding("context", True, f"{need} tokens needed; the server does not say how many it takes")
    good = context >= need
    value = f"{context} tokens, {need} needed for the largest clip and the longest answer"
    return Finding("context", good, value, "" if good else f"Raise the profile's context to {need}. {RESTART}")


def _adapters(service: ModelService, server: ModelServer) -> str:
    """Makes every adapter that the profile may run answer once: loaded, and another than the base."""
    names = []
    tasks: tuple[Task, ...] = ("mounting", "quality")
    for task in tasks:
        for name in service.adapter_names(task):
            record = service.adapters.get(name)
            server.try_adapter(service.reference(record))
            names.append(name)
    return f"{', '.join(names)} change the base's answers" if names else "none to serve"
