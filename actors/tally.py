"""Tally: what the writer has sent, counted for operators. It decides nothing."""

from __future__ import annotations

from typing import Any

from actors.core.pacing import SECOND_NS, WindowGauge
from actors.core.ports import Clock, Telemetry


class Tally:
    """Every command is counted once, by what became of it."""

    def __init__(self, clock: Clock, telemetry: Telemetry) -> None:
        self._clock = clock
        self._telemetry = telemetry
        self._commands = 0
        self._loads = 0
        self._writes = 0
        self._last = 0
        self._largest = 0

    def command(self, began_ns: int, outcome: str) -> None:
        """One command ended just now. `outcome`: done, refused, failed, unknown or unsent."""
        self._commands += 1
        self._telemetry.count("commands", outcome=outcome)
        if outcome != "unsent":
            self._telemetry.observe("command_seconds", (self._clock.now_ns() - began_ns) / SECOND_NS)

    def load(self, writes: int) -> None:
        """So many writes have left in one command and are reported."""
        self._loads += 1
        self._writes += writes
        self._last = writes
        self._largest = max(self._largest, writes)
        self._telemetry.observe("command_writes", writes)

    def report(self, gauge: WindowGauge, epoch: int, mongodb: str) -> None:
        """What is so now, for whoever draws it; to be called every second or so."""
        self._telemetry.gauge("commands_last_second", gauge.last(self._clock.now_ns()))
        self._telemetry.gauge("worst_window_commands", gauge.worst)
        self._telemetry.gauge("writer_epoch", epoch)
        if mongodb != "unknown":
            self._telemetry.gauge("mongodb_up", float(mongodb == "up"))

    def stats(self) -> dict[str, Any]:
        """Since the start of this writer; None where nothing has been sent yet."""
        return {
            "commands_total": self._commands,
            "writes_total": self._writes,
            "mean_writes": round(self._writes / self._loads, 1) if self._loads else None,
            "last_writes": self._last if self._loads else None,
            "largest_writes": self._largest if self._loads else None,
        }
