from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, timedelta, timezone

import bson
import pytest
from bson import Binary, DatetimeMS, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp, json_util
from hypothesis import given
from hypothesis import strategies as st

from serve_app.documents import MAX_DEPTH, decode, document, encode, parse, refuse_larger, relaxed
from serve_app.errors import Problem

BIG = 1 << 24


def refused(text: str | bytes) -> tuple[str, str | None]:
    with pytest.raises(Problem) as caught:
        encode(document(parse(text.encode() if isinstance(text, str) else text)), BIG)
    return caught.value.code, caught.value.field


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"$oid":"0123456789abcdef01234567"}', ObjectId("0123456789abcdef01234567")),
        ('{"$date":"2026-01-02T03:04:05.678Z"}', datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)),
        ('{"$date":"2026-01-02T03:04:05.678-0030"}', datetime(2026, 1, 2, 3, 34, 5, 678000, UTC)),
        ('{"$date":{"$numberLong":"1000"}}', datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
        ('{"$numberInt":"5"}', 5),
        ('{"$numberLong":"5"}', Int64(5)),
        ('{"$numberDouble":"1.5"}', 1.5),
        ('{"$numberDecimal":"1.10"}', Decimal128("1.10")),
        ('{"$binary":{"base64":"AQI=","subType":"00"}}', b"\1\2"),
        ('{"$uuid":"0123456789abcdef0123456789abcdef"}', Binary(bytes.fromhex("0123456789abcdef" * 2), 4)),
        ('{"$timestamp":{"t":1,"i":2}}', Timestamp(1, 2)),
        ('{"$regularExpression":{"pattern":"^a","options":"i"}}', Regex("^a", 2)),
        ('{"$minKey":1}', MinKey()),
        ('{"$maxKey":1}', MaxKey()),
        ("[1,{}]", [1, {}]),
        ("9223372036854775807", 2**63 - 1),
        ('"\\ud83d\\ude00"', "😀"),
        ("null", None),
    ],
)
def test_values_become_their_bson_type(text: str, value: object) -> None:
    members = document(parse(f'{{"a":{text}}}'.encode()))
    assert members["a"] == value
    assert decode(encode(members, BIG))["a"] == value


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "{]", '{"a":01}',
        '{"a":1,}', "{'a':1}", '{"a":"\t"}', '{"a":1}x',
        b'\xef\xbb\xbf{"a":1}', b'{"a":"\xff"}', b'{"a":"\xed\xa0\x80"}', '{"a":' + "9" * 5000 + "}",
    ],
)  # fmt: skip
def test_what_is_not_strict_json(text: str | bytes) -> None:
    assert refused(text)[0] == "malformed-json"


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('{"a":1,"a":2}', "a"),
        ('{"x":[{"b":{"a":1,"a":1}}]}', "x[0].b.a"),
        ('{"a":{"$oid":"0123456789abcdef01234567","$oid":"0123456789abcdef01234567"}}', "a.$oid"),
    ],
)
def test_a_name_twice(text: str, field: str) -> None:
    assert refused(text) == ("malformed-json", field)


def test_a_name_twice_among_very_many_is_found_in_passing() -> None:
    """Looking for each among all before it would take hours."""
    names = ",".join(f'"{i}":0' for i in [*range(300_000), 299_999])
    assert refused(f"{{{names}}}") == ("malformed-json", "299999")


