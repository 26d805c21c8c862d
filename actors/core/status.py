"""One picture of the service out of what its parts say of themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_BATCH = ("mean_writes", "last_writes", "largest_writes")  # in one command


def summarize(
    buffers: Sequence[dict[str, Any] | None], writer: dict[str, Any] | None, dead_letters: int | None = None
) -> dict[str, Any]:
    """`GET /v1/status`. None stands for a part that did not answer: it is shown as away, and never as fine.
    Nor is MongoDB called down for a writer that does not answer: somebody would look for the fault there.

    What a silent buffer holds is in its log, or what one has inherited and not counted yet, so nobody knows how much
    waits: backlog, lag and ETA are null then. A sum without it would say "drained" while a thousand accepted writes
    have yet to reach MongoDB, and counters without it would fall and rise again: an alert takes that for new ones.
    `dead_letters` are those on the shelf now, whoever put them there.
    """
    there = [buffer for buffer in buffers if buffer is not None]
    all_there = len(there) == len(buffers)

    def total(name: str) -> Any:
        """Over all buffers; None as soon as one of them does not tell it."""
        told = [buffer and buffer[name] for buffer in buffers]
        return None if None in told else sum(told)

    writes, accepted_per_s, drained_per_s = total("writes"), total("accepted_per_s"), total("drained_per_s")
    return {
        "ready": all_there and all(buffer["ready"] for buffer in there),
        "accepted_total": total("accepted_total"),
        "drained_total": total("drained_total"),
        "dead_lettered_total": total("dead_lettered_total"),
        "dead_letters": dead_letters,
        "accepted_per_s": accepted_per_s and round(accepted_per_s, 1),
        "drained_per_s": drained_per_s and round(drained_per_s, 1),
        "backlog": {"writes": writes, "bytes": total("bytes")},
        "lag_s": None if writes is None else max((buffer["lag_s"] for buffer in there), default=0.0),
        "drain_eta_s": drain_eta_s(writes, accepted_per_s, drained_per_s),
        "commands": writer["commands"] if writer else {"last_second": None, "worst_window": None, "limit": None},
        "batch": {name: writer.get(name) if writer else None for name in _BATCH},
        "mongodb": writer["mongodb"] if writer else "unknown",
        "redis": "up" if there and all(buffer["log_up"] for buffer in there) else "down",
        "documents": writer["documents"] if writer else {},
        "writer": writer or {"last_error": "the MongoWriter does not answer"},
        "buffers": [buffer or {"ready": False, "last_error": "this buffer does not answer"} for buffer in buffers],
    }


def drain_eta_s(writes: int | None, accepted_per_s: float, drained_per_s: float) -> float | None:
    """Seconds until the backlog is gone at the present rates; None while it does not shrink or is not known."""
    if writes is None:
        return None
    if writes == 0:
        return 0.0
    net = drained_per_s - accepted_per_s
    return round(writes / net, 1) if net > 0 else None
