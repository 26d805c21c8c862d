"""What became of the writes of one command: one outcome per write, none left to inference."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Outcome(IntEnum):
    STORED = 0  # MongoDB reported it done
    DUPLICATE = 1  # it was there already under our id: an earlier attempt had succeeded
    REJECTED = 2  # MongoDB will never take it; it belongs in the dead letters
    RETRY = 3  # not done, or unknown: try the same again


class Report(NamedTuple):
    """One byte per write, in the order asked. Silence about a write is not expressible, so it cannot mean success."""

    outcomes: bytes
    reasons: dict[int, str] = {}  # noqa: RUF012 - index -> why, for REJECTED; read only
    grown: int = 0  # documents the collection has more than before, through all of these writes
    retry_reason: str = ""  # why, for people, of one that is RETRY; empty when nothing is wrong

    @classmethod
    def all(cls, outcome: Outcome, count: int) -> Report:
        return cls(bytes([outcome]) * count, {})

    @classmethod
    def again(cls, count: int, reason: str) -> Report:
        return cls(bytes([Outcome.RETRY]) * count, retry_reason=reason)

    @classmethod
    def rejected(cls, reason: str) -> Report:
        return cls(bytes([Outcome.REJECTED]), {0: reason})

    @property
    def needs_retry(self) -> bool:
        return Outcome.RETRY in self.outcomes

    def part(self, start: int, stop: int) -> Report:
        """The report of writes start..stop-1, renumbered from 0. `grown` belongs to the whole and is left out."""
        outcomes = self.outcomes[start:stop]
        reasons = {i - start: why for i, why in self.reasons.items() if start <= i < stop}
        return Report(outcomes, reasons, retry_reason=self.retry_reason if Outcome.RETRY in outcomes else "")


def join(reports: list[Report]) -> Report:
    """One report for the concatenation of the reported writes."""
    reasons: dict[int, str] = {}
    base = 0
    for report in reports:
        reasons.update({base + i: why for i, why in report.reasons.items()})
        base += len(report.outcomes)
    return Report(
        b"".join(report.outcomes for report in reports),
        reasons,
        sum(report.grown for report in reports),
        next((report.retry_reason for report in reports if report.retry_reason), ""),
    )
