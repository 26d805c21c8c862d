"""What the command line and the run learn of the service. No socket is opened."""

from __future__ import annotations

import http.client
import io
import json
import urllib.error
from email.message import Message
from typing import Any

import pytest

from cluster import telegraph

URL = "http://service"


class Answer(io.BytesIO):
    status = 200
    headers = Message()


class Cut(Answer):
    """The front door is killed in the middle of its answer."""

    def read(self, *_: Any) -> bytes:
        raise http.client.IncompleteRead(b"{")


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[io.BytesIO | Exception]:
    """The service's next answers."""
    coming: list[io.BytesIO | Exception] = []

    class Opener:
        def open(self, *_: Any, **__: Any) -> io.BytesIO:
            answer = coming.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

    monkeypatch.setattr(telegraph, "_OPENER", Opener())
    return coming


def said(body: Any) -> Answer:
    return Answer(json.dumps(body).encode())


def test_a_status_that_is_none_or_breaks_off_is_no_status(answers: list[io.BytesIO | Exception]) -> None:
    refused = urllib.error.HTTPError(URL, 503, "", Message(), io.BytesIO(b'{"status": 503}'))
    answers += [Cut(), Answer(b"{"), said([]), OSError("refused"), refused, said({"ready": False})]
    assert [telegraph.status(URL) for _ in range(6)] == [None] * 5 + [{"ready": False}]
