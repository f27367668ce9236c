"""What the server engine prepares and reads, without a server: media, options, sentences."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from services.chat.chat_model import Prompt
from services.chat.server_client import ATTEMPTS, ServerClient
from services.chat.server_payload import Payloads, turns_with
from services.chat.server_score import beginnings
from services.dialog import load_dialog, messages, resize
from services.errors import Cancelled, ModelError
from services.schema import Frames
from services.settings import ROOT, profile

DEMO = profile("demo")
DIALOG = load_dialog(ROOT / "assets/demo/base", DEMO.sampling, DEMO.min_pixels, DEMO.max_pixels)


def test_frames_are_sent_resized_and_without_loss(frames: Frames) -> None:
    (medium,) = Payloads(DIALOG.rule).media(Prompt(messages("?"), ["key"], [frames]), exact=True)
    (part,) = medium.parts
    sent = part["video_url"]["url"].removeprefix("data:video/jpeg;base64,").split(",")
    pictures = [np.asarray(Image.open(BytesIO(base64.b64decode(picture)))) for picture in sent]
    assert np.array_equal(np.stack(pictures), resize(frames.rgb, DIALOG.rule).permute(0, 2, 3, 1).numpy())


def test_times_are_sent_to_the_millisecond(frames: Frames) -> None:
    odd = Frames(frames.rgb[:2], np.array([0.1234, 7.0006]))
    (medium,) = Payloads(DIALOG.rule).media(Prompt(messages("?"), ["key"], [odd]), exact=True)
    sampling = medium.settings["media_io_kwargs"]["video"]
    assert (sampling["frames_indices"], sampling["fps"], sampling["do_sample_frames"]) == ([123, 7001], 1000, False)


def test_the_same_pictures_at_other_times_have_another_id(frames: Frames) -> None:
    payloads = Payloads(DIALOG.rule)
    later = Frames(frames.rgb, frames.pts_s + 1.0)
    ids = [
        payloads.media(Prompt(messages("?"), [key], [clip]), exact=True)[0].id
        for key, clip in (("a", frames), ("b", later), ("c", frames))
    ]
    assert ids[0] != ids[1] and ids[0] == ids[2]


def test_media_that_the_server_has_are_only_named(frames: Frames) -> None:
    prompt = Prompt(messages("?"), ["key"], [frames])
    media = Payloads(DIALOG.rule).media(prompt, exact=True)
    (turn,) = turns_with(prompt, media, known=lambda name: name == media[0].id)
    assert turn["content"][0] == {"type": "video_url", "video_url": None, "uuid": media[0].id}


def test_a_server_without_frame_times_gets_pictures_with_their_times_as_text(frames: Frames) -> None:
    (medium,) = Payloads(DIALOG.rule).media(Prompt(messages("?"), ["key"], [frames]), exact=False)
    assert [part.get("text") for part in medium.parts[::2]] == [f"<{t:.1f} seconds>" for t in frames.pts_s]
    assert medium.settings == {} and medium.named == medium.parts


def test_options_share_their_beginnings() -> None:
    assert beginnings([(5, 1, 2), (5, 3, 2), (5, 3, 4, 2)]) == {
        (): [5],
        (5,): [1, 3],
        (5, 1): [2],
        (5, 3): [2, 4],
        (5, 3, 4): [2],
    }


@contextmanager
def answering(*statuses: int) -> Iterator[tuple[str, list[int]]]:
    """An HTTP server that gives ``statuses`` one after the other (the last for ever); a real overloaded vLLM cannot be
    made on demand. Yields its address and what it has given."""
    given: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status = statuses[min(len(given), len(statuses) - 1)]
            given.append(status)
            body = b'{"object": "list", "data": []}' if status == 200 else b'{"error": {"message": "busy"}}'
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", given
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("status", [429, 503])
def test_an_overloaded_server_is_asked_again(status: int) -> None:
    with answering(status, status, 200) as (url, given):
        client = ServerClient(url, None, 30.0)
        assert client.wait(client.models()) == []
        client.close()
    assert given == [status, status, 200]


def test_a_server_that_stays_overloaded_is_told_after_bounded_tries() -> None:
    with answering(503) as (url, given):
        client = ServerClient(url, None, 30.0)
        with pytest.raises(ModelError, match="overloaded") as told:
            client.wait(client.models())
        client.close()
    assert len(given) == ATTEMPTS and told.value.exit_status == 3


@pytest.mark.parametrize(("status", "words"), [(401, "HERDLENS_SERVER_KEY"), (500, "make serve"), (400, "doctor")])
def test_what_trying_again_cannot_help_is_told_at_once(status: int, words: str) -> None:
    with answering(status) as (url, given):
        client = ServerClient(url, None, 30.0)
        with pytest.raises(ModelError, match=words):
            client.wait(client.models())
        client.close()
    assert given == [status]


def test_a_cancel_ends_the_wait_for_a_server_that_is_not_there() -> None:
    client = ServerClient("http://127.0.0.1:9/v1", None, 30.0)
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    with pytest.raises(Cancelled):
        client.wait(client.models(), stop.is_set)
    client.close()
