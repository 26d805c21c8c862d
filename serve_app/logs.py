"""Logs of a replica: everything that its modules and libraries say goes to the file that Serve keeps for it."""

from __future__ import annotations

import logging
from logging.handlers import MemoryHandler


def keep_records() -> None:
    """From here on a WARNING, or worse, of any logger is in the replica's file at once.

    Serve gives handlers to its own logger alone. All others end at stderr, which it takes for its logger at INFO, below
    the level that is kept here; and with RAY_SERVE_THROUGHPUT_OPTIMIZED a WARNING waits for a thousand more.
    """
    root = logging.getLogger()
    for handler in logging.getLogger("ray.serve").handlers:
        if isinstance(handler, MemoryHandler):
            handler.flushLevel = logging.WARNING
        root.addHandler(handler)
