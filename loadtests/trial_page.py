"""A trial as a page and as JSON: the verdict first, then thresholds, figures, plots, and where it was measured."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from loadtests import series
from loadtests.facts import SYNCED
from loadtests.findings import breaking_point
from loadtests.laboratory import Trial
from loadtests.page import Page, Table, milliseconds, number
from loadtests.plots import Curve, Plot
from loadtests.processes import GENERATOR, LABORATORY
from loadtests.report import rows

NO_WITNESS = (
    "There is no witness in this run: the number of commands is what the service says of itself. "
    "With one: python -m cluster up --witness"
)
UNSYNCED = (
    "Redis ran with {}: answers did not wait for the disk. A power cut would have lost some of them, and with "
    f"{SYNCED} the figures would be others."
)
CLOSED = (
    " Users wait for their answers here, so a slow service is asked less: claims about latency come from `rate`, whose "
    "requests come whether or not the ones before were answered."
)
LONG_S = 600.0
SORTED = (
    " For its thresholds k6 sorts all latencies of the run every two seconds: its own CPU grows with the run's length."
)
_SMALL_PARTS = 0.02  # cores; what takes less on average is drawn as one


def write(trial: Trial, folder: Path, facts: Mapping[str, str]) -> Path:
    """Write both files and return the page's path. Raises OSError."""
    return page_of(trial, facts).write(folder, "report", json_of(trial, facts))


def page_of(trial: Trial, facts: Mapping[str, str]) -> Page:
    """The page of a trial."""
    figures, problems = trial.outcome.figures(), trial.problems()
    answers = trial.outcome.answers
    return Page(
        title=f"{trial.load.scenario}{' --quick' if trial.load.quick else ''} · {trial.target.name}",
        subtitle=f"{_users(trial)}, {trial.plan.seconds:,.0f} s, {', '.join(trial.load.base_urls)}, "
        + time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(answers.started_s or 0)),
        passed=not problems,
        verdict=("Passed: " if not problems else "Failed: ") + trial.outcome.final_line(),
        reasons=problems,
        warnings=warnings_of(trial, facts),
        tiles=[
            (number(figures["requests_per_second"]), "requests/s answered"),
            *_latency_tiles(figures),
            (number(figures["unknown_requests"] + figures["refused_requests"]), "requests not accepted"),
            (number(figures["documents_per_second"]), "documents/s stored, drain included"),
            (f"{number(figures['worst_window'])} of {number(figures['limit'])}", "commands in the busiest second"),
        ],
        tables=_tables(trial),
        plots=plots_of(trial),
        facts=facts,
    )


