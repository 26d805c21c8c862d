"""One body for every database: what the double promises, a server of MongoDB's wire protocol keeps."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import bson
import pytest
from bson import DatetimeMS, ObjectId
from bson.raw_bson import RawBSONDocument
from fake_mongodb import TIME_IS_UP, Answering, Mongos, Silent
from pymongo import AsyncMongoClient
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from actors.adapters.memory import MemoryStore
from actors.adapters.mongo_report import report_of
from actors.adapters.mongo_store import MongoStore
from actors.core.batching import Command, Verb
from actors.core.errors import (
    CommandFailed,
    CommandForbidden,
    CommandNotSent,
    CommandRefused,
    CommandTimedOut,
    CommandUnknown,
)
from actors.core.outcome import Outcome, Report, join
from actors.core.ports import DocumentStore
from cluster.embedded.mongo_server import UnusableUri, trouble
from serve_app.patches import steps

STORED, DUPLICATE, REJECTED, RETRY = Outcome
SOON_S = 3.0  # for an answer that never comes; the handshake must meet it too


@dataclass
class Place:
    """A collection of its own, and how many commands the server was sent."""

    store: DocumentStore
    namespace: str
    commands: Callable[[], int]


class Counter(CommandListener):
    def __init__(self) -> None:
        self.names: list[str] = []

    def started(self, event: CommandStartedEvent) -> None:
        self.names.append(event.command_name)

    def succeeded(self, event: CommandSucceededEvent) -> None: ...

    def failed(self, event: CommandFailedEvent) -> None: ...


@pytest.fixture(params=["memory", "mongodb"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    namespace = f"spillway_test.c{uuid.uuid4().hex}"
    if request.param == "memory":
        memory = MemoryStore()
        yield Place(memory, namespace, lambda: len(memory.commands))
        return
    async with mongo(request.getfixturevalue("mongodb_uri")) as (store, counter):
        await store.describe()
        counter.names.clear()
        yield Place(store, namespace, lambda: len(counter.names))
        await store._client["spillway_test"].drop_collection(namespace.partition(".")[2])


class mongo:
    """A store whose commands are counted by a listener of the driver's."""

    def __init__(self, uri: str, timeout_s: float = 5.0, **more: Any) -> None:
        self.store = MongoStore(uri, timeout_s=timeout_s, lanes=2, **more)
        self.counter = Counter()
        listeners = self.store._client._event_listeners
        listeners._EventListeners__command_listeners.append(self.counter)

    async def __aenter__(self) -> tuple[MongoStore, Counter]:
        return self.store, self.counter

    async def __aexit__(self, *_: object) -> None:
        await self.store.close()


def document(id_: Any, **fields: Any) -> bytes:
    return bson.encode({"_id": id_, **fields})


def inserts(place: Place, *ids: str, **fields: Any) -> Command:
    return Command(Verb.INSERT, place.namespace, list(ids), [document(id_, **fields) for id_ in ids])


def update(place: Place, id_: str, body: dict[str, Any]) -> Command:
    return Command(Verb.UPDATE, place.namespace, [id_], [bson.encode(body)])


async def found(place: Place, *ids: str) -> dict[str, dict[str, Any]]:
    return {id_: bson.decode(body) for id_, body in (await place.store.find(place.namespace, ids)).items()}


def outcomes(report: Report) -> list[Outcome]:
    return [Outcome(outcome) for outcome in report.outcomes]


async def settled(store: DocumentStore, command: Command) -> tuple[list[Outcome], int]:
    """Outcomes once none is RETRY, as a buffer would go about it; and how much the collection has grown meanwhile."""
    grown = 0
    for _ in range(4):
        report = await store.store(command)
        grown += report.grown
        if not report.needs_retry:
            return outcomes(report), grown
    raise AssertionError("it never settles")


async def test_an_insert_is_stored_and_again_a_duplicate(place: Place) -> None:
    assert await place.store.store(inserts(place, "a", "b")) == Report(bytes([STORED, STORED]), {}, 2)
    again, grown = await settled(place.store, inserts(place, "b", "c", "a", n=9))
    assert again[0] == again[2] == DUPLICATE
    assert again[1] in (STORED, DUPLICATE)
    assert grown == 1
    assert await found(place, "b") == {"b": {"_id": "b"}}


async def test_an_update_replaces_or_makes_a_document(place: Place) -> None:
    assert await place.store.store(update(place, "a", {"_id": "a", "n": 1})) == Report(bytes([STORED]), {}, 1)
    assert await place.store.store(update(place, "a", {"_id": "a", "m": 2})) == Report(bytes([STORED]), {}, 0)
    assert await place.store.store(update(place, "a", {"_id": "a", "m": 2})) == Report(bytes([STORED]), {}, 0)
    assert await found(place, "a") == {"a": {"_id": "a", "m": 2}}


