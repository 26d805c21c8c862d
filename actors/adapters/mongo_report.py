"""MongoDB's answer to a command of writes, read as what became of each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from actors.adapters import mongos
from actors.core.batching import Command, Verb
from actors.core.errors import CommandRefused, CommandTimedOut, CommandUnknown
from actors.core.outcome import Outcome, Report

TIMED_OUT = 50  # MaxTimeMSExpired: the server ended it when the time that it was given was up
_DUPLICATE_KEY = 11000

# Of a single write: not done now, may be done later. The server gives a write whatever befell it, also a block by the
# operator (371, 215), overload (365, 402, 433, 449, 462; 16500 in Cosmos DB), no connection from mongos to a shard
# (407, 450), data that are moving (63, 82, 150, 249, 250, 319, 343, 406, 412, 13388), a plan or a snapshot that went
# with an index or a primary (175, 237, 239, 246, 355), and what else it calls retriable or an interruption.
_PASSING = frozenset({
    6, 7, 24, 46, 63, 64, 82, 89, 90, 91, 100, 112, 117, 133, 134, 150, 175, 189, 202, 215, 216, 237, 239, 246, 249,
    250, 262, 272, 279, 290, 314, 317, 319, 333, 343, 355, 358, 365, 371, 384, 402, 406, 407, 412, 433, 449, 450, 462,
    9001, 10058, 10107, 11600, 11601, 11602, 13388, 13435, 13436, 14031, 16500,
})  # fmt: skip

_MAX_WORDS = 500  # characters
_ID_INDEX = re.compile(r"^E11000 duplicate key error collection: \S+ index: _id_( |$)")


def report_of(
    command: Command, answer: Mapping[str, Any], unnamed: Outcome = Outcome.REJECTED, *, by_mongos: bool = False
) -> Report:
    """What `answer` says of each write. A write-concern error means that nobody knows yet: all are tried again, and
    the reason names the setting, since one that cannot be met is tried for ever.

    `unnamed`: what an INSERT is that violates an index which the server does not name. Raises `CommandRefused` when an
    error is about one of the writes and the answer does not tell about the others. Raises `CommandTimedOut` when the
    time was up for any of them: how many of the others are done the answer cannot tell then. Raises `CommandUnknown`
    when a mongos (`by_mongos`: it is known to be one) has given up a shard that may go on with any of them.
    """
    count = len(command.ids)
    errors = answer.get("writeErrors", [])
    for error in errors:
        if mongos.has_no_answer(error) or (by_mongos and mongos.has_given_up(error.get("code"))):
            raise CommandUnknown(_why(error, "mongos has no answer of a shard"))
    for error in errors:
        if error.get("code") == TIMED_OUT:
            raise CommandTimedOut(_why(error, "its time was up"))
    unknown = Report.all(Outcome.RETRY, count)._replace(grown=_grown(command, answer))  # the count knows all the same
    if concern := answer.get("writeConcernError"):
        why = f"MongoDB does not confirm what SPILLWAY_WRITE_CONCERN asks for: {_why(concern, 'no reason given')}"
        return unknown._replace(retry_reason=why)
    told = answer.get("n", 0) + len(errors) if command.verb != Verb.DELETE or (errors and "n" not in answer) else count
    if told != count:  # every insert and every upsert finds or makes one, so some write is not spoken of
        if errors and errors[0].get("code") not in _PASSING and command.verb != Verb.INSERT:
            raise CommandRefused(_why(errors[0], "refused by MongoDB"))
        return unknown._replace(retry_reason=_why(errors[0], "not done") if errors else "")
    outcomes = bytearray(Report.all(Outcome.STORED, count).outcomes)
    reasons: dict[int, str] = {}
    retry_reason = ""
    for error in errors:
        index, code = error["index"], error.get("code")
        if code == _DUPLICATE_KEY and command.verb == Verb.INSERT and _names_no_index(error):
            outcomes[index] = unnamed
            if unnamed == Outcome.REJECTED:
                reasons[index] = _why(error, "duplicate key")
        elif code == _DUPLICATE_KEY and _is_on_id(error):
            outcomes[index] = Outcome.DUPLICATE if command.verb == Verb.INSERT else Outcome.RETRY
        elif code in _PASSING:
            outcomes[index] = Outcome.RETRY
            retry_reason = _why(error, "not done")
        else:
            outcomes[index] = Outcome.REJECTED
            reasons[index] = _why(error, "refused by MongoDB")
    return Report(bytes(outcomes), reasons, unknown.grown, retry_reason)


def _why(error: Mapping[str, Any], otherwise: str) -> str:
    """In the server's words, but not in all: it may quote the whole document, and this is kept for each write."""
    return f"{error.get('errmsg', otherwise)[:_MAX_WORDS]} (code {error.get('code')})"


def _grown(command: Command, answer: Mapping[str, Any]) -> int:
    """How many documents the collection has more than before."""
    if command.verb == Verb.UPDATE:
        return len(answer.get("upserted", []))
    return int(answer.get("n", 0)) * (1 if command.verb == Verb.INSERT else -1)


def _names_no_index(error: Mapping[str, Any]) -> bool:
    return "keyPattern" not in error and " index: " not in error.get("errmsg", "")


def _is_on_id(error: Mapping[str, Any]) -> bool:
    """Is this duplicate the document itself, or another one that a unique index of the user's protects?"""
    pattern = error.get("keyPattern")
    if pattern is not None:
        return list(pattern) == ["_id"]
    return _ID_INDEX.search(error.get("errmsg", "")) is not None
