from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import bson

from actors.core.document import Kind
from serve_app.ids import uuid7
from serve_app.records import PAYLOAD_CHARACTERS, WRITES, random_characters, records


def test_the_bytes_are_those_of_the_bson_library() -> None:
    ids = [uuid7() for _ in range(WRITES)]
    writes = records("assessmentdb.records", ids, 1_700_000_000_123)
    assert [write.id for write in writes] == ids
    assert len({write.body for write in writes}) == WRITES
    for index, write in enumerate(writes):
        assert (write.kind, write.namespace) == (Kind.INSERT, "assessmentdb.records")
        document = bson.decode(write.body)
        payload = document["payload"]
        assert len(payload) == PAYLOAD_CHARACTERS
        assert payload.isascii()
        assert payload.isalnum()
        expected = {
            "_id": ids[index], "type": "write", "index": index, "payload": payload,
            "timestamp": datetime.fromtimestamp(1_700_000_000.123, UTC),
        }  # fmt: skip
        assert write.body == bson.encode(expected)


def test_every_letter_and_digit_is_as_likely() -> None:
    counts = Counter(random_characters(620_000).decode())
    assert len(counts) == 62
    assert all(9_300 < count < 10_700 for count in counts.values())  # seven standard deviations


def test_random_characters_are_as_many_as_asked() -> None:
    assert [len(random_characters(n)) for n in (0, 1, 7, 512, 2560)] == [0, 1, 7, 512, 2560]