async def test_a_patch_sets_and_unsets_and_makes_what_is_not_there(place: Place) -> None:
    await place.store.store(update(place, "a", {"_id": "a", "n": 1, "deep": {"x": 1, "y": 2}, "old": True}))
    patch = {"$set": {"n": 2, "deep.x": 9}, "$unset": {"old": ""}}
    for _ in range(2):
        assert outcomes(await place.store.store(update(place, "a", patch))) == [STORED]
        assert await found(place, "a") == {"a": {"_id": "a", "n": 2, "deep": {"x": 9, "y": 2}}}
    assert await place.store.store(update(place, "new", {"$set": {"n": 1}})) == Report(bytes([STORED]), {}, 1)
    assert await found(place, "new") == {"new": {"_id": "new", "n": 1}}


async def test_a_patch_into_a_scalar_is_refused_and_changes_nothing_as_its_reader_was_shown(place: Place) -> None:
    before, patch = document("a", a=1), {"$set": {"x": 1, "a.b": 2}}
    await place.store.store(Command(Verb.UPDATE, place.namespace, ["a"], [before]))
    try:
        assert outcomes(await place.store.store(update(place, "a", patch))) == [REJECTED]
    except CommandRefused as refusal:
        assert "b" in str(refusal)  # noqa: PT017 - one of two right answers
    *_, put_together = steps(before, [bson.encode(patch)], "a")
    assert await found(place, "a") == {"a": bson.decode(before)} == {"a": put_together}


async def test_a_delete_leaves_nothing_and_may_be_repeated(place: Place) -> None:
    await place.store.store(inserts(place, "a", "b", "c"))
    some = Command(Verb.DELETE, place.namespace, ["a", "b", "x"], [b"", b"", b""])
    assert await place.store.store(some) == Report(bytes([STORED] * 3), {}, -2)
    assert await place.store.store(some) == Report(bytes([STORED] * 3), {}, 0)
    assert await found(place, "c") == {"c": {"_id": "c"}}


async def test_a_document_that_is_not_there_is_not_found(place: Place) -> None:
    assert await place.store.find(place.namespace, ["a"]) == {}
    await place.store.store(inserts(place, "a", "b"))
    assert await found(place, "a", "x", "b") == {"a": {"_id": "a"}, "b": {"_id": "b"}}


async def test_a_sample_is_of_what_is_there(place: Place) -> None:
    assert await place.store.sample(place.namespace, 5) == []
    await place.store.store(inserts(place, *(f"id{i}" for i in range(8)), n=1))
    sample = await place.store.sample(place.namespace, 5)
    assert len({id_ for id_, _ in sample}) == 5
    assert all(bson.decode(body) == {"_id": id_, "n": 1} for id_, body in sample)


async def test_a_collection_is_counted(place: Place) -> None:
    assert await place.store.count(place.namespace) == 0
    await place.store.store(inserts(place, "a", "b", "c"))
    assert await place.store.count(place.namespace) == 3


async def test_each_call_is_exactly_one_command_and_a_probe_is_none(place: Place) -> None:
    await place.store.store(inserts(place, "a"))  # connections are there now
    calls: list[Callable[[], Any]] = [
        lambda: place.store.store(inserts(place, *(f"id{i}" for i in range(500)), text="x" * 500)),
        *[lambda: place.store.store(inserts(place, "a"))] * 4,
        lambda: place.store.store(update(place, "a", {"$set": {"n": 1}})),
        lambda: place.store.store(Command(Verb.DELETE, place.namespace, ["a"], [b""])),
        lambda: place.store.find(place.namespace, ["a"]),
        lambda: place.store.sample(place.namespace, 300),
        lambda: place.store.count(place.namespace),
        lambda: place.store.describe(),
    ]
    for call in calls:
        before = place.commands()
        await call()
        assert place.commands() == before + 1
    before = place.commands()
    await place.store.probe()
    assert place.commands() - before <= 1  # a handshake, which nobody counts


async def test_ids_other_than_text(mongodb_uri: str) -> None:
    async with mongo(mongodb_uri) as (store, _):
        place = Place(store, f"spillway_test.c{uuid.uuid4().hex}", lambda: 0)
        one = ObjectId()
        ids = [f'{{"$oid":"{one}"}}', '{"$numberInt":"5"}', '{"$numberLong":"5000000000"}']
        for id_, value in zip(ids, (one, 5, bson.Int64(5_000_000_000)), strict=True):
            await store.store(Command(Verb.UPDATE, place.namespace, [id_], [document(value, n=1)]))
            assert await found(place, id_) == {id_: {"_id": value, "n": 1}}
        await store.store(Command(Verb.DELETE, place.namespace, ids, [b""] * 3))
        assert await store.sample(place.namespace, 5) == []