def test_where_a_field_is_is_told_in_a_few_hundred_characters() -> None:
    """Whatever is inside a long name would say it again."""
    name = "n" * 100_000
    inside = ",".join(["[]"] * 100_000)
    code, field = refused(f'{{"{name}":[{inside},{{"$where":1}}]}}')
    assert code == "invalid-document"
    assert field is not None
    assert field.startswith("nnn")
    assert len(field) < 1_000


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number(constant: str) -> None:
    assert refused(f'{{"a":{{"b":[{constant}]}}}}') == ("malformed-json", "a.b[0]")
    assert refused(f'{{"a":{{"$date":{constant}}}}}') == ("malformed-json", "a.$date")


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("[]", None),
        ("NaN", None),
        ("5", None),
        ("null", None),
        ('{"$set":{}}', "$set"),
        ('{"$oid":"0123456789abcdef01234567"}', "$oid"),
        ('{"a":{"$where":"1"}}', "a.$where"),
        ('{"a":{"b":1,"$gt":1}}', "a.$gt"),
        ('{"a":{"$code":"x"}}', "a.$code"),
        ('{"a":{"$oid":"0123456789abcdef01234567","b":1}}', "a.$oid"),
        ('{"a":[1,{"b":{"$date":"not a date"}}]}', "a[1].b"),
        ('{"a":{"$date":true}}', "a"),
        ('{"a":{"$date":"2026-01-01"}}', "a"),
        ('{"a":{"$date":"2026-01-01T00:00:00"}}', "a"),
        ('{"a":{"$date":"2026-01-01T00:00:00+99:00"}}', "a"),
        ('{"a":{"$date":"2026-01-01T00:00:00-24:00"}}', "a"),
        ('{"a":{"$date":"2026-01-01T00:00:00+00:60"}}', "a"),
        ('{"a":{"$date":"2026-01-01T00:00:00+-1:00"}}', "a"),
        ('{"a":{"$date":"2026-01-01T00:00:00.1_2Z"}}', "a"),
        ('{"a":{"$date":"2026-1-1T0:0:0Z"}}', "a"),
        ('{"a":{"$date":"٢٠٢٦-01-01T00:00:00Z"}}', "a"),
        ('{"a":{"$oid":5}}', "a"),
        ('{"a":{"$numberInt":"4294967296"}}', "a"),
        ('{"a":{"$numberLong":"99999999999999999999"}}', "a"),
        ('{"a":{"$numberLong":"1_0"}}', "a"),
        ('{"a":{"$numberDouble":" 1"}}', "a"),
        ('{"a":{"$numberDouble":"-1e400"}}', "a"),
        ('{"a":{"$numberDecimal":"x"}}', "a"),
        ('{"a":{"$numberDecimal":"-sNaN"}}', "a"),
        ('{"a":{"$binary":{"base64":"%%%","subType":"00"}}}', "a"),
        ('{"a":{"$binary":{"base64":"AQI=","subType":"zz"}}}', "a"),
        ('{"a":{"$timestamp":{"t":-1,"i":0}}}', "a"),
        ('{"a":{"$timestamp":{"t":true,"i":0}}}', "a"),
        ('{"a":{"$timestamp":{"t":1,"i":false}}}', "a"),
        ('{"a":{"$regularExpression":{"pattern":"a","options":5}}}', "a"),
        ('{"a":{"$regularExpression":{"pattern":"a\\u0000b","options":""}}}', "a"),
        ('{"a":{"$regularExpression":{"pattern":"a","options":"ig"}}}', "a"),
        ('{"a":{"$regularExpression":{"pattern":"a","options":"I"}}}', "a"),
        ('{"a":{"$regularExpression":{"pattern":"a","options":"\\u0000"}}}', "a"),
        ('{"a":{"$uuid":"x"}}', "a"),
        ('{"a\\u0000b":1}', "a\0b"),
        ('{"\\ud800":1}', "\ud800"),
        ('{"a":"\\ud800"}', "a"),
        ('{"a":["\\udc00"]}', "a[0]"),
        ('{"a":9223372036854775808}', "a"),
        ('{"a":-9223372036854775809}', "a"),
        ('{"a":{"b":[18446744073709551616]}}', "a.b[0]"),
        ('{"a":1e400}', "a"),
    ],
)
def test_what_cannot_be_stored(text: str, field: str | None) -> None:
    assert refused(text) == ("invalid-document", field)


def test_nesting_ends_at_the_limit() -> None:
    def nested(levels: int, opening: str, closing: str, core: str) -> str:
        return opening * levels + core + closing * levels

    assert document(parse(nested(MAX_DEPTH - 1, '{"a":', "}", "{}").encode()))
    assert refused(nested(MAX_DEPTH, '{"a":', "}", "{}"))[0] == "invalid-document"
    assert document(parse(('{"a":' + nested(MAX_DEPTH - 1, "[", "]", "") + "}").encode()))
    assert refused('{"a":' + nested(MAX_DEPTH, "[", "]", "") + "}")[0] == "invalid-document"
    assert refused(nested(100_000, '{"a":', "}", "1"))[0] == "invalid-document"
    assert refused(nested(100_000, "[", "]", ""))[0] == "invalid-document"


def test_a_document_may_be_as_large_as_allowed_and_no_larger() -> None:
    members = {"a": "x" * 100}
    size = len(bson.encode(members))
    assert encode(members, size)
    with pytest.raises(Problem, match="document-too-large"):
        encode(members, size - 1)


