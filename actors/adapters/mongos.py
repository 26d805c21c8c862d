"""Mongos: a router of a sharded cluster, of which the service may know a single one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pymongo import AsyncMongoClient, MongoClient


def too_many(hello: Mapping[str, Any], client: AsyncMongoClient[Any] | MongoClient[Any]) -> str:
    """What is wrong with the addresses of `client`, which was answered with `hello`; empty when nothing is.

    Of two mongos one answers for the other: that it greets says nothing about a command which the other has not read
    yet, and executes when newer versions are stored. A replica set is no such case: a primary that was away loses what
    it executes then.
    """
    if hello.get("msg") != "isdbgrid":
        return ""
    addresses = sorted(f"{host}:{port}" for host, port in client.topology_description.server_descriptions())
    if len(addresses) == 1:
        return ""
    named = ", ".join(addresses)
    return f"it names several mongos ({named}), and one may execute late what went on at another; name a single one"
