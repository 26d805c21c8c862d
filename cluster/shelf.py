"""The dead letters of a running service, asked for over HTTP: page after page, with patience."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from cluster import telegraph
from cluster.telegraph import Reply

PATIENCE_S = 60.0  # how long a service that has a fault is asked again; a full queue is waited for without end
LONGEST_PAUSE_S = 60.0  # the most that our own Retry-After says; one of a proxy in between may say anything


class Refused(Exception):
    """The service does not do it; the message says why, for people."""


class Span(NamedTuple):
    """A part of the shelf that stays the same whatever comes meanwhile, and the letters on the shelf when it was
    taken."""

    after: str  # what the service calls it
    end: str
    size: int


class Shelf:
    """Stateless on both sides: whoever stops in the middle has done the pages so far, and may begin again."""

    def __init__(
        self,
        base_url: str,
        ask: Callable[[str, str], Reply] = telegraph.ask,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = f"{base_url.rstrip('/')}/v1/dead-letters"
        self._ask = ask
        self._sleep = sleep
        self._monotonic = monotonic

    def span(self, start: str = "0-0") -> Span:
        """From `start`, the end of another span or the beginning, to the newest letter there is. Raises `Refused`."""
        page = self._one("GET", f"{self._url}?limit=1").body
        return Span(f"{start}_{page['end']}", page["end"], page["size"])

    def show(self, id_: str) -> dict[str, Any]:
        """Raises `Refused`."""
        return self._one("GET", f"{self._url}/{quote(id_)}").body

    def replay(self, id_: str) -> None:
        """Raises `Refused`."""
        self._one("POST", f"{self._url}/{quote(id_)}/replay")

    def discard(self, id_: str) -> None:
        """Raises `Refused`."""
        self._one("DELETE", f"{self._url}/{quote(id_)}")

    def pages(
        self,
        act: str,
        selection: dict[str, str],
        limit: int,
        waiting: Callable[[str], None] = lambda why: None,
        span: Span | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Every page of what `selection` means, listed (`act` is empty), replayed or discarded before it is given; of
        what was there when the first was asked for, or in `span`.

        Waits while the queue is full, with smaller pages, and a minute for a service that has a fault; `waiting` hears
        why, and an empty text when it goes on. A page without an answer is asked for again: doing it twice is
        harmless. Raises `Refused`.
        """
        method, url = ("POST", f"{self._url}/{act}") if act else ("GET", self._url)
        after, size = span.after if span else "", limit
        give_up_s: float | None = None
        while True:
            query = selection | {"limit": str(size)} | ({"after": after} if after else {})
            reply = self._try(method, f"{url}?{urlencode(query)}")
            if reply.status == 200:
                waiting("")
                yield reply.body
                after, size, give_up_s = reply.body["next"] or "", min(limit, size * 2), None
                if not after:
                    return
                continue
            if reply.body.get("code") == "queue-full":
                size, give_up_s = max(1, size // 2), None
            elif reply.status < 500:
                raise Refused(_sentence(reply))
            else:
                give_up_s = give_up_s or self._monotonic() + PATIENCE_S
                if self._monotonic() >= give_up_s:
                    raise Refused(_sentence(reply))
            waiting(_sentence(reply))
            self._sleep(min(LONGEST_PAUSE_S, max(1.0, reply.retry_after_s)))

    def _one(self, method: str, url: str) -> Reply:
        reply = self._try(method, url)
        if reply.status >= 300:
            raise Refused(_sentence(reply))
        return reply

    def _try(self, method: str, url: str) -> Reply:
        try:
            return self._ask(method, url)
        except ConnectionError as error:
            return Reply(599, {"detail": str(error)}, 0.0)


def _sentence(reply: Reply) -> str:
    detail = str(reply.body.get("detail") or f"The service answered {reply.status}.")
    field = reply.body.get("field")
    return f"{field}: {detail}" if field else detail
