"""What MongoDB holds, read past the service and past the witness."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo import MongoClient
from pymongo.errors import PyMongoError

DATABASE, COLLECTION = "assessmentdb", "records"
# About 13 MB of these documents: below the 16 MB a reply may have, few round trips for a million.
BATCH_DOCUMENTS = 20_000
# A document with an odd timestamp is a finding, not a crash of the judge.
_CODEC: CodecOptions[dict[str, Any]] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_AUTO, tz_aware=True)


class StoreError(RuntimeError):
    """MongoDB cannot be read, so there is no verdict."""


def check(mongodb_uri: str, within_s: float = 2.0) -> None:
    """Raises StoreError when no MongoDB answers at this address within so many seconds."""
    try:
        with MongoClient[dict[str, Any]](mongodb_uri, serverSelectionTimeoutMS=int(within_s * 1000)) as client:
            client.admin.command("ping")
    except PyMongoError as error:
        what = str(error).partition(" (configured timeouts:")[0]  # what follows describes the driver, in a paragraph
        raise StoreError(f"MongoDB does not answer: {what}") from error


def each_document(mongodb_uri: str) -> Iterator[dict[str, Any]]:
    """Every document of `assessmentdb.records` once, whole, in the server's order. Raises StoreError.

    One cursor over everything: FerretDB answers neither `$in`, nor a range, nor a count without reading everything too,
    and a projection saves it nothing (all measured: some 60 µs of its CPU a document either way).
    """
    client: MongoClient[dict[str, Any]] = MongoClient(mongodb_uri, serverSelectionTimeoutMS=10_000, tz_aware=True)
    try:
        collection = client[DATABASE][COLLECTION]
        batches = cast(Iterator[bytes], collection.find_raw_batches({}, batch_size=BATCH_DOCUMENTS))
        for batch in batches:
            yield from bson.decode_all(batch, _CODEC)
    except PyMongoError as error:
        raise StoreError(f"MongoDB cannot be read: {error}") from error
    finally:
        client.close()
