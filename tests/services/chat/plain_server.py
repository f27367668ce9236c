"""A small OpenAI-compatible server of its own kind, in a process of its own: what other servers than vLLM do.

    python -m tests.services.chat.plain_server KIND [PORT]

prints its address and answers until it is ended. KIND:

- ``plain``   takes pictures, refuses videos, knows no log-probabilities and drops settings that it does not know
- ``strict``  as ``plain``, and refuses every setting that is not in OpenAI's reference, as OpenAI's own service does
- ``failing`` as ``plain``, but what it does not know is an internal error (500)
- ``foreign`` as ``plain``, with log-probabilities in a form of its own
- ``blind``   takes words only
- ``unparsed`` as ``plain``, and answers beside the question
- ``memory``  reports in the middle of an answer that memory ran out
- ``cut``     closes the connection in the middle of an answer
- ``slow``    writes a word every half second
- ``full``    lists its models and is too busy for every question
- ``page``    a web page at every address, as a proxy's log-in does
"""

from __future__ import annotations

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "assets/demo/base"
SAYS = {"unparsed": "A cow stands in the barn."}
ANSWER = "A cow climbs onto another.\nStatus: Mounting"
KNOWN = {
    "model",
    "messages",
    "max_tokens",
    "temperature",
    "top_p",
    "stream",
    "stream_options",
    "logprobs",
    "top_logprobs",
    "logit_bias",
}


class Handler(BaseHTTPRequestHandler):
    kind = ""
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.kind == "page":
            self._whole(200, b"<html><body>Please log in</body></html>", "text/html")
        else:
            card = {"id": MODEL, "object": "model", "created": 0, "owned_by": "x"}
            self._json(200, {"object": "list", "data": [card]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.kind == "page":
            return self._whole(200, b"<html><body>Please log in</body></html>", "text/html")
        if self.kind == "full":
            return self._refuse(429, "too many requests")
        if not self.path.endswith("/chat/completions"):
            return self._refuse(404, f"no {self.path}")
        if refused := self._refused(asked):
            return self._refuse(500 if self.kind == "failing" else 400, refused)
        words = SAYS.get(self.kind, ANSWER).replace("\n", " \n").split(" ")
        pieces = [word if at == 0 or word.startswith("\n") else f" {word}" for at, word in enumerate(words)]
        if asked.get("stream"):
            return self._stream(pieces)
        choice = {"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": pieces[0]}}
        choice["logprobs"] = self._logprobs(pieces[0])
        self._json(200, {"id": "x", "object": "chat.completion", "created": 0, "model": MODEL, "choices": [choice]})

    def _refused(self, asked: dict[str, Any]) -> str:
        parts = [p for turn in asked["messages"] if isinstance(turn["content"], list) for p in turn["content"]]
        allowed = {"text"} if self.kind == "blind" else {"text", "image_url"}
        if wrong := {part["type"] for part in parts} - allowed:
            return f"unsupported content part: {', '.join(wrong)}"
        if self.kind == "strict" and (unknown := set(asked) - KNOWN):
            return f"unrecognized request arguments: {', '.join(sorted(unknown))}"
        return ""

    def _logprobs(self, piece: str) -> Any:
        if self.kind != "foreign":
            return None
        return {"content": [{"token": piece, "logprob": -0.1, "bytes": None, "top_logprobs": None}]}

    def _stream(self, pieces: list[str]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for at, piece in enumerate(pieces):
            if at == 2 and self.kind == "cut":
                self.close_connection = True
                self.connection.shutdown(2)
                return
            if at == 2 and self.kind == "memory":
                self._event({"error": {"message": "CUDA out of memory", "type": "server_error", "code": 500}})
                break
            if self.kind == "slow":
                time.sleep(0.5)
            self._event(self._piece({"content": piece}, None))
        else:
            self._event(self._piece({}, "stop"))
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def _piece(self, delta: dict[str, str], reason: str | None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": MODEL, "choices": [choice]}

    def _event(self, value: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(value)}\n\n".encode())
        self.wfile.flush()

    def _refuse(self, status: int, reason: str) -> None:
        self._json(status, {"error": {"message": reason, "type": "invalid_request_error"}})

    def _json(self, status: int, value: dict[str, Any]) -> None:
        self._whole(status, json.dumps(value).encode(), "application/json")

    def _whole(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        return


def main(kind: str, port: str = "0") -> None:
    Handler.kind = kind
    server = ThreadingHTTPServer(("127.0.0.1", int(port)), Handler)
    print(f"http://127.0.0.1:{server.server_port}/v1", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
