"""Writes that MongoDB refused: look, replay, discard; one of them, or page by page all that are meant."""

from __future__ import annotations

import re
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import orjson
from starlette.requests import Request

from actors.core.dead_letter import DeadLetter, Page, Selection
from actors.core.document import Kind, Write
from actors.core.errors import OutcomeUnknown, SpillwayError
from actors.core.intake import Intake
from actors.core.receipt import Receipt
from serve_app.answers import Answer, json_answer, rfc3339
from serve_app.appends import Appends
from serve_app.documents import decode, relaxed
from serve_app.errors import FAULTS, Problem
from serve_app.near_cache import NearCache
from serve_app.parameters import between, matching, query, refuse_other_sites
from serve_app.receipts import accepted, location

T = TypeVar("T")

MAX_LIMIT = 1_000
REPLAY_WAIT_S = 5.0  # longest a page of replays is followed to MongoDB
ANY_NAMESPACE = "*"
NAMESPACE_PATTERN = r"^(\*|[A-Za-z0-9_-]{1,63}\.[A-Za-z0-9_.-]{1,120})$"
REASON_PATTERN = r"^[^\x00]{1,200}$"
LETTER_PATTERN = r"^[!-.0-}]{1,200}~[0-9]{1,20}-[0-9]{1,20}~[0-9]{1,9}$"
CURSOR_PATTERN = r"^[0-9]{1,18}-[0-9]{1,18}_[0-9]{1,18}-[0-9]{1,18}$"
_DEFAULT_LIMIT = 100
_LETTER = re.compile(LETTER_PATTERN[1:-1])
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


class _Asked(NamedTuple):
    """The query of a page."""

    selection: Selection
    limit: int
    after: str


def opaque(id_: str) -> str:
    """A dead letter's id in a URL: "stream/position/index" has slashes, and no stream has a tilde in its name."""
    return id_.replace("/", "~")


def _transparent(text: str) -> str:
    """The inverse of `opaque`. Raises `ValueError`."""
    if not _LETTER.fullmatch(text):
        raise ValueError("It must be the id of a dead letter, as the list gives it")
    return text.replace("~", "/")


def _seconds(text: str) -> float:
    """RFC 3339 as seconds since 1970. Raises `ValueError`."""
    try:
        if _TIME.fullmatch(text):
            return datetime.fromisoformat(text.upper()).timestamp()
    except ValueError:
        pass
    raise ValueError("It must be a time as in 2026-01-31T08:30:00Z")


_CHECKS = {
    "namespace": matching(NAMESPACE_PATTERN, "It must be database.collection, or * for all of them"),
    "reason": matching(REASON_PATTERN, "It must be 1 to 200 characters of the reason"),
    "since": _seconds,
    "before": _seconds,
    "limit": between(1, MAX_LIMIT),
    "after": matching(CURSOR_PATTERN, "It must be the `next` of the page before"),
}


def _asked(request: Request) -> _Asked:
    given = query(request, **_CHECKS)
    namespace = given.get("namespace", ANY_NAMESPACE)
    selection = Selection("" if namespace == ANY_NAMESPACE else namespace, given.get("reason", ""))
    if "since" in given:
        selection = selection._replace(since_s=_seconds(given["since"]))
    if "before" in given:
        selection = selection._replace(before_s=_seconds(given["before"]))
    return _Asked(selection, int(given.get("limit", _DEFAULT_LIMIT)), given.get("after", ""))


def _meant(request: Request) -> _Asked:
    """Like `_asked`, for what changes something: "all" has to be said."""
    refuse_other_sites(request)
    asked = _asked(request)
    if "namespace" not in request.query_params:
        raise Problem("invalid-parameter", "Name database.collection, or * for all of them.", "namespace")
    return asked


def _shown(letter: DeadLetter) -> dict[str, Any]:
    write = letter.write
    return {
        "id": opaque(letter.id), "namespace": write.namespace, "document_id": write.id,
        "kind": Kind(write.kind).name.lower(),
        "reason": letter.reason, "attempts": letter.attempts,
        "accepted_at": rfc3339(letter.first_s), "rejected_at": rfc3339(letter.last_s),
        "bytes": len(write.body),
    }  # fmt: skip


def _progress(page: Page) -> dict[str, Any]:
    return {"scanned": page.scanned, "next": page.next or None, "end": page.end, "size": page.size}


