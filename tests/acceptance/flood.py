"""Users who send what a seed says and record every outcome: ok, fail (surely nothing kept) or unknown."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.acceptance.history import Document, History

DATABASE = "chaos"
JSON = {"content-type": "application/json"}
PATCH = {"content-type": "application/merge-patch+json"}
FRESH = {"cache-control": "no-cache"}
REPEAT_AFTER_S = 0.1


@dataclass(frozen=True)
class Users:
    """How many of each kind, and how long each thinks between two requests on average (s)."""

    data: int = 8  # GET /api/data, five reads and five writes
    orders: int = 4  # POST under an Idempotency-Key, repeated until it is accepted
    editors: int = 4  # PUT, PATCH, DELETE and GET of a document of their own
    think_s: float = 0.1


@dataclass(frozen=True)
class Answer:
    """How one request ended. `status` is 0 when there was no answer."""

    outcome: str
    status: int = 0
    text: str = ""

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.text)
        return found


class Flood:
    """One run of all users. `answers.log` in its folder is what `loadtests/verify.py` reads."""

    def __init__(self, url: str, folder: Path, seed: int, users: Users | None = None) -> None:
        self.outcomes: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self.odd: list[str] = []  # answers that are not of the contract
        self.accepted_at: list[float] = []  # monotonic s at which each accepted request was sent
        self.history = History()
        self.users = users or Users()
        # FerretDB answers nothing about a part of a collection quickly: each flood has its own
        self.orders, self.edits = f"orders-{seed}-{folder.name}", f"edits-{seed}-{folder.name}"
        self._url = url
        self._folder = folder
        self._seed = seed

    async def run(self, end: asyncio.Event) -> None:
        """Load until `end` is set; every user finishes the request it has begun."""
        self._folder.mkdir(parents=True, exist_ok=True)
        limits = httpx.Limits(max_connections=None)
        with (self._folder / "answers.log").open("w") as record:
            record.write(f"started {int(time.time() * 1000)}\n")
            async with httpx.AsyncClient(base_url=self._url, timeout=30, limits=limits, trust_env=False) as session:
                users = [
                    *(self._reader_writer(session, record.write, end, n) for n in range(self.users.data)),
                    *(self._orderer(session, end, n) for n in range(self.users.orders)),
                    *(self._editor(session, end, n) for n in range(self.users.editors)),
                ]
                await asyncio.gather(*users)
            stopped = int(time.time() * 1000)
            record.write(f"stopped {stopped} {json.dumps(await asyncio.to_thread(self._status))}\n")

    async def _reader_writer(self, session: httpx.AsyncClient, write: Any, end: asyncio.Event, user: int) -> None:
        dice = random.Random(f"{self._seed} data {user}")
        while not end.is_set():
            await self._think(dice)
            answer = await self._send(session, "GET", "/api/data")
            if answer.outcome == "ok":
                write(answer.text.replace("\n", " ") + "\n")
            else:
                write(f"{'refused' if answer.outcome == 'fail' else 'unknown'} {answer.status} 0\n")

    async def _orderer(self, session: httpx.AsyncClient, end: asyncio.Event, user: int) -> None:
        dice = random.Random(f"{self._seed} orders {user}")
        path, number = f"/v1/{DATABASE}/{self.orders}", 0
        while not end.is_set():
            await self._think(dice)
            number += 1
            key, repeats = f"{self._seed}-{user}-{number}", dice.choice((0, 0, 0, 1))
            body = json.dumps({"order": key, "sum": dice.randrange(1000)})
            while not end.is_set():
                answer = await self._send(session, "POST", path, body, {**JSON, "idempotency-key": key})
                self.history.ordered(key, answer.outcome, answer.json["id"] if answer.outcome == "ok" else "")
                if answer.outcome == "ok":
                    repeats -= 1
                    if repeats < 0:
                        break
                await asyncio.sleep(REPEAT_AFTER_S)

    async def _editor(self, session: httpx.AsyncClient, end: asyncio.Event, user: int) -> None:
        dice = random.Random(f"{self._seed} edits {user}")
        life, version = 0, 0
        document: Document | None = None
        while not end.is_set():
            await self._think(dice)
            version += 1
            id = f"{user}-{life}"
            path = f"/v1/{DATABASE}/{self.edits}/{id}"
            what = dice.choice(("PUT", "PUT", "PATCH", "PATCH", "DELETE")) if document is not None else "PUT"
            if what == "PUT":
                after: Document | None = {"version": version}
                answer = await self._send(session, "PUT", path, json.dumps(after), JSON)
            elif what == "PATCH":
                change = {"version": version, f"mark{dice.randrange(4)}": version}
                after = {**(document or {}), **change}
                answer = await self._send(session, "PATCH", path, json.dumps(change), PATCH)
            else:
                after = None
                answer = await self._send(session, "DELETE", path)
            if not self.history.edited(id, answer.outcome, after):
                life, document = life + 1, None
            elif answer.outcome == "ok":
                document = after
                if dice.random() < 0.2:
                    await self._look(session, path, id)

    async def _look(self, session: httpx.AsyncClient, path: str, id: str) -> None:
        answer = await self._send(session, "GET", path, headers=FRESH, absent=404)
        if answer.outcome == "ok":
            self.history.read(id, answer.json if answer.status == 200 else None)

    async def _think(self, dice: random.Random) -> None:
        await asyncio.sleep(dice.uniform(0, 2 * self.users.think_s))

    async def _send(
        self,
        session: httpx.AsyncClient,
        method: str,
        path: str,
        body: str | None = None,
        headers: dict[str, str] | None = None,
        absent: int = 0,
    ) -> Answer:
        """Once: this client repeats nothing by itself. `absent` is one more status that is a good answer."""
        sent = time.monotonic()
        try:
            found = await session.request(method, path, content=body, headers=headers)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            answer = Answer("fail")  # no connection was made, so nothing was sent
        except httpx.HTTPError:
            answer = Answer("unknown")
        else:
            answer = self._answer(found, absent)
        self.outcomes[answer.outcome] += 1
        if answer.outcome == "ok":
            self.accepted_at.append(sent)
        elif answer.outcome == "fail":
            await asyncio.sleep(0.05)
        return answer

    def _answer(self, found: httpx.Response, absent: int) -> Answer:
        status, text = found.status_code, found.text
        self.statuses[status] += 1
        if status in (200, 201, 202, absent):
            return Answer("ok", status, text)
        promised = (429, 503, 504)
        if status not in promised or found.headers.get("content-type") != "application/problem+json":
            self.odd.append(f"{found.request.method} {found.request.url.path}: {status} {text[:120]!r}")
        refused = status == 503 or 400 <= status < 499  # 499 is Serve's, and it does not know how far the request got
        return Answer("fail" if refused else "unknown", status, text)

    def _status(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = httpx.get(f"{self._url}/v1/status", timeout=10, trust_env=False).json()
            return found
        except (httpx.HTTPError, ValueError):  # the verifier waits for the drain by itself
            return {}