@pytest.mark.parametrize("value", [7, bson.Int64(7), 7.0], ids=repr)
async def test_a_number_is_one_id_whoever_wrote_it_and_however(mongodb_uri: str, value: Any) -> None:
    """Java's drivers write 64 bits, the old shell doubles, and MongoDB finds them all as 7."""
    async with mongo(mongodb_uri) as (store, _):
        place = Place(store, f"spillway_test.c{uuid.uuid4().hex}", lambda: 0)
        await store.store(Command(Verb.INSERT, place.namespace, ["unused"], [document(value, n=1)]))
        id_ = '{"$numberInt":"7"}'
        assert await found(place, id_) == {id_: {"_id": value, "n": 1}}


@pytest.mark.parametrize("value", [bson.Decimal128("5"), bson.Decimal128("5.0"), 5.0], ids=repr)
async def test_a_decimal_is_the_same_id_as_its_number(value: Any) -> None:
    cursor = {"id": 0, "ns": "d.c", "firstBatch": [{"_id": value}]}
    id_, body = '{"$numberInt":"5"}', bson.encode({"_id": value})
    async with Answering({"ok": 1, "cursor": cursor}) as uri, mongo(uri, timeout_s=SOON_S) as (store, _):
        assert await store.find("d.c", [id_, "b"]) == {id_: body}
        assert await store.sample("d.c", 5) == [(id_, body)]


async def test_what_was_found_for_a_single_id_is_the_answer_whatever_its_own_id_looks_like() -> None:
    """A collection's own collation finds "Anna" for "anna"."""
    cursor = {"id": 0, "ns": "d.c", "firstBatch": [{"_id": "Anna"}]}
    async with Answering({"ok": 1, "cursor": cursor}) as uri, mongo(uri, timeout_s=SOON_S) as (store, _):
        assert await store.find("d.c", ["anna"]) == {"anna": bson.encode({"_id": "Anna"})}


async def test_a_question_that_was_answered_leaves_no_cursor_behind(mongodb_uri: str) -> None:
    async with mongo(mongodb_uri) as (store, _):
        place = Place(store, f"spillway_test.c{uuid.uuid4().hex}", lambda: 0)
        await store.store(inserts(place, *"abc"))
        answers: list[Any] = []
        run = store._run

        async def noted(*arguments: Any) -> Any:
            answers.append(await run(*arguments))
            return answers[-1]

        store._run = noted  # type: ignore[method-assign]
        await store.find(place.namespace, ["a"])
        await store.find(place.namespace, ["a", "b", "missing"])
        for limit in (1, 2, 3, 4):
            await store.sample(place.namespace, limit)
        assert [answer["cursor"]["id"] for answer in answers] == [0] * 6


async def test_an_answer_that_was_full_says_so() -> None:
    """What the rest is, nobody knows; least of all that it is not there."""
    cursor = {"id": 5, "ns": "d.c", "firstBatch": [{"_id": "a"}]}
    server = Answering({"ok": 1, "cursor": cursor})
    async with server as uri, mongo(uri, timeout_s=3.0) as (store, _):
        assert await store.find("d.c", ["a", "b"]) == {"a": bson.encode({"_id": "a"}), "b": None}
        cursor["id"] = 0
        assert await store.find("d.c", ["a", "b"]) == {"a": bson.encode({"_id": "a"})}


async def test_a_violated_index_of_the_users_is_a_rejection_and_its_neighbours_are_stored(mongodb_uri: str) -> None:
    async with mongo(mongodb_uri) as (store, _):
        await store.describe()
        place = Place(store, f"spillway_test.c{uuid.uuid4().hex}", lambda: 0)
        async with AsyncMongoClient(mongodb_uri) as client:
            await client["spillway_test"][place.namespace.partition(".")[2]].create_index(
                "email", unique=True, name="_id_of_the_mail"
            )
        await store.store(inserts(place, "a", email="x@y"))
        some = [
            document("b", email="1"),
            document("c", email="x@y"),
            document("a", email="z"),
            document("d", email="2"),
        ]
        outcome, grown = await settled(store, Command(Verb.INSERT, place.namespace, ["b", "c", "a", "d"], some))
        assert outcome[1] == REJECTED
        assert grown == 2
        if store._is_ferretdb:  # it does not say which index; better a dead letter too many than a document lost
            assert outcome == [REJECTED] * 4
        else:
            assert outcome == [STORED, REJECTED, DUPLICATE, STORED]
        assert set(await found(place, "b")) | set(await found(place, "d")) == {"b", "d"}


