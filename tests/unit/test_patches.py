from __future__ import annotations

from typing import Any

import bson
import pytest
from bson import Int64
from hypothesis import given
from hypothesis import strategies as st

from serve_app.errors import Problem
from serve_app.patches import steps, update_of

BIG = 1 << 24


def apply(base: bytes | None, patches: list[bytes], id_: str) -> dict[str, Any]:
    *_, last = steps(base, patches, id_)
    return last


@pytest.mark.parametrize(
    ("patch", "update"),
    [
        ({"a": 1}, {"$set": {"a": 1}}),
        ({"a": None}, {"$unset": {"a": ""}}),
        (
            {"a": {"b": 1, "c": None, "d": {"e": [1, None]}}},
            {"$set": {"a.b": 1, "a.d.e": [1, None]}, "$unset": {"a.c": ""}},
        ),
        ({"a": [{"b": {}}]}, {"$set": {"a": [{"b": {}}]}}),
        ({"a": {"$numberLong": "5"}}, {"$set": {"a": Int64(5)}}),
        ({"_id": "k", "a": 1}, {"$set": {"a": 1}}),
    ],
)
def test_a_merge_patch_as_an_update(patch: dict[str, Any], update: dict[str, Any]) -> None:
    assert update_of(patch, "k", BIG) == update


@pytest.mark.parametrize(
    ("patch", "code", "field"),
    [
        ([], "invalid-document", None),
        ("x", "invalid-document", None),
        ({}, "invalid-patch", None),
        ({"_id": "k"}, "invalid-patch", None),
        ({"_id": "other", "a": 1}, "invalid-patch", "_id"),
        ({"_id": None, "a": 1}, "invalid-patch", "_id"),
        ({"a": {}}, "invalid-patch", "a"),
        ({"a": {"b": {}}}, "invalid-patch", "a.b"),
        ({"a.b": 1}, "invalid-patch", "a.b"),
        ({"a": {"": 1}}, "invalid-patch", "a."),
        ({"": 1}, "invalid-patch", '""'),
        ({"$set": 1}, "invalid-document", "$set"),
        ({"a": {"$inc": 1}}, "invalid-document", "a.$inc"),
    ],
)
def test_patches_that_cannot_be(patch: Any, code: str, field: str | None) -> None:
    with pytest.raises(Problem) as caught:
        update_of(patch, "k", BIG)
    assert (caught.value.code, caught.value.field) == (code, field)


@pytest.mark.parametrize(
    ("base", "update", "expected"),
    [
        ({"a": 1}, {"$set": {"b": 2}}, {"a": 1, "b": 2}),
        ({}, {"$set": {"a.b.c": 1}}, {"a": {"b": {"c": 1}}}),
        ({"a": {"b": 1, "c": 2}}, {"$unset": {"a.b": ""}}, {"a": {"c": 2}}),
        ({"a": 1}, {"$unset": {"b": "", "b.c": "", "a.x": ""}}, {"a": 1}),
        ({"a": [1, 2]}, {"$set": {"a.1": 5, "a.3": 7}}, {"a": [1, 5, None, 7]}),
        ({"a": [1, {"b": 2}]}, {"$set": {"a.1.b": 3}, "$unset": {"a.0": ""}}, {"a": [None, {"b": 3}]}),
        # MongoDB refuses these as a whole
        ({"a": 1}, {"$set": {"x": 1, "a.b": 1}}, {"a": 1}),
        ({"a": None}, {"$set": {"a.b": 1}}, {"a": None}),
        ({"a": [{"b": 1}]}, {"$set": {"a.0.b": 2, "a.x": 1}}, {"a": [{"b": 1}]}),
    ],
)
def test_an_update_does_what_mongodb_does(
    base: dict[str, Any], update: dict[str, Any], expected: dict[str, Any]
) -> None:
    body = bson.encode({"_id": "k", **base})
    assert apply(body, [bson.encode(update)], "k") == {"_id": "k", **expected}


def test_updates_apply_in_order_and_make_a_document_where_there_is_none() -> None:
    updates = [bson.encode({"$set": {"a": 1, "b": 1}}), bson.encode({"$set": {"a": 2}, "$unset": {"b": ""}})]
    assert apply(None, updates, '{"$numberInt":"7"}') == {"_id": 7, "a": 2}


@pytest.mark.parametrize("index", ["9" * 5_000, "01", "\u0661", "1500001"])
def test_what_mongodb_takes_for_no_position_changes_nothing(index: str) -> None:
    body = bson.encode({"_id": "k", "a": [1, 2]})
    for update in ({"$set": {f"a.{index}": 1}}, {"$unset": {f"a.{index}": ""}}, {"$unset": {f"a.{index}.b": ""}}):
        assert apply(body, [bson.encode(update)], "k") == {"_id": "k", "a": [1, 2]}


def test_arrays_are_filled_up_to_what_a_document_can_hold_and_no_further() -> None:
    """A few bytes ask for a million nulls, in as many arrays as there are."""
    body = bson.encode({"_id": "k", **{f"a{i}": [] for i in range(4)}})
    whole = bson.encode({"$set": {f"a{i}.1400000": 1 for i in range(3)}})
    document = apply(body, [bson.encode({"$set": {"a3.1400000": 1}}), whole], "k")
    assert [len(document[f"a{i}"]) for i in range(4)] == [0, 0, 0, 1_400_001]


def test_many_changes_of_one_array_copy_it_once() -> None:
    """Each with a copy of its own would take minutes."""
    count = 60_000
    body = bson.encode({"_id": "k", "a": [{}] * count})
    update = bson.encode({"$set": {f"a.{i}.b": i for i in range(count)}})
    assert apply(body, [update], "k")["a"] == [{"b": i} for i in range(count)]


def test_paths_that_say_a_long_name_again_and_again_are_too_large() -> None:
    with pytest.raises(Problem, match="document-too-large"):
        update_of({"a" * 10_000: {f"b{i}": 1 for i in range(200_000)}}, "k", 1 << 20)


NAMES = st.text("abc", min_size=1, max_size=2)
OBJECTS = st.recursive(
    st.none() | st.integers(0, 9) | st.lists(st.none() | st.integers(0, 9), max_size=2),
    lambda inner: st.dictionaries(NAMES, inner, min_size=1, max_size=3), max_leaves=10,
)  # fmt: skip


def merged(target: Any, patch: Any) -> Any:
    """RFC 7396, section 2."""
    if not isinstance(patch, dict):
        return patch
    target = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        else:
            target[name] = merged(target.get(name), value)
    return target


@given(st.dictionaries(NAMES, OBJECTS, max_size=3), st.dictionaries(NAMES, OBJECTS, min_size=1, max_size=3))
def test_where_objects_meet_objects_it_is_the_merge_of_the_rfc(base: dict[str, Any], patch: dict[str, Any]) -> None:
    def alike(target: Any, patch: Any) -> bool:
        """No scalar in the way, and nothing below what is not there that RFC 7396 would make an empty object of."""
        if not isinstance(patch, dict):
            return True
        return isinstance(target, dict) and all(
            alike(target[name], value) if name in target else not isinstance(value, dict)
            for name, value in patch.items()
        )

    if alike(base, patch):
        update = bson.encode(update_of(patch, "k", BIG))
        assert apply(bson.encode({"_id": "k", **base}), [update], "k") == merged({"_id": "k", **base}, patch)
