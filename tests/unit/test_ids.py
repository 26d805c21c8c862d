from __future__ import annotations

import time
import uuid

import pytest
from bson import Int64, ObjectId
from hypothesis import given
from hypothesis import strategies as st

from actors.adapters import mongo_id
from serve_app.ids import InvalidId, id_text, id_value, keyed_id, uuid7


def test_uuid7_is_one_of_now_and_grows() -> None:
    made = [uuid7() for _ in range(20_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    for text in (made[0], made[-1]):
        parsed = uuid.UUID(text)
        assert str(parsed) == text
        assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
        assert abs((parsed.int >> 80) / 1000 - time.time()) < 60


def test_uuid7_grows_when_the_wall_clock_steps_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = uuid7()
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000)
    assert uuid7() > before


def test_keyed_id_is_the_same_each_time_and_differs_by_all_it_is_made_of() -> None:
    first = keyed_id("key", "body", 0)
    assert first == keyed_id("key", "body", 0)
    parsed = uuid.UUID(first)
    assert (parsed.version, parsed.variant) == (8, uuid.RFC_4122)
    assert len({first, keyed_id("other", "body", 0), keyed_id("key", "other", 0), keyed_id("key", "body", 1)}) == 4


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("order-1", "order-1"),
        ("5", "5"),
        ("a/b c", "a/b c"),
        ("ключ", "ключ"),
        (5, '{"$numberInt":"5"}'),
        (Int64(5), '{"$numberInt":"5"}'),
        (2**31, '{"$numberLong":"2147483648"}'),
        (-(2**63), '{"$numberLong":"-9223372036854775808"}'),
        (ObjectId("0123456789abcdef01234567"), '{"$oid":"0123456789abcdef01234567"}'),
    ],
)
def test_an_id_and_its_text(value: object, text: str) -> None:
    assert id_text(value) == text
    assert id_value(text) == value
    assert type(id_value(text)) is not Int64


@pytest.mark.parametrize(
    "value",
    ["", "{x", "batch", "a\x1fb", "a\0", "\x7f", "x" * 1025, "é" * 513, "\ud800", 1.5, True, None, 2**63, [], {}],
)
def test_values_that_are_no_id(value: object) -> None:
    with pytest.raises(InvalidId):
        id_text(value)


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "{}", '{"$oid":"xyz"}', '{"$oid":5}', '{"$oid":"0123456789abcdef01234567","a":1}', '{"$date":"x"}',
        '{"$numberInt":"2147483648"}', '{"$numberLong":"9223372036854775808"}', '{"$numberInt":"1_0"}',
        '{"$numberInt":5}', "{" * 5000,
    ],
)  # fmt: skip
def test_texts_that_are_no_id(text: str) -> None:
    with pytest.raises(InvalidId):
        id_value(text)


@given(
    st.one_of(st.text(max_size=30), st.integers(-(2**63), 2**63 - 1), st.binary(min_size=12, max_size=12).map(ObjectId))
)
def test_the_mapping_is_one_to_one(value: object) -> None:
    try:
        text = id_text(value)
    except InvalidId:
        return
    assert id_value(text) == value
    assert id_text(id_value(text)) == text


@pytest.mark.parametrize("value", ["a", 5, -(1 << 40), 5.0, ObjectId("0123456789abcdef01234567")])
def test_what_mongodb_samples_has_the_text_that_the_edge_gives_it(value: object) -> None:
    """Else its buffer is another one's, and its cached copy under a name that nobody asks for."""
    assert mongo_id.text_of(value) == id_text(value)