def _latency_tiles(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    """None for a trial of several steps, whose percentiles are in the table of steps."""
    names = {"median": "p50_ms", "p95": "p95_ms", "p99": "p99_ms"}
    return [(milliseconds(figures[of]), name) for name, of in names.items() if figures[of] is not None]


def warnings_of(trial: Trial, facts: Mapping[str, str]) -> list[str]:
    """What a reader must know before believing the figures."""
    found = trial.warnings()
    if trial.target.limit is None:  # a baseline, of which nothing is demanded
        return found
    if trial.target.witness_record is None:
        found.append(NO_WITNESS)
    kept = facts.get("Redis", SYNCED).rpartition(", ")[2]
    if kept != SYNCED:
        found.append(UNSYNCED.format(kept))
    return found


def _users(trial: Trial) -> str:
    if trial.plan.open_model:
        return ", ".join(f"{step.rate:,.0f}/s" for step in trial.plan.steps if step.rate) + " offered"
    return f"up to {max(step.users for step in trial.plan.steps):,} users"


def _tables(trial: Trial) -> list[Table]:
    tables = []
    if trial.thresholds:
        lines = [
            (item.metric, item.expression, "-" if item.value is None else f"{item.value:,.4g}", _met(item.met))
            for item in trial.thresholds
        ]
        tables.append(Table("Thresholds", ("metric", "wanted", "measured", ""), lines))
    if trial.steps:
        head = ("step", "offered/s", "answered/s", "p50", "p95", "p99", "failed", "not begun", "")
        steps = [
            (
                step.name,
                number(step.offered_per_s),
                number(step.answered_per_s),
                *(milliseconds(value) for value in (step.p50_ms, step.p95_ms, step.p99_ms)),
                f"{step.failed:.2%}",
                number(step.dropped),
                step.broken or "held",
            )
            for step in trial.steps
        ]
        note = (
            f"Breaking point: {breaking_point(trial.steps)}. Broken: 1 % failed, p95 > 2 s, "
            "or under 90 % of the offer answered, where there is one."
        )
        tables.append(Table("Steps", head, steps, note))
    tables.append(Table("Figures", (), [*rows(trial.outcome.figures()), *_generator_rows(trial)]))
    tables.append(_parts(trial))
    return tables


def _parts(trial: Trial) -> Table:
    """CPU and memory of each part, over the whole time that was watched."""
    second, parts = series.cpu(trial.samples[1:], 0.0)
    requests, lines = trial.outcome.answers.requests, []
    watched_s = trial.samples[-1].at_s - trial.samples[0].at_s if second.size else 0.0
    us_per_core = watched_s / requests * 1e6 if requests and watched_s else None
    for part, curve in parts.items():
        memory = [sample.usage.rss_bytes.get(part, 0) for sample in trial.samples]
        count = max(sample.usage.count.get(part, 0) for sample in trial.samples)
        lines.append(
            (
                part,
                str(count),
                f"{curve.mean():.2f}",
                f"{curve.max():.2f}",
                number(us_per_core and curve.mean() * us_per_core),
                f"{max(memory) / series.MIB:,.0f}",
            )
        )
    head = (
        "part",
        "processes",
        "CPU, mean (cores)",
        "CPU, most in a second",
        "CPU, µs a request",
        "resident memory, most (MiB)",
    )
    return Table("Processes", head, lines, "Memory that processes share is counted in each of them.")


def _generator_rows(trial: Trial) -> list[tuple[str, str]]:
    k6 = trial.generator
    cost = "" if k6.cpu_us_per_request is None else f", {k6.cpu_us_per_request:,.0f} µs a request"
    used = "" if k6.share_of_used is None else f"{k6.share_of_used:.0%} of the CPU that was used, "
    alone = k6.service_us_per_request and k6.machine_cores * 1e6 / k6.service_us_per_request
    return [
        (
            "k6",
            f"{k6.cores:.2f} cores, {used}{k6.share_of_machine:.0%} of the machine{cost}",
        ),
        (
            "all but k6",
            f"{number(k6.service_us_per_request)} µs of CPU a request: on this machine alone, k6 elsewhere, "
            f"{number(alone)} requests/s at most",
        ),
        ("machine", f"{k6.machine_busy:.0%} busy"),
    ]


def _met(met: bool) -> str:
    return "met" if met else "missed"


def plots_of(trial: Trial) -> list[Plot]:
    """Throughput, latency, backlog, lag, commands and CPU over time; plots without data come out empty."""
    answers = trial.outcome.answers
    start_s = answers.started_s or 0.0
    stop_s = answers.stopped_s or start_s
    load = series.latency(answers.ends_s, answers.took_ms, answers.failed_ends_s, start_s, stop_s)
    until_s = max(trial.samples[-1].at_s, stop_s) if trial.samples else stop_s
    seconds = "seconds since the start"
    curves = [Curve("answered", load.second, load.answered)]
    if load.failed.any():
        curves.append(Curve("not accepted", load.second, load.failed))
    percentiles = [Curve(f"p{name}", load.second, values) for name, values in load.percentiles_ms.items()]
    shades = _shades(trial)
    backlog, lag = (series.gauge(trial.samples, start_s, name) for name in ("backlog", "lag_s"))
    told = "By the service's own status, which may be two seconds old. It goes on until the backlog is empty."
    witnessed = Plot(
        "MongoDB commands in the fullest window of one second",
        seconds,
        "commands",
        [Curve("fullest window ending here", *series.commands(trial.stamps, start_s, until_s))] if trial.stamps else [],
        limit=None if trial.outcome.limit is None else (trial.outcome.limit, f"limit {trial.outcome.limit}"),
        note="By the witness, a proxy before MongoDB: every command but hello, authentication and endSessions.",
    )
    plots = [
        Plot("Throughput", seconds, "requests/s", curves, shades=shades),
        Plot(
            "Latency",
            seconds,
            "milliseconds",
            percentiles,
            shades=shades,
            note="Exact percentiles of the accepted answers that ended in each second, as k6 measured them."
            + ("" if trial.plan.open_model else CLOSED),
        ),
        Plot("Backlog", seconds, "writes in the log", [Curve("backlog", *backlog)], note=told),
        Plot("Lag", seconds, "seconds", [Curve("age of the oldest write", *lag)], note=told),
        witnessed,
        _cpu(trial, start_s),
        _memory(trial, start_s),
    ]
    return [replace(plot, x_max=max(until_s - start_s, 1.0)) for plot in plots]


def _shades(trial: Trial) -> list[tuple[float, float, str]]:
    """Every other step in grey, so that steps are told apart."""
    if len(trial.plan.steps) < 2:
        return []
    steps = trial.plan.steps
    return [
        (step.start_s, step.start_s + step.seconds if at % 2 else step.start_s, step.name)
        for at, step in enumerate(steps)
    ]


def _cpu(trial: Trial, start_s: float) -> Plot:
    second, parts = series.cpu(trial.samples[1:], start_s)
    large = {name: curve for name, curve in parts.items() if curve.size and curve.mean() >= _SMALL_PARTS}
    small = [curve for name, curve in parts.items() if name not in large]
    if small:
        large["the rest"] = np.sum(small, axis=0)
    curves = [Curve(name, second, curve) for name, curve in large.items()]
    note = "Stacked. k6 is the load generator: on this machine it takes from the service what it takes for itself."
    if trial.plan.has_thresholds and trial.plan.seconds >= LONG_S:
        note += SORTED
    return Plot("CPU by part", "seconds since the start", "cores", curves, stacked=True, note=note)


def _memory(trial: Trial, start_s: float) -> Plot:
    """The service's; k6's, which collects its garbage late, would dwarf it."""
    second, parts = series.memory(trial.samples, start_s)
    curves = [Curve(name, second, curve) for name, curve in parts.items() if name not in (GENERATOR, LABORATORY)]
    return Plot("Memory by part, without k6", "seconds since the start", "resident MiB", curves)


def json_of(trial: Trial, facts: Mapping[str, str]) -> dict[str, Any]:
    """The same as plain values, the curves included."""
    last = trial.samples[-1].usage if trial.samples else None
    return {
        "scenario": trial.load.scenario,
        "quick": trial.load.quick,
        "target": trial.target.name,
        "urls": trial.load.base_urls,
        "passed": not trial.problems(),
        "verdict": trial.outcome.final_line(),
        "problems": trial.problems(),
        "warnings": warnings_of(trial, facts),
        "thresholds": [asdict(item) for item in trial.thresholds],
        "steps": [asdict(step) | {"broken": step.broken} for step in trial.steps],
        "breaking_point": breaking_point(trial.steps) if trial.steps else None,
        "figures": trial.outcome.figures(),
        "generator": asdict(trial.generator),
        "rss_bytes_at_end": last.rss_bytes if last else {},
        "processes_at_end": last.count if last else {},
        "plots": [_plot_json(plot) for plot in plots_of(trial) if not plot.empty],
        "facts": dict(facts),
    }


def _plot_json(plot: Plot) -> dict[str, Any]:
    curves = {curve.name: {"x": _plain(curve.x), "y": _plain(curve.y)} for curve in plot.curves}
    return {"title": plot.title, "x": plot.x_label, "y": plot.y_label, "curves": curves}


def _plain(values: Any) -> list[float | None]:
    return [None if np.isnan(value) else round(float(value), 3) for value in np.asarray(values, dtype=float)]