class DeadLetters:
    def __init__(self, intake: Intake, appends: Appends, near: NearCache) -> None:
        self._intake = intake
        self._appends = appends
        self._near = near

    async def page(self, request: Request) -> Answer:
        """GET /v1/dead-letters: oldest first; `next` is the `after` of the next page, null on the last."""
        page = await self._intake.dead_letters(*_asked(request))
        items = [_shown(letter) for letter in page.letters]
        return json_answer(200, {"items": items} | _progress(page))

    async def get(self, request: Request) -> Answer:
        """GET /v1/dead-letters/{id}: with the original bytes, and the same as JSON where they are a document."""
        letter = await self._letter(self._id(request))
        body = letter.write.body
        shown = _shown(letter) | {"body_base64": b64encode(body).decode()}
        with suppress(Exception):  # it may be in here just because its bytes are no sound document
            shown |= {"body": orjson.Fragment(relaxed(decode(body)))} if body else {}
        return json_answer(200, shown)

    async def replay(self, request: Request) -> Answer:
        """POST /v1/dead-letters/{id}/replay: its write is appended again, behind everything accepted since."""
        refuse_other_sites(request)
        id_ = self._id(request)

        async def one() -> list[Receipt]:
            return await self._append_then_forget([await self._letter(id_)])

        (receipt,) = await self._own(one, {"id": request.path_params["id"]})
        answer = accepted(receipt)
        return json_answer(202, answer, [location(answer["receipt"])])

    async def replay_page(self, request: Request) -> Answer:
        """POST /v1/dead-letters/replay: one page of them, followed to MongoDB for a while; so a page waits for the
        budget like any write, and the next one is not asked for before."""
        asked = _meant(request)

        async def those_meant() -> tuple[Page, list[Receipt]]:
            page = await self._intake.dead_letters(*asked)
            return page, await self._append_then_forget(page.letters)

        page, receipts = await self._own(those_meant)
        states = Counter(state.name for state in await self._appends.settle(receipts, REPLAY_WAIT_S))
        answer = {
            "replayed": len(receipts), "stored": states["stored"], "rejected_again": states["dead-lettered"],
        }  # fmt: skip
        return json_answer(200, answer | _progress(page))

    async def discard(self, request: Request) -> Answer:
        """DELETE /v1/dead-letters/{id}"""
        if not await self._intake.forget_dead_letters([self._id(request)]):
            raise _gone()
        return Answer(204)

    async def discard_page(self, request: Request) -> Answer:
        """POST /v1/dead-letters/discard: one page of them."""
        page = await self._intake.dead_letters(*_meant(request))
        discarded = await self._intake.forget_dead_letters([letter.id for letter in page.letters])
        return json_answer(200, {"discarded": discarded} | _progress(page))

    async def _own(self, work: Callable[[], Coroutine[Any, Any, T]], named: dict[str, Any] | None = None) -> T:
        """`work` looks the letters up itself, in its turn: one discarded while it waited is not replayed any more.

        Raises as `Appends.keep`; then none of them is forgotten.
        """
        try:
            return await self._appends.own(work)
        except (OutcomeUnknown, TimeoutError):
            detail = FAULTS["outcome-unknown"].title + ". Replaying the same again is safe."
            raise Problem("outcome-unknown", detail, **(named or {})) from None

    async def _append_then_forget(self, letters: list[DeadLetter]) -> list[Receipt]:
        """A crash between the two leaves the letters to be replayed once more: twice is once."""
        if not letters:
            return []
        writes = [_again(letter.write) for letter in letters]
        try:
            receipts = await self._intake.append(writes)
        finally:
            for write in writes:
                self._near.evict(write.key)
        try:
            await self._intake.forget_dead_letters([letter.id for letter in letters])
        except SpillwayError as error:
            raise OutcomeUnknown(f"they are in the log again, and still among the dead letters: {error}") from error
        return receipts

    async def _letter(self, id_: str) -> DeadLetter:
        letter = await self._intake.dead_letter(id_)
        if letter is None:
            raise _gone()
        return letter

    def _id(self, request: Request) -> str:
        query(request)
        try:
            return _transparent(request.path_params["id"])
        except ValueError:
            raise _gone() from None


def _again(write: Write) -> Write:
    """An insert of an id that somebody has written meanwhile would count as a copy of that, and its content be lost."""
    return write._replace(kind=Kind.PUT) if write.kind == Kind.INSERT else write


def _gone() -> Problem:
    return Problem("no-such-dead-letter", "There is none with this id, or not any more.", "id")