async def test_an_update_that_is_refused_takes_no_other_along_unseen(place: Place) -> None:
    """Where the server does not tell about the others the whole command is refused, and halved by the writer."""
    if isinstance(place.store, MemoryStore):
        pytest.skip("the double names every write")
    updates = [{"_id": "a", "n": 1}, {"$frob": {"n": 1}}, {"_id": "c", "n": 1}]
    command = Command(Verb.UPDATE, place.namespace, ["a", "b", "c"], [bson.encode(update) for update in updates])
    try:
        assert outcomes(await place.store.store(command)) == [STORED, REJECTED, STORED]
        assert set(await found(place, "a")) | set(await found(place, "c")) == {"a", "c"}
    except CommandRefused as refusal:
        assert "frob" in str(refusal)  # noqa: PT017 - one of two right answers
    try:
        assert outcomes(await place.store.store(update(place, "b", updates[1]))) == [REJECTED]
    except CommandRefused as refusal:
        assert "frob" in str(refusal)  # noqa: PT017 - one of two right answers


@pytest.mark.parametrize(
    "value", [float("nan"), bson.Decimal128("1.5"), bson.MinKey(), [{"deep": bson.MaxKey()}]], ids=repr
)
async def test_a_value_that_the_server_does_not_survive_is_found_out_at_the_second_try(
    place: Place, value: Any
) -> None:
    some = Command(Verb.INSERT, place.namespace, ["good", "bad"], [document("good"), document("bad", v=value)])
    try:
        assert outcomes(await place.store.store(some)) == [STORED, STORED]
        return
    except CommandUnknown:
        pass
    for command in (some, Command(*some[:2], ["bad"], some.bodies[1:])):
        with pytest.raises(CommandRefused, match="cannot store"):
            await place.store.store(command)
    assert outcomes(await place.store.store(inserts(place, "good")))[0] in (STORED, DUPLICATE)


@pytest.mark.parametrize(
    ("verb", "namespace", "id_", "body"),
    [
        (Verb.INSERT, "spillway_test.poison", "a", document("a", text="x" * (17 * 1024 * 1024))),
        (Verb.INSERT, "spillway_test.poison", "a", b"no bson"),
        (Verb.INSERT, "spillway_test.poison", "a", b""),
        (Verb.INSERT, "no_collection", "a", document("a")),
        (Verb.UPDATE, "spillway_test.poison", "a", b"\x05\x00\x00\x00"),
        (Verb.UPDATE, "spillway_test.poison", '{"$oid":"no"}', document("a")),
        (Verb.UPDATE, "spillway_test.poison", "{broken", document("a")),
        (Verb.DELETE, "spillway_test.poison", '{"$numberInt":"x"}', b""),
    ],
    ids=["too large", "no bson", "empty", "no collection", "cut off", "no oid", "no json", "no number"],
)
async def test_a_write_that_can_never_be_taken_is_refused_and_harms_nothing(
    mongodb_uri: str, verb: Verb, namespace: str, id_: str, body: bytes
) -> None:
    async with mongo(mongodb_uri) as (store, _):
        with pytest.raises(CommandRefused):
            await store.store(Command(verb, namespace, [id_], [body]))
        place = Place(store, f"spillway_test.c{uuid.uuid4().hex}", lambda: 0)
        assert outcomes(await store.store(inserts(place, "good"))) == [STORED]


async def test_a_question_for_what_is_no_id_is_refused(mongodb_uri: str) -> None:
    async with mongo(mongodb_uri) as (store, _):
        with pytest.raises(CommandRefused):
            await store.find("spillway_test.c", ["{broken"])


async def test_several_mongos_are_refused_and_a_single_one_is_not() -> None:
    """One greets for the other, which may have a command in its socket that is overtaken before it is read."""
    async with Mongos() as one, Mongos() as other:
        hosts = [uri.removeprefix("mongodb://").partition("/")[0] for uri in (one, other)]
        both = f"mongodb://{','.join(hosts)}/"
        told = f"it names several mongos \\({', '.join(sorted(hosts))}\\), .*; name a single one"
        async with mongo(both, timeout_s=SOON_S) as (store, _):
            with pytest.raises(CommandNotSent, match=f"^SPILLWAY_MONGODB_URI cannot be used: {told}"):
                await store.probe()
        with pytest.raises(UnusableUri, match=told):
            await asyncio.to_thread(trouble, both, SOON_S)
        single = f"mongodb://{hosts[0]}/"
        async with mongo(single, timeout_s=SOON_S) as (store, _):
            await store.probe()
        assert await asyncio.to_thread(trouble, single, SOON_S) == ""


