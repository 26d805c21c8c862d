"""A real Redis that answers within one turn of the loop, so that a story told under a clock set by hand has the same
course each time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis

from actors.adapters.redis_link import Client, connect


class Pipe:
    """A pipeline of `at_once`."""

    def __init__(self, pipe: Any, reach: Callable[[], None]) -> None:
        self._pipe = pipe
        self._reach = reach

    async def __aenter__(self) -> Pipe:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._pipe.reset()

    def __getattr__(self, command: str) -> Any:
        def add(*arguments: Any, **options: Any) -> Pipe:
            getattr(self._pipe, command)(*arguments, **options)
            return self

        return add

    async def execute(self, **options: Any) -> Any:
        self._reach()
        return self._pipe.execute(**options)


def at_once(server: redis.Redis) -> Client:
    """A client whose loop stands still until `server` has answered: the same story has the same course each time."""
    client = connect("redis://", 60.0)
    client.is_cut_off = False

    def reach() -> None:
        if client.is_cut_off:
            raise redis.ConnectionError("cut off")

    async def execute_command(*arguments: Any, **options: Any) -> Any:
        reach()
        return server.execute_command(*arguments, **options)

    client.execute_command = execute_command
    client.pipeline = lambda transaction=True: Pipe(server.pipeline(transaction), reach)
    return client
