"""What went wrong with a model server, as one sentence that says what to do."""

from __future__ import annotations

from openai import APIConnectionError, APIStatusError, APITimeoutError, OpenAIError

from services.errors import ModelError

START = "start it with 'make serve'"


class RequestRefused(ModelError):
    """The server understood the request and refuses it as it is (HTTP 400, 404 or 422); ``reason`` is its own."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class ServerFault(ModelError):
    """The server failed inside (HTTP 500 and the like), as some do with what they do not know."""


def told(error: OpenAIError, url: str, timeout_s: float, *, begun: bool = False) -> ModelError:
    """``error`` of the client library as an error of ours. ``begun``: the answer had begun to arrive."""
    if isinstance(error, APITimeoutError) and not unreachable(error):
        return ModelError(
            f"The model server at {url} gave no sign of life for {timeout_s:.0f} seconds; it is overloaded or stuck: "
            "look at its terminal, then try again, or raise HERDLENS_SERVER_TIMEOUT_S."
        )
    if isinstance(error, APIConnectionError):
        if begun:
            return broken_off(url)
        return ModelError(
            f"No model server answers at {url}; {START} and wait until it says that it is ready, or set "
            "HERDLENS_SERVER_URL to where one runs."
        )
    if isinstance(error, APIStatusError):
        return _status(error, url)
    # What the server reports inside a stream comes without a status.
    return ModelError(
        f"The model server at {url} failed in the middle of an answer ({_short(str(error))}); look at its terminal, "
        f"{START} if it has stopped, then analyse the clip again."
    )


def broken_off(url: str) -> ModelError:
    """An answer that ended before its end."""
    return ModelError(
        f"The connection to the model server at {url} broke off in the middle of an answer; {START} if it has "
        "stopped, then analyse the clip again."
    )


def foreign(url: str) -> ModelError:
    """Something else than a model server answers, such as a proxy that wants a log-in."""
    return ModelError(
        f"What answers at {url} is no OpenAI-compatible server; set HERDLENS_SERVER_URL to the address of one, which "
        "ends in /v1."
    )


def unreachable(error: OpenAIError) -> bool:
    """Whether not even a connection came about within its time limit, which the client library calls a timeout too."""
    return type(error.__cause__).__name__ == "ConnectTimeout"


def _status(error: APIStatusError, url: str) -> ModelError:
    status, reason = error.status_code, _reason(error)
    if status in (401, 403):
        return ModelError(
            f"The model server at {url} refuses the key; set HERDLENS_SERVER_KEY to the key that it was started with."
        )
    if status in (429, 503):
        return ModelError(
            f"The model server at {url} is overloaded or still starting (status {status}); wait a moment, then analyse "
            "the clip again."
        )
    if status == 400 and "context length" in reason:
        return RequestRefused(
            f"Question and answer do not fit into the context of the model server at {url} ({_short(reason)}); raise "
            "'context' or lower 'max_tokens' in the profile and start 'make serve' again.",
            reason,
        )
    if status in (400, 404, 413, 422):
        return RequestRefused(
            f"The model server at {url} refuses the request ({_short(reason)}); run 'python -m agent doctor', which "
            "says what the server lacks.",
            reason,
        )
    return ServerFault(
        f"The model server at {url} failed (status {status}: {_short(reason)}); look at its terminal, and {START} if "
        "it has stopped."
    )


def _reason(error: APIStatusError) -> str:
    body = error.body
    if isinstance(body, dict):
        inner = body.get("error", body)
        if isinstance(inner, dict) and inner.get("message"):
            return str(inner["message"])
    return error.message


def _short(reason: str) -> str:
    text = " ".join(reason.split()).rstrip(".")
    return text if len(text) <= 200 else text[:199] + "…"
