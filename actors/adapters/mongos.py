"""Mongos: a router of a sharded cluster, of which the service may know a single one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pymongo import AsyncMongoClient, MongoClient

# How it ends a command whose shards it no longer waits for: its time was up (50, 202, 262), somebody interrupted it
# (11601, 279, 90), or the connection to one broke (6, 89, 384, 9001). A shard may answer so itself, and be done; from
# here the two look alike.
_GIVEN_UP = frozenset({6, 50, 89, 90, 202, 262, 279, 384, 9001, 11601})


def has_given_up(code: int | None) -> bool:
    """May a shard go on with a command, or not even have read it yet, that a mongos answers with `code`?"""
    return code in _GIVEN_UP


def has_no_answer(error: Mapping[str, Any]) -> bool:
    """Does it say so itself, of a single write? Whatever the code; but where it found no host, it has sent nothing.

    In its own words only, which are the first: an error may repeat those of a document.
    """
    words = str(error.get("errmsg", ""))
    return words.startswith("Write results unavailable from ") and not words.startswith(
        "Write results unavailable from failing to target"
    )


def is_one(hello: Mapping[str, Any]) -> bool:
    """Is it a mongos that was greeted with this?"""
    return hello.get("msg") == "isdbgrid"


def too_many(hello: Mapping[str, Any], client: AsyncMongoClient[Any] | MongoClient[Any]) -> str:
    """What is wrong with the addresses of `client`, which was answered with `hello`; empty when nothing is.

    Of two mongos one answers for the other: that it greets says nothing about a command which the other has not read
    yet, and executes when newer versions are stored. A replica set is no such case: a primary that was away loses what
    it executes then.
    """
    if not is_one(hello):
        return ""
    addresses = sorted(f"{host}:{port}" for host, port in client.topology_description.server_descriptions())
    if len(addresses) == 1:
        return ""
    named = ", ".join(addresses)
    return f"it names several mongos ({named}), and one may execute late what went on at another; name a single one"
