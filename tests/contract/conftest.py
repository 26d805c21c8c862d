"""What several contracts need between a client and its server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.proxy import FaultProxy


@pytest.fixture
def proxy(redis_url: str) -> Iterator[FaultProxy]:
    """In front of the Redis that all tests share."""
    between = FaultProxy(int(redis_url.rpartition(":")[2].partition("/")[0]))
    yield between
    between.close()
