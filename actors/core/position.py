"""Where an entry stands in its stream, as the log gives it: "milliseconds-sequence"."""

from __future__ import annotations

NOTHING = "0-0"  # before every entry


def order(position: str) -> tuple[int, int]:
    """Sort key. Raises `ValueError` when it is not a position."""
    milliseconds, _, sequence = position.partition("-")
    return int(milliseconds), int(sequence)


def accepted_s(position: str, now_s: float) -> float:
    """Wall clock seconds at which the log took it, by the log's own clock, and never after `now_s`: where that clock is
    ahead, or was set back, a write that waits would seem to come from the future, and its lag be 0."""
    return min(order(position)[0] / 1000, now_s)
