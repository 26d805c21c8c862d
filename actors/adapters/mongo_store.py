"""MongoStore: MongoDB, or any server of its wire protocol. One method call, one wire command.

The driver repeats nothing by itself: a hidden repetition would be a command that nobody counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from bson import json_util
from bson.codec_options import CodecOptions
from bson.errors import InvalidDocument
from bson.raw_bson import RawBSONDocument
from pymongo import AsyncMongoClient
from pymongo.errors import DocumentTooLarge, OperationFailure, PyMongoError
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from actors.core.batching import Command, Verb
from actors.core.outcome import Outcome, Report
from actors.core.ports import CommandFailed, CommandNotSent, CommandRefused, CommandUnknown

_DUPLICATE_KEY = 11000

# The content is at fault, and always will be. Every other error of a whole command (no rights, no disk, no primary, one we
# do not know) leaves the writes where they are: a mistake of the operator's must never fill the dead letters.
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
    17280,  # KeyTooLong
    17419,  # the document would become too large
    17420,
})  # fmt: skip

# Of a single write: not done now, may be done later.
_PASSING = frozenset({
    6, 7, 24, 50, 64, 89, 91, 100, 112, 133, 189, 262, 290, 317, 462, 9001, 10058, 10107, 11600, 11602, 13435, 13436, 14031,
})  # fmt: skip

_DECODED: CodecOptions[Any] = CodecOptions()
_RAW: CodecOptions[Any] = CodecOptions(document_class=RawBSONDocument)

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
            socketTimeoutMS=milliseconds,
            connectTimeoutMS=min(2_000, milliseconds),
            serverSelectionTimeoutMS=min(1_000, milliseconds),
            waitQueueTimeoutMS=milliseconds,
            maxPoolSize=lanes + 1,
            appname="spillway",
            event_listeners=[_Witness()],
        )
        self._write_concern = {"w": int(write_concern) if write_concern.isdigit() else write_concern, "j": True}
        self._is_ferretdb = False

    @property
    def find_limit(self) -> int:
        return 1 if self._is_ferretdb else 100  # FerretDB answers `$in` by reading the whole collection

    async def describe(self) -> None:
        answer = await self._run("admin", {"buildInfo": 1})
        self._is_ferretdb = "ferretdbVersion" in answer or "ferretdb" in answer

    async def store(self, command: Command) -> Report:
        database, collection = command.namespace.split(".", 1)
        if command.verb == Verb.INSERT:
            body = {"insert": collection, "ordered": False, "writeConcern": self._write_concern}
            body["documents"] = [RawBSONDocument(document) for document in command.bodies]
        elif command.verb == Verb.UPDATE:
            body = {"update": collection, "ordered": False, "writeConcern": self._write_concern}
            body["updates"] = [
                {"q": {"_id": _value(id_)}, "u": RawBSONDocument(update), "upsert": True, "multi": False}
                for id_, update in zip(command.ids, command.bodies, strict=True)
            ]
        else:
            body = {"delete": collection, "ordered": False, "writeConcern": self._write_concern}
            body["deletes"] = [{"q": {"_id": _value(id_)}, "limit": 1} for id_ in command.ids]
        return _report(command, await self._run(database, body))

    async def find(self, namespace: str, ids: Sequence[str]) -> dict[str, bytes]:
        values = [_value(id_) for id_ in ids]
        asked = {"_id": values[0]} if len(values) == 1 else {"_id": {"$in": values}}
        documents = await self._first_batch(namespace, asked, len(values))
        return {_text(document["_id"]): bytes(document.raw) for document in documents}

    async def sample(self, namespace: str, limit: int) -> list[tuple[str, bytes]]:
        documents = await self._first_batch(namespace, {}, limit)
        return [(_text(document["_id"]), bytes(document.raw)) for document in documents]

    async def count(self, namespace: str) -> int:
        database, collection = namespace.split(".", 1)
        if self._is_ferretdb:  # its `count` reads every document, its `collStats` does not
            return int((await self._run(database, {"collStats": collection}))["count"])
        return int((await self._run(database, {"count": collection}))["n"])

    async def probe(self) -> None:
        try:
            await self._client.admin.command("hello")
        except PyMongoError as error:
            raise CommandNotSent(_sentence(error)) from error

    async def close(self) -> None:
        await self._client.close()

    async def _first_batch(self, namespace: str, asked: Mapping[str, Any], limit: int) -> list[RawBSONDocument]:
        database, collection = namespace.split(".", 1)
        body = {"find": collection, "filter": asked, "limit": limit, "batchSize": limit, "singleBatch": True}
        answer = await self._run(database, body, _RAW)
        return list(answer["cursor"]["firstBatch"])

    async def _run(self, database: str, body: dict[str, Any], codec: CodecOptions[Any] = _DECODED) -> Mapping[str, Any]:
        left: list[bool] = []
        token = _left.set(left)
        try:
            answer: Mapping[str, Any] = await self._client[database].command(body, codec_options=codec)
            return answer
        except (DocumentTooLarge, InvalidDocument) as error:  # found by the driver
            raise CommandRefused(_sentence(error)) from error
        except OperationFailure as error:
            if error.code in _POISON:
                raise CommandRefused(_sentence(error)) from error
            raise CommandFailed(_sentence(error)) from error
        except PyMongoError as error:
            raise (CommandUnknown if left else CommandNotSent)(_sentence(error)) from error
        finally:
            _left.reset(token)


def _report(command: Command, answer: Mapping[str, Any]) -> Report:
    """What `answer` says of each write. A write-concern error means that nobody knows yet: all are tried again."""
    count = len(command.ids)
    errors = answer.get("writeErrors", [])
    if answer.get("writeConcernError"):
        return Report.all(Outcome.RETRY, count)
    if command.verb == Verb.INSERT and answer.get("n", 0) + len(errors) != count:
        return Report.all(Outcome.RETRY, count)
    outcomes = bytearray(Report.all(Outcome.STORED, count).outcomes)
    reasons: dict[int, str] = {}
    for error in errors:
        index, code = error["index"], error.get("code")
        if code == _DUPLICATE_KEY and _is_on_id(error):
            outcomes[index] = Outcome.DUPLICATE if command.verb == Verb.INSERT else Outcome.RETRY
        elif code in _PASSING:
            outcomes[index] = Outcome.RETRY
        else:
            outcomes[index] = Outcome.REJECTED
            reasons[index] = f"{error.get('errmsg', 'refused by MongoDB')} (code {code})"
    if command.verb == Verb.INSERT:
        grown = int(answer.get("n", 0))
    elif command.verb == Verb.UPDATE:
        grown = len(answer.get("upserted", []))
    else:
        grown = -int(answer.get("n", 0))
    return Report(bytes(outcomes), reasons, grown)


def _is_on_id(error: Mapping[str, Any]) -> bool:
    """Is this duplicate the document itself, or another one that a unique index of the user's protects?"""
    pattern = error.get("keyPattern")
    if pattern is not None:
        return list(pattern) == ["_id"]
    return "index: _id_" in error.get("errmsg", "")


def _value(id_: str) -> Any:
    """The BSON value of an id's text: extended JSON when it begins with a brace, else the text itself."""
    return json_util.loads(id_) if id_.startswith("{") else id_


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json_util.dumps(value, json_options=json_util.CANONICAL_JSON_OPTIONS)


def _sentence(error: Exception) -> str:
    """The driver's first line; it goes on with the whole topology."""
    return str(error).split(", Timeout:")[0].split(", full error:")[0][:500]