# When there is no answer: was it sent?


async def test_a_server_that_is_not_there_was_sent_nothing() -> None:
    async with mongo("mongodb://127.0.0.1:1/?directConnection=true", timeout_s=0.5) as (store, counter):
        with pytest.raises(CommandNotSent):
            await store.probe()
        with pytest.raises(CommandNotSent):
            await store.store(Command(Verb.INSERT, "d.c", ["a"], [document("a")]))
        assert counter.names == []


@pytest.mark.parametrize("close", [False, True], ids=["never answers", "closes"])
async def test_a_command_that_arrived_and_got_no_answer_is_unknown_and_was_sent_once(close: bool) -> None:
    server = Silent(close)
    async with server as uri, mongo(uri, timeout_s=SOON_S) as (store, counter):
        await store.probe()
        with pytest.raises(CommandUnknown):
            await store.store(Command(Verb.INSERT, "d.c", ["a"], [document("a")]))
        assert len(server.received) == 1
        assert [name for name in counter.names if name != "hello"] == ["insert"]
        with pytest.raises(CommandUnknown):
            await store.find("d.c", ["a"])
        assert len(server.received) == 2


async def test_an_answer_that_cannot_be_read_tells_nothing_and_refuses_nothing() -> None:
    """The write may be stored: a dead letter would say that it is not."""
    unreadable = RawBSONDocument(b"\x09\0\0\0\x77a\0\0\0")  # of no type that there is
    server = Answering({"ok": 1, "n": 1, "more": unreadable})
    async with server as uri, mongo(uri, timeout_s=SOON_S) as (store, _):
        with pytest.raises(CommandUnknown):
            await store.store(Command(Verb.INSERT, "d.c", ["a"], [document("a")]))
    assert len(server.received) == 1


@pytest.mark.parametrize(("setting", "servers"), [("majority", "majority"), ("2", 2)])
@pytest.mark.parametrize("verb", list(Verb))
async def test_every_writing_command_asks_for_the_journal_and_for_as_many_servers_as_the_setting_says(
    verb: Verb, setting: str, servers: str | int
) -> None:
    server = Answering({"ok": 1, "n": 1})
    async with server as uri, mongo(uri, timeout_s=SOON_S, write_concern=setting) as (store, _):
        await store.store(Command(verb, "d.c", ["a"], [b"" if verb == Verb.DELETE else document("a")]))
    (command,) = server.received
    assert command[verb.name.lower()] == "c"
    assert command["writeConcern"] == {"w": servers, "j": True, "wtimeout": int(SOON_S * 800)}


@pytest.mark.parametrize("more", ["", "&timeoutMS=90000&socketTimeoutMS=90000&wtimeoutMS=90000"])
async def test_the_server_is_told_to_end_each_command_before_we_give_it_up(more: str) -> None:
    """One that hangs would go on with it, and answer greetings meanwhile, whoever has gone. No word in the URI
    lengthens it: the time is part of what is promised."""
    server = Answering({"ok": 1, "n": 1, "cursor": {"id": 0, "firstBatch": []}})
    async with server as uri, mongo(uri + more, timeout_s=SOON_S) as (store, _):
        for verb in Verb:
            await store.store(Command(verb, "d.c", ["a"], [b"" if verb == Verb.DELETE else document("a")]))
        await store.find("d.c", ["a"])
        await store.sample("d.c", 5)
        await store.count("d.c")
        await store.describe()
    assert [command["maxTimeMS"] for command in server.received] == [int(SOON_S * 800)] * 7


# What a server says, in the words of MongoDB


def answered(verb: Verb, count: int, **answer: Any) -> Report:
    return report_of(Command(verb, "d.c", [str(i) for i in range(count)], [b""] * count), answer)


@pytest.mark.parametrize("verb", [Verb.INSERT, Verb.UPDATE])
def test_a_refusal_does_not_quote_the_whole_document(verb: Verb) -> None:
    """A patch of sixty bytes on a document of a megabyte: its letter, and what is remembered of it, had a megabyte."""
    words = f"Cannot create field 'b' in element {{a: {'x' * (1 << 20)}}}"
    report = answered(verb, 2, n=1, writeErrors=[{"index": 1, "code": 28, "errmsg": words}])
    assert report.reasons[1].startswith("Cannot create field 'b' in element {a: xxx")
    assert report.reasons[1].endswith(" (code 28)")
    assert len(report.reasons[1]) < 600


