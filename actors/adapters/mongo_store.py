"""MongoStore: MongoDB, or any server of its wire protocol. One method call, one wire command.

The driver repeats nothing by itself: a hidden repetition would be a command that nobody counted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from time import monotonic
from typing import Any, cast

from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError, InvalidDocument
from bson.raw_bson import RawBSONDocument
from pymongo import AsyncMongoClient
from pymongo.errors import DocumentTooLarge, OperationFailure, PyMongoError
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from actors.adapters import ferretdb, mongo_id, mongos
from actors.adapters.cancellation import heeding_cancellation
from actors.adapters.mongo_report import TIMED_OUT, report_of
from actors.core.batching import Command, Verb
from actors.core.errors import (
    CommandFailed,
    CommandForbidden,
    CommandNotSent,
    CommandRefused,
    CommandTimedOut,
    CommandUnknown,
    SpillwayError,
)
from actors.core.outcome import Outcome, Report

# The content is at fault, and always will be. Every other error of a whole command (no rights, no disk, no primary, one
# we do not know) leaves the writes where they are: a mistake of the operator's must never fill the dead letters.
_POISON = frozenset({
    2,  # BadValue
    9,  # FailedToParse
    14,  # TypeMismatch
    15,  # Overflow: nested too deeply
    22,  # InvalidBSON
    52,  # DollarPrefixedFieldName
    55,  # InvalidDBRef
    56,  # EmptyFieldName
    57,  # DottedFieldName
    66,  # ImmutableField
    73,  # InvalidNamespace
    121,  # DocumentValidationFailure
    10334,  # BSONObjectTooLarge
    13297,  # DatabaseDifferCase: there is one of this name in other letters
    17280,  # KeyTooLong
    17419,  # the document would become too large
    17420,
})  # fmt: skip

_UNAUTHORIZED = 13
# Of the time for which we wait. A server that hangs goes on with what nobody waits for any more, and answers greetings
# all the while: so it is told to end each command itself, before we give it up.
_SERVERS_SHARE = 0.8
_CONCERN = re.compile(r"writeConcern|write concern|cannot use '[wj]'", re.IGNORECASE)

# Nothing in an answer may keep it from being read: it repeats values of documents, dates beyond Python's and texts cut
# in the middle of a character. What cannot be read counts as not known, and would be asked again for ever.
_LENIENT: Any = {"datetime_conversion": DatetimeConversion.DATETIME_AUTO, "unicode_decode_error_handler": "replace"}
_DECODED: CodecOptions[Any] = CodecOptions(**_LENIENT)
_RAW: CodecOptions[Any] = CodecOptions(document_class=RawBSONDocument, **_LENIENT)

_left: ContextVar[list[bool] | None] = ContextVar("_left", default=None)


class _Witness(CommandListener):
    """Notes that the driver began to send: before that, a failure surely left MongoDB untouched."""

    def started(self, event: CommandStartedEvent) -> None:
        flag = _left.get()
        if flag is not None:
            flag.append(True)

    def succeeded(self, event: CommandSucceededEvent) -> None: ...

    def failed(self, event: CommandFailedEvent) -> None: ...


class MongoStore:
    """Satisfies `DocumentStore`."""

    def __init__(self, uri: str, *, timeout_s: float, lanes: int, write_concern: str = "majority") -> None:
        """`lanes`: connections at most, less one that is kept for `probe`."""
        milliseconds = int(timeout_s * 1000)
        self._client: AsyncMongoClient[Any] = AsyncMongoClient(
            uri,
            retryWrites=False,
            retryReads=False,
            maxAdaptiveRetries=0,
            timeoutMS=None,  # one in the URI would be put over all of these, and over `maxTimeMS`
            socketTimeoutMS=milliseconds,
            connectTimeoutMS=min(2_000, milliseconds),
            serverSelectionTimeoutMS=min(1_000, milliseconds),
            waitQueueTimeoutMS=milliseconds,
            maxPoolSize=lanes + 1,
            appname="spillway",
            event_listeners=[_Witness()],
        )
        self._most_ms = max(1, int(milliseconds * _SERVERS_SHARE))
        servers = int(write_concern) if write_concern.isdecimal() else write_concern
        self._write_concern = {"w": servers, "j": True, "wtimeout": self._most_ms}
        self._is_ferretdb = self._is_mongos = False
        self._update_limit_of_ferretdb = max(1, ferretdb.UPDATES_AT_ONCE // lanes)
        self._unnamed: dict[str, tuple[Outcome, float]] = {}  # namespace -> what an unnamed duplicate is, until
        self._in_question: set[str] = set()  # namespaces whose indexes have to be looked at
        self._suspects: set[str] = set()  # ids of writes after which a connection broke

    @property
    def find_limit(self) -> int:
        return 1 if self._is_ferretdb else 100  # FerretDB answers `$in` by reading the whole collection

    @property
    def update_limit(self) -> int:
        return self._update_limit_of_ferretdb if self._is_ferretdb else 100_000

    async def describe(self) -> None:
        answer = await self._run("admin", {"buildInfo": 1})
        self._is_ferretdb = "ferretdbVersion" in answer or "ferretdb" in answer

    async def store(self, command: Command) -> Report:
        try:
            database, body = self._wire(command)
        except Exception as error:  # the parsers below raise whatever their input happens to hit
            raise CommandRefused(_sentence(error) or type(error).__name__) from error
        if not self._is_ferretdb:
            return report_of(command, await self._run(database, body), by_mongos=self._is_mongos)
        return await self._store_in_ferretdb(command, database, body)

    async def _store_in_ferretdb(self, command: Command, database: str, body: dict[str, Any]) -> Report:
        """Still one wire command; where one more is needed, it is the next call's, and this one asks for a next try."""
        self._refuse_unstorable(command)
        if command.namespace in self._in_question:
            self._in_question.discard(command.namespace)  # when the look fails, the next duplicate asks again
            await self._look_at_indexes(command.namespace)
            return Report.all(Outcome.RETRY, len(command.ids))
        known, until_s = self._unnamed.get(command.namespace, (Outcome.RETRY, 0.0))
        unnamed = known if monotonic() < until_s else Outcome.RETRY
        try:
            report = report_of(command, await self._run(database, body), unnamed)
        except CommandUnknown:
            self._suspects.update(command.ids)
            raise
        if command.verb == Verb.INSERT and report.needs_retry and unnamed == Outcome.RETRY:
            self._in_question.add(command.namespace)
        return report

    def _refuse_unstorable(self, command: Command) -> None:
        """A connection broke at some of these: look whether one of them is why."""
        for id_, document in zip(command.ids, command.bodies, strict=True) if self._suspects else ():
            reason = ferretdb.unstorable(document) if id_ in self._suspects else None
            if reason:
                raise CommandRefused(reason)
        self._suspects.difference_update(command.ids if len(command.ids) > 1 else ())

    async def _look_at_indexes(self, namespace: str) -> None:
        database, collection = namespace.split(".", 1)
        answer = await self._run(database, {"listIndexes": collection})
        unique = ferretdb.has_other_unique_index(answer["cursor"]["firstBatch"])
        unnamed = Outcome.REJECTED if unique else Outcome.DUPLICATE
        self._unnamed[namespace] = (unnamed, monotonic() + ferretdb.INDEXES_HOLD_S)

    def _wire(self, command: Command) -> tuple[str, dict[str, Any]]:
        database, collection = command.namespace.split(".", 1)
        body: dict[str, Any]
        if command.verb == Verb.INSERT:
            body = {"insert": collection, "ordered": False, "writeConcern": self._write_concern}
            body["documents"] = [RawBSONDocument(document) for document in command.bodies]
        elif command.verb == Verb.UPDATE:
            body = {"update": collection, "ordered": False, "writeConcern": self._write_concern}
            body["updates"] = [
                {"q": {"_id": mongo_id.value_of(id_)}, "u": RawBSONDocument(update), "upsert": True, "multi": False}
                for id_, update in zip(command.ids, command.bodies, strict=True)
            ]
        else:
            body = {"delete": collection, "ordered": False, "writeConcern": self._write_concern}
            body["deletes"] = [{"q": {"_id": mongo_id.value_of(id_)}, "limit": 1} for id_ in command.ids]
        return database, body

    async def find(self, namespace: str, ids: Sequence[str]) -> dict[str, bytes | None]:
        try:
            values = [mongo_id.value_of(id_) for id_ in ids]
            asked_as = dict(zip(map(mongo_id.text_of, values), ids, strict=True))  # perhaps in another form than ours
        except Exception as error:
            raise CommandRefused(f"no id: {_sentence(error)}") from error
        asked = {"_id": values[0]} if len(values) == 1 else {"_id": {"$in": values}}
        documents, is_cut = await self._first_batch(namespace, asked, len(values))
        if len(ids) == 1 and documents:  # whatever its `_id` looks like: a collation may find "A" for "a"
            return {ids[0]: documents[0][1]}
        unknown: dict[str, bytes | None] = dict.fromkeys(asked_as.values()) if is_cut and documents else {}
        return unknown | {asked_as.get(id_, id_): body for id_, body in documents}

    async def sample(self, namespace: str, limit: int) -> list[tuple[str, bytes]]:
        documents, _ = await self._first_batch(namespace, {}, limit)
        return documents

    async def count(self, namespace: str) -> int:
        database, collection = namespace.split(".", 1)
        if self._is_ferretdb:  # its `count` reads every document, its `collStats` does not
            return int((await self._run(database, {"collStats": collection}))["count"])
        return int((await self._run(database, {"count": collection}))["n"])

    async def probe(self) -> None:
        try:
            with heeding_cancellation():
                hello = await self._client.admin.command("hello")
        except PyMongoError as error:
            raise CommandNotSent(_sentence(error)) from error
        self._is_mongos = mongos.is_one(hello)
        if wrong := mongos.too_many(hello, self._client):
            raise CommandNotSent(f"SPILLWAY_MONGODB_URI cannot be used: {wrong}")

    async def close(self) -> None:
        await self._client.close()

    async def _first_batch(
        self, namespace: str, asked: Mapping[str, Any], limit: int
    ) -> tuple[list[tuple[str, bytes]], bool]:
        """The documents, and whether there are more than one answer holds (16 MiB).

        Only then a cursor is left, for the server to forget after ten minutes: `singleBatch` would leave none, and not
        tell; to close it would be a command more. A batch of just `limit` would leave one in FerretDB each time.
        """
        database, collection = namespace.split(".", 1)
        body = {"find": collection, "filter": asked, "limit": limit, "batchSize": limit + 1}
        answer = await self._run(database, body, _RAW)
        documents = []
        for document in answer["cursor"]["firstBatch"]:
            with suppress(BSONError, KeyError, ValueError):  # somebody else's, and not readable: as good as not there
                documents.append((mongo_id.text_of(document["_id"]), bytes(document.raw)))
        return documents, bool(answer["cursor"]["id"])

    async def _run(self, database: str, body: dict[str, Any], codec: CodecOptions[Any] = _DECODED) -> Mapping[str, Any]:
        left: list[bool] = []
        token = _left.set(left)
        timed = {**body, "maxTimeMS": self._most_ms}
        try:
            with heeding_cancellation():
                return cast(Mapping[str, Any], await self._client[database].command(timed, codec_options=codec))
        except (DocumentTooLarge, InvalidDocument) as error:  # found by the driver
            raise CommandRefused(_sentence(error)) from error
        except BSONError as error:
            raise (CommandUnknown if left else CommandRefused)(_sentence(error)) from error
        except OperationFailure as error:
            gave_up = self._is_mongos and mongos.has_given_up(error.code)
            raise (CommandUnknown if gave_up else _kind_of(error))(_sentence(error)) from error
        except PyMongoError as error:
            raise (CommandUnknown if left else CommandNotSent)(_sentence(error)) from error
        finally:
            _left.reset(token)


def _kind_of(error: OperationFailure) -> type[SpillwayError]:
    if error.code in _POISON and not _is_about_concern(error):
        return CommandRefused
    return {_UNAUTHORIZED: CommandForbidden, TIMED_OUT: CommandTimedOut}.get(error.code or 0, CommandFailed)


def _is_about_concern(error: OperationFailure) -> bool:
    """Is it the write concern that the server refuses? Then the operator is at fault, and no document."""
    return _CONCERN.search(str(error)) is not None


def _sentence(error: Exception) -> str:
    """The driver's first line; it goes on with the whole topology."""
    return str(error).split(", Timeout:")[0].split(", full error:")[0][:500]
