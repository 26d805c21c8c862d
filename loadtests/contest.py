"""Ours and the baselines in turn, interleaved and repeated: the figures of each round, and their medians. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

COLUMNS = (
    "requests_per_second",
    "p50_ms",
    "p95_ms",
    "p99_ms",
    "not_accepted",
    "short_reads",
    "documents_per_second",
    "lag_most_s",
    "backlog_at_stop_writes",
)
WANTED_RATIO = {64: 1.7, 1000: 2.5}
WANTED_P99_MS = {1000: 1_000.0}
WANTED_LAG_S = 1.0


@dataclass(frozen=True, slots=True)
class Round:
    """One contender under one load, once. `figures` are the judge's, and the most lag; `problems` what it found."""

    contender: str
    users: int
    figures: dict[str, Any]
    problems: list[str]
    warnings: list[str] = field(default_factory=list)
    k6_cores: float = 0.0
    service_us: float | None = None  # CPU a request, without k6's


@dataclass(frozen=True, slots=True)
class Standing:
    """One contender under one load: medians over the rounds, None where no round had a figure."""

    contender: str
    users: int
    rounds: int
    medians: dict[str, float | None]
    every_rate: list[float]
    k6_cores: float
    service_us: float | None


@dataclass(frozen=True, slots=True)
class Loss:
    """What a contender had to show after `kill -9` of everything that answers, keeps or drains, under load."""

    contender: str
    accepted: int
    missing: int  # accepted, not in MongoDB when the judge looked
    queued: int | None  # writes of whatever run that still waited then
    doubled: int
    ghosts: int
    unknown_requests: int
    phantoms: int
    back_s: float  # from the kill until it was ready again
    problems: list[str]  # all that kept the trial from passing; of ours each is a fault

    @property
    def lost(self) -> int | None:
        """Accepted writes that are not in MongoDB; None while others wait, since nobody can tell them apart."""
        return None if self.missing and self.queued else self.missing

    @property
    def told(self) -> str:
        """In words: the number, or between which two it lies."""
        if self.lost is not None:
            return f"{self.lost:,}"
        return f"{max(0, self.missing - (self.queued or 0)):,} to {self.missing:,}"


def order(contenders: Sequence[str], round_number: int) -> list[str]:
    """Another one begins in every round, so that no one always has the coolest or the busiest machine."""
    shift = round_number % len(contenders)
    return [*contenders[shift:], *contenders[:shift]]


def figures_of(figures: dict[str, Any]) -> dict[str, float | None]:
    """The columns of the table, from the judge's figures."""
    chosen = {name: figures.get(name) for name in COLUMNS}
    chosen["not_accepted"] = figures["unknown_requests"] + figures["refused_requests"]
    return chosen


def standings(rounds: Sequence[Round]) -> list[Standing]:
    """Medians by load and contender, in the order in which they first appear; loads ascending."""
    names = list(dict.fromkeys(item.contender for item in rounds))
    found = []
    for users in sorted({item.users for item in rounds}):
        for name in names:
            mine = [item for item in rounds if item.contender == name and item.users == users]
            if not mine:
                continue
            columns = [figures_of(item.figures) for item in mine]
            medians = {column: _median([values[column] for values in columns]) for column in COLUMNS}
            rates = [values["requests_per_second"] or 0.0 for values in columns]
            cores = median([item.k6_cores for item in mine])
            service_us = _median([item.service_us for item in mine])
            found.append(Standing(name, users, len(mine), medians, rates, cores, service_us))
    return found


def ratio(ours: Standing | None, other: Standing, column: str = "requests_per_second") -> float | None:
    """Ours divided by the other's; None where either has no figure, or the other's is 0."""
    mine = ours.medians.get(column) if ours else None
    theirs = other.medians.get(column)
    return mine / theirs if mine is not None and theirs else None


def find(found: Sequence[Standing], contender: str, users: int) -> Standing | None:
    """A contender's standing under a load."""
    return next((item for item in found if (item.contender, item.users) == (contender, users)), None)


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def goals(found: Sequence[Standing], ours: str, rival: str) -> list[tuple[str, bool]]:
    """What `compare` must show against the hand-made service, and whether it does, for the loads that were measured."""
    met = []
    for mine in (item for item in found if item.contender == ours):
        lag_s = mine.medians["lag_most_s"]
        text = f"{mine.users:,} users: in the median round no write is seen waiting {WANTED_LAG_S:.0f} s for MongoDB"
        shown = "unknown" if lag_s is None else f"{lag_s:.2f} s"
        met.append((f"{text} (at most {shown} there)", lag_s is not None and lag_s < WANTED_LAG_S))
    for users, wanted in WANTED_RATIO.items():
        own, other = find(found, ours, users), find(found, rival, users)
        if own is None:
            continue
        times = ratio(own, other) if other else None  # not measured, not won
        met.append((f"{users:,} users: at least {wanted} times {rival} (is {_times(times)})", (times or 0) >= wanted))
        limit, p99 = WANTED_P99_MS.get(users), own.medians["p99_ms"]
        if limit is not None:
            is_below = p99 is not None and p99 < limit
            shown = "unknown" if p99 is None else f"{p99:,.0f} ms"
            met.append((f"{users:,} users: p99 below {limit:,.0f} ms (is {shown})", is_below))
    return met


def _times(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f} times"
