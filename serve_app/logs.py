"""Logs of a replica: everything that its modules and libraries say goes to the file that Serve keeps for it."""

from __future__ import annotations

import logging
from logging.handlers import MemoryHandler


def keep_records() -> None:
    """From here on a WARNING, or worse, of any logger is in the replica's file at once; until Serve is given another
    `logging_config`, which it takes up with new handlers: so this is done again and again.

    Serve gives handlers to its own logger alone. All others end at stderr, which it takes for its logger at INFO, below
    the level that is kept here; and with RAY_SERVE_THROUGHPUT_OPTIMIZED a WARNING waits for a thousand more.
    """
    root, ours = logging.getLogger(), logging.getLogger("ray.serve").handlers
    for handler in root.handlers[:]:
        if isinstance(handler, MemoryHandler) and handler not in ours:
            root.removeHandler(handler)
    for handler in ours:
        if isinstance(handler, MemoryHandler):
            handler.flushLevel = logging.WARNING
            root.addHandler(handler)
