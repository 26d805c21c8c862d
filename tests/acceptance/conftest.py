"""One running service for the whole ring; it is started, hurt and judged from outside."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.service import Service


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Redis, MongoDB, the witness, Ray and Serve, all of its own."""
    running = Service.start(
        tmp_path_factory.mktemp("service"), SPILLWAY_WRITER_LEASE_S="1", SPILLWAY_MONGODB_TIMEOUT_S="2"
    )
    yield running
    running.stop()
