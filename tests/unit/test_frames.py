"""The frames in which writes travel and are kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.core.document import (
    MAX_ID_BYTES,
    MAX_NAMESPACE_BYTES,
    Key,
    Kind,
    MalformedPayload,
    Write,
    decode_writes,
    encode_writes,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
writes = st.lists(st.builds(Write, st.sampled_from([int(kind) for kind in Kind]), texts, texts, st.binary(max_size=80)))


@given(writes)
def test_what_was_framed_is_read_back(some: list[Write]) -> None:
    assert decode_writes(encode_writes(some)) == some


@given(writes, writes)
def test_payloads_may_be_joined(some: list[Write], more: list[Write]) -> None:
    assert decode_writes(encode_writes(some) + encode_writes(more)) == some + more


@given(writes.filter(bool), st.data())
def test_a_payload_cut_inside_a_frame_is_never_read_as_whole(some: list[Write], data: st.DataObject) -> None:
    whole = encode_writes(some)
    last = len(encode_writes(some[-1:]))
    with pytest.raises(MalformedPayload):
        decode_writes(whole[: len(whole) - data.draw(st.integers(1, last - 1))])


@given(st.binary(max_size=60))
def test_garbage_is_refused_or_is_frames(payload: bytes) -> None:
    try:
        some = decode_writes(payload)
    except MalformedPayload:
        return
    assert encode_writes(some) == payload


def test_a_kind_from_the_future_is_refused() -> None:
    payload = encode_writes([Write(Kind.DELETE, "d.c", "x", b"")])
    with pytest.raises(MalformedPayload, match="number 4"):
        decode_writes(bytes([Kind.DELETE + 1]) + payload[1:])


def test_an_id_that_is_no_text_is_refused() -> None:
    payload = bytearray(encode_writes([Write(Kind.DELETE, "d.c", "x", b"")]))
    payload[-1] = 0xFF
    with pytest.raises(MalformedPayload, match="UTF-8"):
        decode_writes(bytes(payload))


@pytest.mark.parametrize(
    "write",
    [
        Write(Kind.INSERT, "d" * (MAX_NAMESPACE_BYTES + 1), "x", b""),
        Write(Kind.INSERT, "d.c", "é" * (MAX_ID_BYTES // 2 + 1), b""),
    ],
    ids=["namespace", "id"],
)
def test_a_name_too_long_for_its_length_field_is_refused(write: Write) -> None:
    with pytest.raises(ValueError, match="over"):
        encode_writes([write])


def test_the_layout_on_disk_stays_as_it_is() -> None:
    payload = encode_writes([Write(Kind.PUT, "d.c", "ab", b"xyz")])
    assert payload == b"\x01\x03\x02\x00\x03\x00\x00\x00d.cabxyz"


def test_a_write_is_about_one_key() -> None:
    assert Write(Kind.PUT, "d.c", "ab", b"").key == Key("d.c", "ab")