async def test_indexes_that_could_not_be_looked_at_hold_no_write_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a collection that was dropped just then: only a write would bring it back."""
    store = MongoStore("mongodb://127.0.0.1:1", timeout_s=1.0, lanes=1)
    store._is_ferretdb = True
    store._in_question = {"d.c"}
    asked: list[str] = []

    async def run(database: str, body: dict[str, Any]) -> dict[str, Any]:
        asked.append(next(iter(body)))
        if asked[-1] == "listIndexes":
            raise CommandFailed("ns does not exist")
        return {"n": 1}

    monkeypatch.setattr(store, "_run", run)
    command = Command(Verb.INSERT, "d.c", ["a"], [document("a")])
    with pytest.raises(CommandFailed):
        await store.store(command)
    assert outcomes(await store.store(command)) == [STORED]
    assert asked == ["listIndexes", "insert"]
    await store.close()


def test_a_write_concern_error_means_that_nobody_knows() -> None:
    report = answered(
        Verb.INSERT, 2, n=2, writeConcernError={"code": 64, "errmsg": "waiting for replication timed out"}
    )
    assert outcomes(report) == [RETRY, RETRY]


def test_what_is_tried_again_says_why_and_names_the_setting_that_can_never_be_met() -> None:
    concern = {"code": 79, "errmsg": "No write concern mode named 'majorty' found"}
    why = "MongoDB does not confirm what SPILLWAY_WRITE_CONCERN asks for: No write concern mode named 'majorty' found"
    assert answered(Verb.UPDATE, 2, n=2, writeConcernError=concern).retry_reason == f"{why} (code 79)"
    full = [{"index": 1, "code": 14031, "errmsg": "No space left on device"}]
    report = answered(Verb.UPDATE, 3, n=2, writeErrors=full)
    assert (outcomes(report), report.retry_reason) == ([STORED, RETRY, STORED], "No space left on device (code 14031)")
    assert report.part(1, 3).retry_reason == report.retry_reason
    assert report.part(0, 1).retry_reason == "", "it is another buffer's"
    assert join([report.part(0, 1), report.part(1, 3)]) == report._replace(grown=0)
    assert answered(Verb.UPDATE, 3, n=1, writeErrors=full).retry_reason == "No space left on device (code 14031)"
    assert answered(Verb.UPDATE, 3, n=3).retry_reason == ""


@pytest.mark.parametrize("verb", list(Verb))
async def test_a_write_concern_error_is_no_success_on_the_wire_either(verb: Verb) -> None:
    """Also beside refusals of single writes: what they are is known when all of it is durable."""
    concern = {"code": 64, "codeName": "WriteConcernTimeout", "errmsg": "waiting for replication timed out"}
    refusal = {"index": 1, "code": 121, "errmsg": "Document failed validation"}
    for refused in ([], [refusal]):
        answer = {"ok": 1, "n": 2 - len(refused), "writeErrors": refused, "writeConcernError": concern}
        if verb == Verb.UPDATE:
            answer |= {"nModified": 0}
        async with Answering(answer) as uri, mongo(uri, timeout_s=SOON_S) as (store, _):
            bodies = [b"" if verb == Verb.DELETE else document(id_) for id_ in "ab"]
            report = await store.store(Command(verb, "d.c", ["a", "b"], bodies))
        assert outcomes(report) == [RETRY, RETRY]
        # What is done counts, whoever may not know it: the same command again finds it there, and counts nothing.
        assert report.grown == {Verb.INSERT: 2 - len(refused), Verb.UPDATE: 0, Verb.DELETE: len(refused) - 2}[verb]


@pytest.mark.parametrize("verb", list(Verb))
@pytest.mark.parametrize("of_one", [False, True], ids=["of the whole", "of one write, as mongos tells it"])
async def test_when_the_time_was_up_in_the_middle_nothing_is_taken_for_stored_or_refused(
    verb: Verb, of_one: bool
) -> None:
    """Some of the writes are done, and the answer does not tell which. But it is an answer: nothing goes on."""
    errors = [{"index": 1, "code": 121, "errmsg": "validation"}, {"index": 2, "code": 50, "errmsg": "its time was up"}]
    answer = {"ok": 1, "n": 1, "writeErrors": errors} if of_one else TIME_IS_UP
    async with Answering(answer) as uri, mongo(uri, timeout_s=SOON_S) as (store, _):
        bodies = [b"" if verb == Verb.DELETE else document(id_) for id_ in "abc"]
        with pytest.raises(CommandTimedOut, match="time"):
            await store.store(Command(verb, "d.c", list("abc"), bodies))


UNAVAILABLE = "Write results unavailable from 10.0.0.7:27018 :: caused by :: the shard did not answer"


@pytest.mark.parametrize("verb", list(Verb))
@pytest.mark.parametrize("code", [6, 9, 50, 89, 90, 202, 262, 384, 407, 11600])
def test_a_write_of_which_a_mongos_has_no_answer_is_unknown_whatever_its_code(verb: Verb, code: int) -> None:
    """The shard may go on with it, or not even have read it: what is newer must not be sent now."""
    errors = [{"index": 0, "code": 121, "errmsg": "validation"}, {"index": 2, "code": code, "errmsg": UNAVAILABLE}]
    with pytest.raises(CommandUnknown, match=f"^Write results unavailable .* \\(code {code}\\)$"):
        answered(verb, 3, n=1, writeErrors=errors)


def test_a_write_for_which_a_mongos_finds_no_host_was_not_sent() -> None:
    words = "Write results unavailable from failing to target a host in the shard a :: caused by :: no primary"
    report = answered(Verb.INSERT, 2, n=1, writeErrors=[{"index": 1, "code": 133, "errmsg": words}])
    assert outcomes(report) == [STORED, RETRY]


def test_a_document_does_not_speak_for_a_mongos() -> None:
    """It would close the gate again and again."""
    words = f'E11000 duplicate key error collection: d.c index: mail_1 dup key: {{ mail: "{UNAVAILABLE}" }}'
    report = answered(Verb.INSERT, 1, n=0, writeErrors=[{"index": 0, "code": 11000, "errmsg": words}])
    assert outcomes(report) == [REJECTED]


@pytest.mark.parametrize("code", [6, 50, 89, 90, 202, 262, 279, 384, 9001, 11601])
@pytest.mark.parametrize("of_one", [False, True], ids=["of the whole", "of one write"])
async def test_a_mongos_that_gives_up_a_command_leaves_it_unknown_in_whatever_words(code: int, of_one: bool) -> None:
    """Its own time being up says nothing of the shard's; newer ones do not say either which of the two it was."""
    error = {"code": code, "errmsg": "operation was interrupted"}
    answer = {"ok": 1, "n": 1, "writeErrors": [{"index": 1, **error}]} if of_one else {"ok": 0, **error}
    async with Mongos(answer) as uri, mongo(uri, timeout_s=SOON_S) as (store, _):
        await store.probe()
        with pytest.raises(CommandUnknown, match="operation was interrupted"):
            await store.store(Command(Verb.INSERT, "d.c", ["a", "b"], [document("a"), document("b")]))
        if not of_one:
            with pytest.raises(CommandUnknown, match="operation was interrupted"):
                await store.count("d.c")


