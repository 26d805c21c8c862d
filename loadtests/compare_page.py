"""A comparison as a page and as JSON."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from loadtests import contest
from loadtests.baselines.baseline import KINDS
from loadtests.contest import Loss, Round, Standing
from loadtests.page import Page, Table, milliseconds, number
from loadtests.plots import Bars

RIVAL = KINDS[0].name
VERDICTS = {
    True: "Ours reaches each of these goals",
    False: "Ours misses a goal, or has a fault",
    None: "Measured; nothing is demanded of these loads",
}


def page_of(
    found: Sequence[Standing],
    losses: Sequence[Loss],
    rounds: Sequence[Round],
    about: Sequence[tuple[str, str]],
    where: dict[str, str],
) -> Page:
    """The comparison as a page."""
    ours = about[0][0]
    goals = contest.goals(found, ours, RIVAL)
    faults = [problem for item in rounds if item.contender == ours for problem in item.problems]
    faults += [f"when it was killed: {fault}" for loss in losses if loss.contender == ours for fault in loss.problems]
    passed = all(met for _, met in goals) and not faults if goals or faults else None
    warnings = {f"{item.contender}, {item.users:,} users: {warning}" for item in rounds for warning in item.warnings}
    users = sorted({item.users for item in found})
    names = [name for name, _ in about]

    def bars(column: str) -> dict[str, list[float | None]]:
        rows = {name: [contest.find(found, name, load) for load in users] for name in names}
        return {name: [item.medians[column] if item else None for item in row] for name, row in rows.items()}

    labels = [f"{load:,} users" for load in users]
    return Page(
        title="Spillway and what one would write instead",
        subtitle=f"rounds: {max((item.rounds for item in found), default=0)}, interleaved, medians, on one machine; "
        + time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        passed=passed,
        verdict=VERDICTS[passed],
        reasons=[f"{'✓' if met else '✗'} {text}" for text, met in goals] + faults,
        warnings=sorted(warnings),
        tables=[*_tables(found, ours, users), _loss_table(losses), Table("Who they are", (), list(about))],
        plots=[
            Bars("Requests per second", "requests/s", labels, bars("requests_per_second")),
            Bars("p99", "milliseconds", labels, bars("p99_ms")),
        ],
        facts=where,
    )


def _tables(found: Sequence[Standing], ours: str, users: Sequence[int]) -> list[Table]:
    head = (
        "", "requests/s (each round)", "ours is", "p50", "p95", "p99", "not accepted", "fewer reads", "documents/s",
        "lag, most", "backlog at stop", "k6 (cores)", "all but k6, µs of CPU a request",
    )  # fmt: skip
    tables = []
    for load in users:
        mine = contest.find(found, ours, load)
        lines = []
        for item in found:
            if item.users != load:
                continue
            times = contest.ratio(mine, item)
            lines.append(
                (
                    item.contender,
                    f"{number(item.medians['requests_per_second'])} ({', '.join(map(number, item.every_rate))})",
                    "-" if times is None or item is mine else f"{times:.2f} times",
                    *(milliseconds(item.medians[name]) for name in ("p50_ms", "p95_ms", "p99_ms")),
                    *(number(item.medians[name]) for name in ("not_accepted", "short_reads", "documents_per_second")),
                    number(item.medians["lag_most_s"], " s", 2),
                    number(item.medians["backlog_at_stop_writes"]),
                    number(item.k6_cores, digits=2),
                    number(item.service_us),
                )
            )
        tables.append(Table(f"{load:,} users", head, lines))
    return tables


def _loss_table(losses: Sequence[Loss]) -> Table:
    head = ("", "accepted writes", "lost", "still queued", "doubled", "ghosts", "outcome unknown", "ready again after")
    lines = [
        (
            loss.contender,
            number(loss.accepted),
            loss.told,
            number(loss.queued),
            number(loss.doubled),
            number(loss.ghosts),
            f"{loss.unknown_requests:,} requests",
            number(loss.back_s, " s", 1),
        )
        for loss in losses
    ]
    note = (
        "kill -9 of all workers, Redis and the drain at once, under load; then a restart. What a killed process has "
        "written stays with the kernel: a power cut, which is not tried here, would also take what was not synced: "
        "half a minute of answers where appendfsync is no, a second where it is everysec, none where it is always."
    )
    return Table("What each one lost when it was killed", head, lines, note)


def json_of(
    found: Sequence[Standing], losses: Sequence[Loss], rounds: Sequence[Round], where: dict[str, str]
) -> dict[str, Any]:
    """The same as plain values."""
    ours = rounds[0].contender if rounds else ""
    return {
        "medians": [
            asdict(item) | {"ours_is_times": contest.ratio(contest.find(found, ours, item.users), item)}
            for item in found
        ],
        "goals": [{"goal": text, "met": met} for text, met in contest.goals(found, ours, RIVAL)],
        "losses": [asdict(loss) | {"lost": loss.lost} for loss in losses],
        "rounds": [asdict(item) for item in rounds],
        "facts": where,
    }
