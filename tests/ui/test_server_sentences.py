"""What is said about model servers speaks Korean too; fails when a sentence is changed and forgotten there."""

from __future__ import annotations

import httpx2
import pytest
from openai import APIConnectionError, APIStatusError, APITimeoutError

from services.chat.server_failures import foreign, told
from services.chat.server_session import NO_SCORES, NO_TIMES
from ui.wording import Words

URL = "http://127.0.0.1:8000/v1"
REQUEST = httpx2.Request("GET", URL)


def status(code: int) -> APIStatusError:
    return APIStatusError("busy", response=httpx2.Response(code, request=REQUEST), body=None)


@pytest.mark.parametrize(
    "sentence",
    [
        NO_SCORES,
        NO_TIMES,
        str(told(APIConnectionError(request=REQUEST), URL, 120.0)),
        str(told(APIConnectionError(request=REQUEST), URL, 120.0, begun=True)),
        str(told(APITimeoutError(request=REQUEST), URL, 120.0)),
        str(told(status(503), URL, 120.0)),
        str(foreign(URL)),
        str(told(status(401), URL, 120.0)),
    ],
)
def test_it_is_translated_with_its_values(sentence: str) -> None:
    korean = Words("ko").sentence(sentence)
    assert korean != sentence and "{" not in korean
    assert (URL in korean) == (URL in sentence)