@pytest.mark.parametrize("verb", [Verb.INSERT, Verb.UPDATE])
def test_a_report_that_does_not_add_up_is_no_success(verb: Verb) -> None:
    assert outcomes(answered(verb, 3, n=2)) == [RETRY] * 3


def duplicate(index: int, name: str, **more: Any) -> dict[str, Any]:
    message = f'E11000 duplicate key error collection: d.c index: {name} dup key: {{ : "index: _id_ dup key" }}'
    return {"index": index, "code": 11000, "errmsg": message, **more}


def test_a_duplicate_counts_by_the_index_it_violates() -> None:
    errors = [
        duplicate(0, "_id_", keyPattern={"_id": 1}),
        duplicate(1, "_id_"),
        duplicate(2, "_id_2", keyPattern={"email": 1}),
        duplicate(3, "_id_of_the_mail"),
        duplicate(4, "email_1"),
    ]
    report = answered(Verb.INSERT, 6, n=1, writeErrors=errors)
    assert outcomes(report) == [DUPLICATE, DUPLICATE, REJECTED, REJECTED, REJECTED, STORED]
    assert set(report.reasons) == {2, 3, 4}


def test_an_update_that_violates_an_index_of_the_users_is_a_rejection() -> None:
    errors = [duplicate(0, "email_1", keyPattern={"email": 1}), duplicate(1, "_id_of_the_mail")]
    report = answered(Verb.UPDATE, 3, n=1, writeErrors=errors)
    assert outcomes(report) == [REJECTED, REJECTED, STORED]
    assert set(report.reasons) == {0, 1}


def test_an_upsert_that_met_another_upsert_is_tried_again() -> None:
    report = answered(Verb.UPDATE, 1, n=0, writeErrors=[duplicate(0, "_id_", keyPattern={"_id": 1})])
    assert outcomes(report) == [RETRY]


