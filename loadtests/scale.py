"""`python -m loadtests scale`: what more replicas, buffers, writes in a flush or commands a second bring."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from loadtests import facts, trial_page
from loadtests.generator import Load
from loadtests.laboratory import Trial, conduct, stop_if_interrupted
from loadtests.page import Page, Table, milliseconds, number
from loadtests.plots import Curve, Plot
from loadtests.serve_api import set_replicas
from loadtests.spillway import Spillway
from loadtests.throughput import warm_up


@dataclass(frozen=True, slots=True)
class Axis:
    """What is varied, everything else as it is by default. `variable`: the setting in the environment of a restarted
    service; None: the number of replicas, which Serve changes while it runs."""

    name: str
    label: str
    values: Sequence[int]
    variable: str | None


@dataclass(frozen=True, slots=True)
class Cell:
    """One value of one axis: its figures, what the judge found, k6's part."""

    axis: str
    value: int
    requests_per_s: float | None
    p95_ms: float | None
    p99_ms: float | None
    documents_per_s: float | None
    lag_most_s: float | None
    writes_per_command: float | None
    worst_window: int | None
    limit: int | None
    verdict: str
    problems: list[str]
    k6_cores: float
    warnings: list[str]
    versions: dict[str, str]


def scale(folder: Path, axes: Sequence[Axis], users: int, seconds: float, console: Console, k6: str) -> Page:
    """Measure each cell, keep scale.html and scale.json in the folder up to date, and return the page.

    Raises what `conduct` raises, and ServiceError when the service does not start or Serve does not change.
    """
    cells: list[Cell] = []
    about = facts.where(k6)
    page = page_of(axes, cells, users, seconds, about)
    for axis in axes:
        if not axis.values:
            continue
        console.print(axis.name, style="bold")
        for value, service in _services(axis, folder, console):
            out = folder / f"{axis.name}-{value}".replace(" ", "-")
            load = Load("flood", service.target().urls, out, users=users, seconds=seconds)
            warm_up(load, console, k6)
            trial = conduct(load, service.target(), console, k6)
            stop_if_interrupted(trial)
            cells.append(_cell(axis, value, trial))
            trial_page.write(trial, load.out, cells[-1].versions)
            console.print(f"  {value}: {_line(cells[-1])}", highlight=False)
            page = _keep(folder, axes, cells, users, seconds, {**about, **cells[-1].versions})
    return page


def _keep(
    folder: Path, axes: Sequence[Axis], cells: Sequence[Cell], users: int, seconds: float, about: dict[str, str]
) -> Page:
    """After each cell: what was measured stays when a later one cannot be."""
    content = {"cells": [asdict(cell) for cell in cells], "users": users, "seconds": seconds, "facts": about}
    page = page_of(axes, cells, users, seconds, about)
    page.write(folder, "scale", content)
    return page


def _services(axis: Axis, folder: Path, console: Console) -> Iterator[tuple[int, Spillway]]:
    """A running service for each value of the axis."""
    if axis.variable is None:
        with _running(folder, {}, console) as service:
            for value in axis.values:
                with console.status(f"{value} replicas, by Serve's config API"):
                    set_replicas(service.addresses, value)
                yield value, service
        return
    for value in axis.values:
        with _running(folder, {axis.variable: str(value)}, console) as service:
            yield value, service


@contextmanager
def _running(folder: Path, settings: dict[str, str], console: Console) -> Iterator[Spillway]:
    service = Spillway(folder / "spillway", settings=settings)
    with console.status("starting the service"):
        service.start()
    try:
        yield service
    finally:
        with console.status("stopping the service"):
            service.stop()


def _cell(axis: Axis, value: int, trial: Trial) -> Cell:
    figures = trial.outcome.figures()
    return Cell(
        axis=axis.name,
        value=value,
        requests_per_s=figures["requests_per_second"],
        p95_ms=figures["p95_ms"],
        p99_ms=figures["p99_ms"],
        documents_per_s=figures["documents_per_second"],
        lag_most_s=trial.lag_most_s(),
        writes_per_command=figures["writes_per_command"],
        worst_window=figures["worst_window"],
        limit=figures["limit"],
        verdict=trial.outcome.final_line(),
        problems=trial.problems(),
        k6_cores=trial.generator.cores,
        warnings=trial.warnings(),
        versions=facts.servers(trial.target.redis_url, trial.target.mongodb_uri),
    )


def page_of(axes: Sequence[Axis], cells: Sequence[Cell], users: int, seconds: float, about: dict[str, str]) -> Page:
    """One table and one plot for each axis."""
    faults = [f"{cell.axis} {cell.value}: {problem}" for cell in cells for problem in cell.problems]
    warnings = [f"{cell.axis} {cell.value}: {warning}" for cell in cells for warning in cell.warnings]
    passed = not faults and bool(cells)
    tables, plots = [], []
    for axis in axes:
        mine = [cell for cell in cells if cell.axis == axis.name]
        if mine:
            tables.append(_table(axis, mine))
            plots.append(_plot(axis, mine))
    return Page(
        title="What scales, and what does not",
        subtitle=f"{users} users in a closed loop, {seconds:.0f} s a cell, direct port; "
        + time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        passed=passed,
        verdict=f"All {len(cells)} cells passed the judge" if passed else f"{len(faults)} faults in {len(cells)} cells",
        reasons=faults,
        warnings=warnings,
        tables=tables,
        plots=plots,
        facts=about,
    )


def _table(axis: Axis, cells: Sequence[Cell]) -> Table:
    head = (
        axis.label, "requests/s", "p95", "p99", "documents/s", "lag, most", "writes a command", "worst window",
        "k6 (cores)", "",
    )  # fmt: skip
    rows = [
        (
            f"{cell.value:,}",
            number(cell.requests_per_s),
            milliseconds(cell.p95_ms),
            milliseconds(cell.p99_ms),
            number(cell.documents_per_s),
            number(cell.lag_most_s, " s", 2),
            number(cell.writes_per_command),
            f"{number(cell.worst_window)} of {number(cell.limit)}",
            number(cell.k6_cores, digits=2),
            "no" if cell.problems else "yes",
        )
        for cell in cells
    ]
    how = f"by {axis.variable}, restarted" if axis.variable else "by Serve's config API, nothing restarted"
    note = f"Changed {how}; all else as it is by default. Last column: whether the cell passed the judge."
    return Table(axis.name.capitalize(), head, rows, note)


def _plot(axis: Axis, cells: Sequence[Cell]) -> Plot:
    values = [float(cell.value) for cell in cells]
    rates = [cell.requests_per_s if cell.requests_per_s is not None else float("nan") for cell in cells]
    stored = [(cell.documents_per_s or float("nan")) / 5 for cell in cells]
    return Plot(
        f"Throughput by {axis.name}",
        axis.label,
        "per second",
        [Curve("requests answered", values, rates), Curve("requests' writes stored, drain included", values, stored)],
        markers=True,
        note="Five writes a request: where the second line falls behind the first, the drain did not keep up.",
    )


def _line(cell: Cell) -> str:
    return f"{number(cell.requests_per_s)} requests/s, p95 {milliseconds(cell.p95_ms)}; {cell.verdict}"
