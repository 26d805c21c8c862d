"""What a driver does to a cancellation, and how it is undone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def heeding_cancellation() -> Iterator[None]:
    """Ends in `CancelledError` when the task was cancelled inside, whatever the driver made of it.

    redis-py and pymongo wait by `asyncio.wait_for`, which up to Python 3.11 may return as if its task had not been
    cancelled. The task would then go on for ever, and whoever waits for its end with it.
    """
    try:
        yield
    finally:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError
