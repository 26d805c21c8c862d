"""Writes that MongoDB refused: look, replay, discard."""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Any

import orjson
from starlette.requests import Request

from actors.core.document import Key, Kind, decode_writes
from actors.core.errors import OutcomeUnknown
from actors.core.ports import DeadLetter, Intake
from serve_app.answers import Answer, json_answer, rfc3339
from serve_app.appends import Appends
from serve_app.documents import decode, relaxed
from serve_app.errors import FAULTS, Problem
from serve_app.near_cache import NearCache
from serve_app.parameters import between, query
from serve_app.receipts import accepted, location

MAX_LIMIT = 1_000
_DEFAULT_LIMIT = 100
LETTER_PATTERN = r"^[!-.0-}]{1,200}~[0-9]{1,20}-[0-9]{1,20}~[0-9]{1,9}$"
_LETTER = re.compile(LETTER_PATTERN[1:-1])


def opaque(id_: str) -> str:
    """A dead letter's id in a URL: "stream/position/index" has slashes, and no stream has a tilde in its name."""
    return id_.replace("/", "~")


def _transparent(text: str) -> str:
    """The inverse of `opaque`. Raises `ValueError`."""
    if not _LETTER.fullmatch(text):
        raise ValueError("It must be the id of a dead letter, as the list gives it")
    return text.replace("~", "/")


def _shown(letter: DeadLetter) -> dict[str, Any]:
    (write,) = decode_writes(letter.payload)
    shown: dict[str, Any] = {
        "id": opaque(letter.id), "namespace": write.namespace, "document_id": write.id,
        "kind": Kind(write.kind).name.lower(),
        "reason": letter.reason, "attempts": letter.attempts,
        "accepted_at": rfc3339(letter.first_s), "rejected_at": rfc3339(letter.last_s),
        "bytes": len(write.body),
    }  # fmt: skip
    if write.body:
        try:
            shown["body"] = orjson.Fragment(relaxed(decode(write.body)))
        except Exception:  # it may be in here just because its bytes are no sound document
            shown["body_base64"] = b64encode(write.body).decode()
    return shown


class DeadLetters:
    def __init__(self, intake: Intake, appends: Appends, near: NearCache) -> None:
        self._intake = intake
        self._appends = appends
        self._near = near

    async def list(self, request: Request) -> Answer:
        """GET /v1/dead-letters: oldest first; `next` is the `after` of the next page, null on the last."""
        given = query(request, limit=between(1, MAX_LIMIT), after=_transparent)
        limit = int(given.get("limit", _DEFAULT_LIMIT))
        after = _transparent(given["after"]) if "after" in given else ""
        letters = await self._intake.dead_letters(limit, after)
        following = opaque(letters[-1].id) if len(letters) == limit else None
        return json_answer(200, {"items": [_shown(letter) for letter in letters], "next": following})

    async def get(self, request: Request) -> Answer:
        """GET /v1/dead-letters/{id}"""
        letter = await self._intake.dead_letter(self._id(request))
        if letter is None:
            raise _gone()
        return json_answer(200, _shown(letter))

    async def replay(self, request: Request) -> Answer:
        """POST /v1/dead-letters/{id}/replay: its write is appended again, behind everything accepted since."""
        id_ = self._id(request)
        try:
            receipt = await self._appends.own(self._intake.replay_dead_letter(id_))
        except (OutcomeUnknown, TimeoutError):
            detail = FAULTS["outcome-unknown"].title + ". Replaying it again is safe."
            raise Problem("outcome-unknown", detail, id=request.path_params["id"]) from None
        if receipt is None:
            raise _gone()
        self._near.evict(Key(receipt.namespace, receipt.id))
        answer = accepted(receipt)
        return json_answer(202, answer, [location(answer["receipt"])])

    async def discard(self, request: Request) -> Answer:
        """DELETE /v1/dead-letters/{id}"""
        if not await self._intake.discard_dead_letter(self._id(request)):
            raise _gone()
        return Answer(204)

    def _id(self, request: Request) -> str:
        query(request)
        try:
            return _transparent(request.path_params["id"])
        except ValueError:
            raise _gone() from None


def _gone() -> Problem:
    return Problem("no-such-dead-letter", "There is none with this id, or not any more.", "id")
