"""Which writes leave together, and in which order."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from actors.core.batching import BatchPolicy, Command, Entry, Origin, Place, Plan, Verb, plan
from actors.core.document import Kind, Write

State = dict[tuple[str, str], tuple[str, ...]]


def entry(*writes: Write, position: str = "1-0") -> Entry:
    return Entry(position, list(writes), sum(len(write.body) for write in writes), 0.0)


def insert(id_: str, body: str = "i") -> Write:
    return Write(Kind.INSERT, "d.c", id_, body.encode())


def put(id_: str, body: str) -> Write:
    return Write(Kind.PUT, "d.c", id_, b"=" + body.encode())


def patch(id_: str, body: str) -> Write:
    return Write(Kind.PATCH, "d.c", id_, b"+" + body.encode())


def delete(id_: str) -> Write:
    return Write(Kind.DELETE, "d.c", id_, b"")


def rounds(planned: Plan) -> list[set[tuple[str, str, bytes]]]:
    return [
        {
            (Verb(command.verb).name, id_, body)
            for command in round_.commands.values()
            for id_, body in zip(command.ids, command.bodies, strict=True)
        }
        for round_ in planned.rounds
    ]


@pytest.mark.parametrize(
    ("writes", "expected"),
    [
        pytest.param([insert("a"), insert("b")], [{("INSERT", "a", b"i"), ("INSERT", "b", b"i")}], id="apart"),
        pytest.param([insert("a"), insert("a")], [{("INSERT", "a", b"i")}], id="a copy of itself"),
        pytest.param([put("a", "1"), put("a", "2")], [{("UPDATE", "a", b"=2")}], id="later wins"),
        pytest.param([insert("a"), put("a", "1")], [{("UPDATE", "a", b"=1")}], id="put over insert"),
        pytest.param([put("a", "1"), insert("a")], [{("UPDATE", "a", b"=1")}], id="insert finds a document"),
        pytest.param([put("a", "1"), delete("a")], [{("DELETE", "a", b"")}], id="delete after put"),
        pytest.param([delete("a"), put("a", "1")], [{("UPDATE", "a", b"=1")}], id="put after delete"),
        pytest.param(
            [delete("a"), insert("a")], [{("DELETE", "a", b"")}, {("INSERT", "a", b"i")}], id="insert after delete"
        ),
        pytest.param(
            [insert("a"), patch("a", "1")], [{("INSERT", "a", b"i")}, {("UPDATE", "a", b"+1")}], id="patch waits"
        ),
        pytest.param(
            [patch("a", "1"), patch("a", "2")], [{("UPDATE", "a", b"+1")}, {("UPDATE", "a", b"+2")}], id="two patches"
        ),
        pytest.param([patch("a", "1"), delete("a")], [{("DELETE", "a", b"")}], id="delete forgets patches"),
        pytest.param(
            [delete("a"), insert("a"), patch("a", "1"), insert("a")],
            [{("DELETE", "a", b"")}, {("INSERT", "a", b"i")}, {("UPDATE", "a", b"+1")}],
            id="three rounds",
        ),
    ],
)
def test_order_of_writes_to_one_key(writes: list[Write], expected: list[set[tuple[str, str, bytes]]]) -> None:
    assert rounds(plan([entry(*writes)])) == expected
    assert rounds(plan([entry(write) for write in writes])) == expected  # an entry's border changes nothing


def test_what_is_not_sent_points_at_what_says_it_all() -> None:
    planned = plan([entry(put("a", "1"), insert("b")), entry(put("a", "2")), entry(delete("a"), insert("b"))])
    assert planned.superseded == {Place(0, 0): Place(1, 0), Place(1, 0): Place(2, 0), Place(2, 1): Place(0, 1)}


def test_what_is_stored_says_also_what_its_copies_and_those_before_it_had_said() -> None:
    planned = plan([entry(put("a", "1"), insert("a"), put("a", "2"), put("a", "3"), put("b", "1"), put("b", "2"))])
    assert planned.covered_by({Place(0, 3)}) == {Place(0, 0), Place(0, 1), Place(0, 2)}
    assert planned.is_lacking({Place(0, 5)})
    assert not planned.is_lacking(())


def test_a_write_to_be_skipped_counts_as_if_it_were_not_there() -> None:
    planned = plan([entry(put("a", "1"), put("a", "2"))], skip={Place(0, 1)})
    assert rounds(planned) == [{("UPDATE", "a", b"=1")}]
    assert planned.superseded == {}


def test_a_command_is_for_one_verb_and_one_collection_and_says_whose_it_is() -> None:
    mine = Origin("0of1", 7, "me")
    planned = plan([entry(insert("a"), put("b", "1"), Write(Kind.INSERT, "d.e", "a", b"i"))], origin=mine)
    assert list(planned.rounds[0].commands.values()) == [
        Command(Verb.INSERT, "d.c", ["a"], [b"i"], mine),
        Command(Verb.UPDATE, "d.c", ["b"], [b"=1"], mine),
        Command(Verb.INSERT, "d.e", ["a"], [b"i"], mine),
    ]


# A model of the database: the state of a document is what was put or inserted, and the patches since.


def apply(state: State, verb: int, namespace: str, id_: str, body: bytes) -> None:
    key, text = (namespace, id_), body.decode()
    if verb == Verb.DELETE:
        state.pop(key, None)
    elif verb == Verb.INSERT:
        state.setdefault(key, (text,))
    elif text.startswith("+"):
        state[key] = (*state.get(key, ()), text)
    else:
        state[key] = (text,)


def model_write(kind: Kind, namespace: str, id_: str, number: int) -> Write:
    """An INSERT only ever meets a copy of itself, so its body is given by its key."""
    body = {Kind.INSERT: f"i{id_}", Kind.PUT: f"={number}", Kind.PATCH: f"+{number}", Kind.DELETE: ""}[kind]
    return Write(kind, namespace, id_, body.encode())


model_writes = st.builds(
    model_write,
    st.sampled_from(list(Kind)),
    st.sampled_from(["d.c", "d.e"]),
    st.sampled_from("abc"),
    st.integers(0, 99),
)
batches = st.lists(st.lists(model_writes, min_size=1, max_size=5).map(lambda writes: entry(*writes)), max_size=6)
VERB = {Kind.INSERT: Verb.INSERT, Kind.PUT: Verb.UPDATE, Kind.PATCH: Verb.UPDATE, Kind.DELETE: Verb.DELETE}


def applied_in_order(before: State, entries: list[Entry]) -> State:
    state = dict(before)
    for one in entries:
        for kind, namespace, id_, body in one.writes:
            apply(state, VERB[Kind(kind)], namespace, id_, body)
    return state


def applied_by_rounds(before: State, planned: Plan, shuffle: random.Random) -> State:
    """As an unordered bulk may do it: within a round, any order."""
    state = dict(before)
    for round_ in planned.rounds:
        operations = [
            (command.verb, command.namespace, id_, body)
            for command in round_.commands.values()
            for id_, body in zip(command.ids, command.bodies, strict=True)
        ]
        shuffle.shuffle(operations)
        for operation in operations:
            apply(state, *operation)
    return state


@given(batches, st.booleans(), st.randoms(use_true_random=False))
@example([entry(delete("a"), insert("a"))], True, random.Random(0))
def test_the_rounds_in_any_order_inside_come_to_what_the_writes_in_order_come_to(
    entries: list[Entry], there: bool, shuffle: random.Random
) -> None:
    before: State = {("d.c", "a"): ("ia",), ("d.e", "b"): ("=old",)} if there else {}
    assert applied_by_rounds(before, plan(entries), shuffle) == applied_in_order(before, entries)


@given(batches, st.randoms(use_true_random=False))
def test_a_batch_done_twice_equals_once(entries: list[Entry], shuffle: random.Random) -> None:
    """Less what a patch adds in this model, which MongoDB's $set does not: so patches are left out here."""
    entries = [one._replace(writes=[write for write in one.writes if write.kind != Kind.PATCH]) for one in entries]
    once = applied_by_rounds({}, plan(entries), shuffle)
    assert applied_by_rounds(once, plan(entries), shuffle) == once


