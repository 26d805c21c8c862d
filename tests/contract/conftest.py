"""What several contracts need between a client and its server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.embedded.redis_server import RedisServer
from tests.acceptance.proxy import FaultProxy
from tests.conftest import found_redis, oldest_redis


@pytest.fixture
def proxy(redis_url: str) -> Iterator[FaultProxy]:
    """In front of the Redis that all tests share."""
    between = FaultProxy(int(redis_url.rpartition(":")[2].partition("/")[0]))
    yield between
    between.close()


@pytest.fixture(params=["redis", "oldest"])
def each_server(request: pytest.FixtureRequest, tmp_path: Path) -> RedisServer:
    """For a Redis of the test's own over `tmp_path`: what `make up` would start, and the oldest that is promised."""
    return oldest_redis() if request.param == "oldest" else found_redis(tmp_path)