@pytest.mark.parametrize("count", [0, 1, 5, 9, 10, 11, 100, 101, 1_000])
@pytest.mark.parametrize(
    "value",
    [
        "null", "true", "1", '""', "{}", "[]", "[{}]", '{"$minKey":1}', '{"":{"$maxKey":1}}', '{"$numberInt":"5"}',
        '{"$regularExpression":{"pattern":"","options":""}}', '{"$binary":{"base64":"","subType":"00"}}',
        '[{"$minKey":1},{"$minKey":1}]', '{"$date":{"$numberLong":"1000"}}', '{"$timestamp":{"t":1,"i":2}}',
    ],
)  # fmt: skip
def test_nothing_that_fits_has_too_many_values(value: str, count: int) -> None:
    names = [chr(i) for i in range(0x20, 0x7F) if chr(i) not in '"$\\']
    array = f'{{"":[{",".join([value] * count)}]}}'
    members = f"{{{','.join(f'{json.dumps(name)}:{value}' for name in ['', *names][:count])}}}"
    for text in (array, members, f'{{"":[{",".join([members] * 9)}]}}'):
        refuse_larger(parse(text.encode()), len(encode(document(parse(text.encode())), BIG)))


def test_relaxed_extended_json_comes_back_as_it_went() -> None:
    text = (
        '{"_id":{"$oid":"0123456789abcdef01234567"},"at":{"$date":"2026-01-02T03:04:05.678Z"},"n":5,"l":12345678901,"d":1.5,'
        '"x":{"$numberDouble":"Infinity"},"b":{"$binary":{"base64":"AQI=","subType":"00"}},"s":"\\u00e9","a":[1,null,true]}'
    )
    assert json.loads(relaxed(decode(encode(document(parse(text.encode())), BIG)))) == json.loads(text)


def test_a_time_without_a_zone_is_told_to_name_one() -> None:
    """It was taken for UTC, which its sender need not have meant."""
    with pytest.raises(Problem, match="with its Z or an offset"):
        document(parse(b'{"a":{"$date":"2026-01-01T00:00:00"}}'))


MILLISECONDS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)).map(
    lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000, tzinfo=UTC)
)
VALUES = st.one_of(
    MILLISECONDS,
    st.integers(-(2**63), 2**63 - 1).map(DatetimeMS),
    st.builds(Regex, st.text(st.characters(codec="utf-8", exclude_characters="\0")), st.text("ilmsux", max_size=6)),
    st.builds(Timestamp, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    st.decimals(allow_nan=False, places=3, min_value=-(10**20), max_value=10**20).map(Decimal128),
    st.sampled_from([Decimal128("NaN"), Decimal128("-Infinity"), Decimal128("1E+6144"), MinKey(), MaxKey()]),
    st.floats(allow_nan=False),
    st.integers(2**31, 2**63 - 1).map(Int64),  # smaller ones are plain in relaxed text
    st.builds(Binary, st.binary(max_size=9), st.sampled_from([0, 1, 4, 5, 128])),
    st.binary(min_size=12, max_size=12).map(ObjectId),
)


@given(VALUES, st.sampled_from([json_util.CANONICAL_JSON_OPTIONS, json_util.RELAXED_JSON_OPTIONS]))
def test_what_drivers_write_as_extended_json_is_stored_as_the_value_it_stands_for(
    value: object, options: json_util.JSONOptions
) -> None:
    text = json_util.dumps({"a": value}, json_options=options)
    assert encode(document(parse(text.encode())), BIG) == bson.encode({"a": value})


@given(MILLISECONDS, st.integers(-1439, 1439), st.sampled_from(["auto", "milliseconds", "microseconds"]))
def test_a_time_with_an_offset_is_stored_as_the_instant_it_is(at: datetime, minutes: int, digits: str) -> None:
    text = at.astimezone(timezone(timedelta(minutes=minutes))).isoformat(timespec=digits)
    assert document(parse(json.dumps({"a": {"$date": text}}).encode()))["a"] == at


NAMES = ["$date", "$oid", "$binary", "$timestamp", "$numberLong", "$numberInt", "$uuid", "$regularExpression", "t", "i"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(max_size=5) | st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(JSON)
def test_any_json_is_stored_as_it_reads_or_refused_with_a_problem(value: object) -> None:
    text = json.dumps({"a": value}).encode()
    try:
        body = encode(document(parse(text)), BIG)
    except Problem:
        return
    refuse_larger(parse(text), len(body))
    assert relaxed(decode(body))


@given(st.binary(max_size=60))
def test_any_bytes_are_taken_or_refused_with_a_problem(body: bytes) -> None:
    with contextlib.suppress(Problem):
        document(parse(body))
