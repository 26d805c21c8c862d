"""What the command line and the run learn of the service. No socket is opened."""

from __future__ import annotations

import http.client
import io
import json
import urllib.error
from collections.abc import Iterator
from dataclasses import replace
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from composed import BOUNDS, Service, put
from rich.console import Console

from actors.core.errors import QueueFull
from actors.core.status import summarize
from cluster import telegraph
from cluster.embedded import ports
from cluster.embedded.child import Recipe
from cluster.embedded.claims import Claims
from cluster.embedded.steps import Steps
from cluster.parts import HEAD, Parts
from cluster.settings import load
from cluster.state import Process, Record, StateFolder

URL = "http://service:8001"
UP, SILENT = {"ready": True, "log_up": True}, {"ready": False, "last_error": "this buffer does not answer"}


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


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recipe]:
    """The head's."""
    monkeypatch.setattr(ports, "free_port", lambda *_, **__: 1)
    monkeypatch.setattr(ports, "holder", lambda _: None)
    monkeypatch.setattr(Claims, "take", lambda *_: True)
    monkeypatch.setattr(Parts, "_haproxy_wrapper", lambda _: tmp_path / "haproxy")
    folder = StateFolder(tmp_path / "state")
    folder.create()
    yield Parts(load(), folder, Record("run", Process(1, 1, "boot")), Steps(Console())).head()
    folder.sockets.rmdir()


@pytest.fixture
def direct(tmp_path: Path) -> tuple[Record, Parts]:
    """A run that has chosen its direct port."""
    record = Record("run", Process(1, 1, "boot"), direct_url=URL)
    return record, Parts(load(), StateFolder(tmp_path), record, Steps(Console()))


def said(body: Any) -> Answer:
    return Answer(json.dumps(body).encode())


def test_a_status_that_is_none_or_breaks_off_is_no_status(answers: list[io.BytesIO | Exception]) -> None:
    refused, cut = (urllib.error.HTTPError(URL, 503, "", Message(), body(b'{"status": 503}')) for body in (Answer, Cut))
    answers += [Cut(), Answer(b"{"), said([]), OSError("refused"), refused, cut, said({"ready": False})]
    assert [telegraph.status(URL) for _ in range(7)] == [None] * 6 + [{"ready": False}]


async def test_a_head_over_a_full_log_has_started(answers: list[io.BytesIO | Exception], recipe: Recipe) -> None:
    """With MongoDB away it stays full: whoever waited for room would end a healthy head again and again."""
    service = await Service(bounds=replace(BOUNDS, max_writes=1)).start()
    await service.keep(put("a"))
    with pytest.raises(QueueFull):
        await service.keep(put("b"))
    told = summarize([service.buffer.stats()], service.writer.stats())
    await service.stop()
    assert (told["ready"], told["redis"]) == (False, "up")
    answers.append(said(told))
    assert recipe.ready()


def test_a_head_has_not_started_while_another_program_has_its_port(recipe: Recipe) -> None:
    assert (recipe.port, recipe.host) == (load().http_port, load().http_host)
    assert f"SPILLWAY_HTTP_PORT={load().http_port + 1}" in recipe.other_port


@pytest.mark.parametrize("buffers", [None, [], [SILENT], [UP, SILENT], [UP, UP | {"log_up": False}]])
def test_a_head_has_not_started_before_every_buffer_answers_and_has_its_log(
    answers: list[io.BytesIO | Exception], recipe: Recipe, buffers: list[dict[str, Any]] | None
) -> None:
    answers.append(said({"ready": False, "buffers": buffers}))
    assert not recipe.ready()


def test_a_direct_port_that_answers_is_told_of(
    answers: list[io.BytesIO | Exception], direct: tuple[Record, Parts]
) -> None:
    record, parts = direct
    answers.append(said({"ready": False}))
    parts.ask_direct_port()
    assert record.direct_url == URL


def test_a_direct_port_that_another_service_shares_is_not_told_of(
    answers: list[io.BytesIO | Exception], direct: tuple[Record, Parts], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose answer is as good as ours."""
    record, parts = direct
    others: dict[tuple[int, str, int], str] = {}
    monkeypatch.setattr(ports, "intruder", lambda *where: others.get(where))
    record.parts[HEAD] = Process(7, 1, "boot")
    for told in (URL, None):
        answers.append(said({"ready": True}))
        parts.ask_direct_port()
        assert record.direct_url == told
        others[int(URL.rpartition(":")[2]), load().http_host, 7] = "python (pid 9)"


@pytest.mark.parametrize("stranger", [Answer(b"<html>"), OSError("refused")])
def test_a_direct_port_that_another_program_has_taken_is_not_told_of(
    answers: list[io.BytesIO | Exception],
    direct: tuple[Record, Parts],
    stranger: io.BytesIO | Exception,
    capsys: pytest.CaptureFixture[str],
) -> None:
    record, parts = direct
    answers.append(stranger)
    parts.ask_direct_port()
    assert record.direct_url is None
    assert f"the direct port {URL} does not answer" in capsys.readouterr().out
