"""How the process of an actor lives, and how it ends: wholly, so that Ray starts it again."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
from collections.abc import Awaitable
from typing import NoReturn

log = logging.getLogger("spillway")


def calm_collector() -> None:
    """Look for reference cycles rarely: requests and a backlog of a hundred thousand tuples have none, and a look walks
    them all. It took 6 % of a busy replica."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


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
