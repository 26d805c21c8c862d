"""How the process of an actor lives, and how it ends: wholly, so that Ray starts it again."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
from collections.abc import Awaitable, Coroutine, Sequence
from typing import Any, NoReturn

log = logging.getLogger("spillway")


def calm_collector() -> None:
    """Look for reference cycles rarely: requests and a backlog of a hundred thousand tuples have none, and a look walks
    them all. It took 6 % of a busy replica."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


async def together(*works: Coroutine[Any, Any, None]) -> None:
    """Do all of these at once until cancelled, or until one raises: then raise the same, and cancel the others.

    After a fault they are not waited for, as a `TaskGroup` would: one that does not heed its cancellation
    (`wait_for` up to Python 3.11 may swallow it) would keep a process alive that has to end.
    """
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    except asyncio.CancelledError:
        _cancel(tasks)
        await asyncio.wait(tasks)  # whoever stops this on purpose counts on its having come to rest
        raise
    _cancel(tasks)
    for task in done:
        task.result()


def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()


class Tasks:
    """Works that end by themselves. One that dies of a fault takes along whoever waits in `fail`: a half-dead actor
    would look alive."""

    def __init__(self) -> None:
        self.under_way: set[asyncio.Task[None]] = set()
        self._faults: asyncio.Queue[BaseException] = asyncio.Queue()

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self.under_way.add(task)
        task.add_done_callback(self._ended)

    async def until_idle(self) -> None:
        """Returns when none is under way."""
        while self.under_way:
            await asyncio.wait(self.under_way)

    async def fail(self) -> None:
        """Raises the first fault, as soon as there is one."""
        raise await self._faults.get()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.under_way.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._faults.put_nowait(fault)


async def live(work: Awaitable[None]) -> None:
    """Do an actor's work. When that ends, so does the process: half dead it would go on answering."""
    try:
        await work
    except asyncio.CancelledError:
        raise
    except BaseException:
        _die("this actor cannot go on; Ray starts it again")
    _die("this actor's work came to an end; Ray starts it again")


def _die(why: str) -> NoReturn:
    try:
        log.error(why, exc_info=sys.exception() is not None)
        logging.shutdown()
    finally:  # also when there is no memory to say why; ray.actor.exit_actor() would be taken as intended
        os._exit(1)
