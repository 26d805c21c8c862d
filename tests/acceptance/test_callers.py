"""Callers that do what callers do: the same key a thousand times at once, and leaving in the middle of a request."""

from __future__ import annotations

import asyncio
import json
import random
import socket
from collections import Counter
from urllib.parse import urlsplit

import httpx

from tests.acceptance.flood import DATABASE, JSON
from tests.acceptance.service import Service
from tests.acceptance.trial import Fault, Trials

AT_ONCE = 1000
DEPARTURES = 90


def test_the_same_key_a_thousand_times_at_once_is_one_write(service: Service, trial: Trials) -> None:
    made = trial(service, "the same Idempotency-Key a thousand times at once")
    answers: list[httpx.Response] = []

    async def ask() -> None:
        # A hundred connections carry them: the test is of the key, and not of how many files this process may open.
        limits = httpx.Limits(max_connections=100)
        async with httpx.AsyncClient(base_url=service.url, timeout=60, limits=limits, trust_env=False) as session:
            path, body = f"/v1/{DATABASE}/{made.flood.orders}", json.dumps({"order": "one-for-all"})
            headers = {**JSON, "idempotency-key": "one-for-all"}
            answers.extend(
                await asyncio.gather(*(session.post(path, content=body, headers=headers) for _ in range(AT_ONCE)))
            )
        for answer in answers:
            good = answer.status_code == 202
            outcome = "ok" if good else "fail" if answer.status_code == 503 else "unknown"
            made.flood.history.ordered("one-for-all", outcome, answer.json()["id"] if good else "")

    made.run(Fault(lambda: asyncio.run(ask())))
    codes = Counter(answer.status_code for answer in answers)
    assert set(codes) <= {202, 503, 504}  # a slow machine may refuse some
    assert codes[202] > AT_ONCE / 2
    fresh = [answer for answer in answers if answer.status_code == 202 and "idempotency-replayed" not in answer.headers]
    assert len(fresh) <= 1


def test_a_caller_that_leaves_in_mid_request_makes_no_ghost(service: Service, trial: Trials) -> None:
    made = trial(service, "callers who leave in mid-request")
    dice = random.Random(made.seed)

    def leave(number: int) -> None:
        """A third each: after the headers, in the middle of the body, and with all said but before the answer."""
        key = f"left-{number}"
        body = json.dumps({"order": key, "filler": "x" * dice.randrange(1, 20_000)}).encode()
        said = (b"", body[: len(body) // 2], body)[number % 3]
        path, address = f"/v1/{DATABASE}/{made.flood.orders}", urlsplit(service.url)
        lines = [
            f"POST {path} HTTP/1.1",
            f"host: {address.netloc}",
            "content-type: application/json",
            f"idempotency-key: {key}",
            f"content-length: {len(body)}",
        ]
        with socket.create_connection((address.hostname or "", address.port or 0), timeout=10) as caller:
            caller.sendall("\r\n".join([*lines, "", ""]).encode() + said)
            if dice.random() < 0.5:  # a reset instead of a farewell
                caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        made.flood.history.ordered(key, "unknown" if said == body else "fail")

    made.run(Fault(lambda: [leave(number) for number in range(DEPARTURES)]))