@given(batches)
def test_no_key_stands_twice_in_a_round_and_every_write_is_sent_or_superseded_by_a_sent_one(
    entries: list[Entry],
) -> None:
    planned = plan(entries)
    sent: set[Place] = set()
    for round_ in planned.rounds:
        keys = [(c.namespace, id_) for c in round_.commands.values() for id_ in c.ids]
        assert len(keys) == len(set(keys))
        sent.update(place for places in round_.places.values() for place in places)
        for group, command in round_.commands.items():
            writes = [entries[place.entry].writes[place.write] for place in round_.places[group]]
            assert [(w.namespace, w.id, w.body) for w in writes] == [
                (command.namespace, id_, body) for id_, body in zip(command.ids, command.bodies, strict=True)
            ]
    assert sent | planned.superseded.keys() == {
        Place(e, w) for e, one in enumerate(entries) for w in range(len(one.writes))
    }
    assert not sent & planned.superseded.keys()
    for place in planned.superseded:
        while place not in sent:
            place = planned.superseded[place]


POLICY = BatchPolicy(max_writes=10, max_bytes=1_000, linger_s=0.05)


@pytest.mark.parametrize(
    ("writes", "size", "age_s", "urgent", "due_s"),
    [
        (1, 10, 0.0, False, 0.05),
        (1, 10, 0.02, False, 0.03),
        (1, 10, 0.05, False, 0.0),
        (1, 10, 9.0, False, 0.0),
        (1, 10, 0.0, True, 0.0),
        (10, 10, 0.0, False, 0.0),
        (9, 1_000, 0.0, False, 0.0),
    ],
)
def test_a_batch_leaves_when_full_or_old_or_awaited(
    writes: int, size: int, age_s: float, urgent: bool, due_s: float
) -> None:
    assert POLICY.due_in_s(writes, size, age_s, urgent=urgent) == pytest.approx(due_s)


def test_an_entry_joins_while_there_is_room_and_the_first_always() -> None:
    big, small = Entry("1-0", [insert("a")] * 11, 2_000, 0.0), Entry("1-1", [insert("b")], 10, 0.0)
    assert POLICY.fits(0, 0, big)
    assert POLICY.fits(9, 990, small)
    assert not POLICY.fits(10, 10, small)
    assert not POLICY.fits(1, 995, small)


@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from(Kind), st.sampled_from(["d.c", "d.e"]), st.integers(0, 40)), max_size=4),
        max_size=4,
    )
)
@example([[(Kind.INSERT, "d.c", 1), (Kind.INSERT, "d.c", 2)], [(Kind.INSERT, "d.c", 3)]])
@example([[(Kind.INSERT, "d.c", 1)], [(Kind.INSERT, "d.c", 1)]])
def test_the_short_way_for_new_documents_plans_what_the_long_one_does(drawn: list[list[tuple[Kind, str, int]]]) -> None:
    entries = [entry(*(Write(kind, place, str(id_), b"x") for kind, place, id_ in writes)) for writes in drawn]
    the_long_way = {Place(-1, -1)}  # skips nothing, but has to be looked at
    assert plan(entries, (), Origin("s", 1, "me")) == plan(entries, the_long_way, Origin("s", 1, "me"))