def test_a_passing_error_of_one_write_is_tried_again_and_a_lasting_one_is_a_rejection() -> None:
    errors = [{"index": 0, "code": 112, "errmsg": "WriteConflict"}, {"index": 1, "code": 121, "errmsg": "validation"}]
    report = answered(Verb.INSERT, 3, n=1, writeErrors=errors)
    assert outcomes(report) == [RETRY, REJECTED, STORED]
    assert report.reasons == {1: "validation (code 121)"}


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (371, "UserWritesBlocked"), (215, "DatabaseDropPending"), (365, "TemporarilyUnavailable"),
        (402, "ResourceExhausted"), (433, "AdmissionQueueOverflow"), (449, "RateLimitExceeded"), (13388, "StaleConfig"),
        (82, "NoProgressMade"), (319, "MovePrimaryInProgress"), (175, "QueryPlanKilled"), (412, "UpdatesStillPending"),
        (407, "PooledConnectionAcquisitionExceededTimeLimit"), (450, "PooledConnectionAcquisitionRejected"),
        (16500, "RequestRateTooLarge, of Cosmos DB"), (406, "MigrationBlockingOperationCoordinatorCleaningUp"),
        (90, "CallbackCanceled"), (237, "CursorKilled"), (239, "SnapshotTooOld"), (246, "SnapshotUnavailable"),
        (272, "MigrationConflict"), (279, "ClientDisconnect"), (333, "ServiceExecutorInShutdown"),
        (355, "InterruptedDueToStorageChange"), (358, "InternalTransactionNotSupported"), (384, "ConnectionError"),
    ],
)  # fmt: skip
def test_what_passes_at_the_server_never_fills_the_dead_letters(code: int, name: str) -> None:
    """`setUserWriteBlockMode`, for one, is told of each write by itself. And a letter that is replayed later overwrites
    what has been written since."""
    report = answered(Verb.INSERT, 2, n=0, writeErrors=[{"index": i, "code": code, "errmsg": name} for i in range(2)])
    assert outcomes(report) == [RETRY, RETRY]


FAR_DATE = DatetimeMS(253_402_300_800_000)  # in the year 10000, which no datetime of Python's can be


@pytest.mark.parametrize("message", [b"E11000 dup key: { mail: xx }", b"E11000 dup key: { mail: \xe4\xb8 }"])
async def test_a_refusal_is_read_whatever_of_the_document_it_repeats(message: bytes) -> None:
    """A date beyond Python's, or a text that the server has cut in the middle of a character."""
    refusal = {"index": 0, "code": 11000, "errmsg": "E11000 dup key: { mail: xx }", "keyPattern": {"d": 1}}
    raw = bson.encode(refusal | {"keyValue": {"d": FAR_DATE}}).replace(b"{ mail: xx }", message[-12:])
    async with (
        Answering({"ok": 1, "n": 0, "writeErrors": [RawBSONDocument(raw)]}) as uri,
        mongo(uri, timeout_s=SOON_S) as (store, _),
    ):
        report = await store.store(Command(Verb.INSERT, "d.c", ["a"], [document("a")]))
    assert outcomes(report) == [REJECTED]


async def test_a_document_with_a_date_beyond_pythons_is_found() -> None:
    body = bson.encode({"_id": "a", "expires": FAR_DATE})
    cursor = {"id": 0, "ns": "d.c", "firstBatch": [RawBSONDocument(body)]}
    async with Answering({"ok": 1, "cursor": cursor}) as uri, mongo(uri, timeout_s=SOON_S) as (store, _):
        assert await store.find("d.c", ["a"]) == {"a": body}
        assert await store.sample("d.c", 5) == [("a", body)]


@pytest.mark.parametrize(
    ("code", "message", "raised"),
    [
        (10334, "BSONObj size is invalid", CommandRefused),
        (9, "Unknown modifier: $frob", CommandRefused),
        (13297, "db already exists with different case already have: [shop] trying to create [Shop]", CommandRefused),
        (8000, "cannot create a new collection -- already using 500 collections of 500", CommandFailed),
        (2, "cannot use 'w' > 1 when a host is not replicated", CommandFailed),
        (2, "cannot use 'j' option when a host does not have journaling enabled", CommandFailed),
        (9, "writeConcern.w has to be a number or string", CommandFailed),
        (13, "not authorized on d to execute command", CommandForbidden),
        (10107, "not primary", CommandUnknown),
        (None, "something new", CommandFailed),
    ],
)
async def test_a_mistake_of_the_operators_never_fills_the_dead_letters(
    code: int | None, message: str, raised: type[Exception]
) -> None:
    answer = {"ok": 0, "errmsg": message} | ({} if code is None else {"code": code})
    async with Answering(answer) as uri, mongo(uri, timeout_s=SOON_S) as (store, _):
        with pytest.raises(raised) as caught:
            await store.store(Command(Verb.INSERT, "d.c", ["a"], [document("a")]))
    assert caught.type is raised
