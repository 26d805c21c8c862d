"""Where an entry stands in its stream, as the log gives it: "milliseconds-sequence"."""

from __future__ import annotations

NOTHING = "0-0"  # before every entry


def order(position: str) -> tuple[int, int]:
    """Sort key. Raises `ValueError` when it is not a position."""
    milliseconds, _, sequence = position.partition("-")
    return int(milliseconds), int(sequence)


def accepted_s(position: str) -> float:
    """Wall clock seconds at which the log took it, by the log's own clock."""
    return order(position)[0] / 1000
