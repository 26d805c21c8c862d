"""How a verified run is judged, shown and kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loadtests.answers import Answers
from loadtests.generator import values_of
from loadtests.service import Drain, backlog_of, writer_of
from loadtests.verdict import Verdict
from loadtests.window import WRITING, Traffic


@dataclass(slots=True)
class Outcome:
    """Everything known about one run."""

    answers: Answers
    verdict: Verdict
    drain: Drain
    limit: int | None  # commands in any window of 1 s; None: not judged
    traffic: Traffic | None  # what the witness saw; None without a witness
    self_reported: int | None  # the service's own worst window, since the start of the writer that it has now
    summary: Mapping[str, Any]  # k6's figures; empty when there are none
    load_s: float | None = None  # how long load was to be offered; None: until the last answer came
    writer: int | None = None  # the epoch of that writer, after the drain; None: not told

    @property
    def worst(self) -> int | None:
        """The worst window (commands): the witness' figure, else the service's own, else None."""
        if self.traffic:
            return self.traffic.worst
        # Of a writer that has begun since, and has stored nothing of what was accepted: no news of this run.
        return None if self.answers.writes and not self.self_reported else self.self_reported

    @property
    def source(self) -> str:
        """Who vouches for the worst window, and of which part of the run."""
        if self.traffic:
            return "witness"
        return "self-reported" if self._one_writer() else "self-reported, since its last writer's start"

    def _one_writer(self) -> bool:
        """Whether the writer whose figure it is was there before the load."""
        return self.writer is not None and self.writer == writer_of(self.answers.status_at_start)

    def problems(self) -> list[str]:
        """Why the run failed, one sentence each; empty when it passed."""
        verdict, found = self.verdict, []
        if not self.answers.writes:
            found.append("nothing was accepted")
        if self.answers.is_cut:
            found.append("k6 did not come to its end, so its record has none: requests may be missing from it")
        missing = _requests(self.summary) - (self.answers.requests + self.answers.unknown + self.answers.refused)
        if missing > 0:
            found.append(f"{missing:,} requests of k6 left no line in its record, so nobody knows how they ended")
        if self.drain.seconds is None:
            found.append(f"the backlog did not drain in time, last seen: {self.drain.backlog} writes")
        for name in ("lost", "doubled", "ghosts", "malformed", "phantoms"):
            finding = getattr(verdict, name)
            if finding.count:
                found.append(f"{finding.count} {name}, for example {', '.join(finding.examples)}")
        if self.limit is None:
            return found
        if self.worst is None:
            found.append("no witness, and the service reports no worst window")
        elif self.worst > self.limit:
            found.append(f"{self.worst} commands reached MongoDB in one second, {self.limit} are allowed")
        if self.worst is not None and not self.traffic and not self._one_writer():
            began, ended = (epoch or "unknown" for epoch in (writer_of(self.answers.status_at_start), self.writer))
            found.append(
                f"no witness, and the worst window is only that since the last writer's start (epoch {began} before "
                f"the load, {ended} after the drain): what was sent before is unknown"
            )
        if self.traffic and self.answers.writes and not self.traffic.total:
            found.append("the witness saw no command in this run: the service goes around it, or its record is another")
        elif self.traffic:
            found += self._gaps(self.traffic)
        return found

    def _gaps(self, traffic: Traffic) -> list[str]:
        """Why the witness' record is not the whole of what this run did: a fuller window may be missing from it."""
        found, least = [], self.verdict.least_bytes
        if not traffic.reaches_back:
            found.append("the witness' record is not whole: it was dropped up to a time after the start of this run")
        if traffic.written_bytes < least:
            found.append(
                f"the witness' record is not whole: its writing commands have {traffic.written_bytes:,} bytes, what "
                f"was accepted and is stored takes {least:,} at least"
            )
        return found

    def figures(self) -> dict[str, Any]:
        """The run in numbers: seconds, writes, commands, milliseconds, as their names say."""
        answers, verdict = self.answers, self.verdict
        seconds = answers.duration_s
        backlog = backlog_of(answers.status_at_stop)
        rate = answers.writes / seconds if seconds else None
        stored_in = seconds + self.drain.seconds if seconds and self.drain.seconds is not None else None
        time, connecting = _latency(self.summary), values_of(self.summary, "http_req_connecting")
        commands = self.traffic.commands if self.traffic else {}
        writing = sum(commands.get(name, 0) for name in WRITING)
        return {
            "accepted_requests": answers.requests,
            "accepted_writes": answers.writes,
            "unknown_requests": answers.unknown,
            "refused_requests": answers.refused,
            "reads": answers.read_count,
            "short_reads": answers.short_reads,
            "seconds": round(seconds, 3),
            "requests_per_second": self._requests_per_second(),
            "p50_ms": time.get("med"),
            "p95_ms": time.get("p(95)"),
            "p99_ms": time.get("p(99)"),
            "max_ms": time.get("max"),
            "connecting_p95_ms": connecting.get("p(95)"),
            "connecting_p99_ms": connecting.get("p(99)"),
            "connecting_max_ms": connecting.get("max"),
            "backlog_at_stop_writes": backlog,
            "backlog_at_stop_seconds": round(backlog / rate, 3) if backlog is not None and rate else None,
            "drain_seconds": None if self.drain.seconds is None else round(self.drain.seconds, 3),
            "documents_per_second": round(answers.writes / stored_in, 1) if stored_in else None,
            "documents_of_run": verdict.of_run,
            "documents_in_collection": verdict.documents,
            "documents_of_unknown_outcome": verdict.unknown,
            "documents_undated": verdict.undated,
            "commands": self.traffic.total if self.traffic else None,
            "commands_by_name": commands or None,
            "writes_per_command": round(verdict.of_run / writing, 1) if writing else None,
            "lost": verdict.lost.count,
            "doubled": verdict.doubled.count,
            "ghosts": verdict.ghosts.count,
            "malformed": verdict.malformed.count,
            "phantoms": verdict.phantoms.count,
            "worst_window": self.worst,
            "worst_window_source": self.source,
            "limit": self.limit,
        }

    def _requests_per_second(self) -> float | None:
        """While load was offered: the last answers come late, and when most users are gone already."""
        seconds = self.answers.duration_s
        if not seconds:
            return None
        if self.load_s is None:
            return round(self.answers.requests / seconds, 1)
        loaded_s = min(self.load_s, seconds)
        return round(self.answers.ended(0.0, loaded_s) / loaded_s, 1)

    def final_line(self) -> str:
        """The verdict in one line, always of the same form; a figure no witness vouches for says so."""
        verdict = self.verdict
        worst = "unknown" if self.worst is None else str(self.worst)
        source = "" if self.traffic or self.worst is None else f" ({self.source})"
        return (
            f"lost {verdict.lost.count}, doubled {verdict.doubled.count}, ghosts {verdict.ghosts.count}, "
            f"worst window {worst}{source}"
        )


def _latency(summary: Mapping[str, Any]) -> Mapping[str, float]:
    """k6's figures of the answers that were as expected: a refusal is quicker, and no answer slower, than any of them.

    Empty for a run of several steps: percentiles over a light step and a heavy one are those of neither.
    """
    if any("{scenario:" in name for name in summary.get("metrics", {})):
        return {}
    return values_of(summary, "http_req_duration{expected_response:true}")


def _requests(summary: Mapping[str, Any]) -> int:
    """The requests of the load: k6 asks of those, and not of its questions before and after, whether they failed."""
    failed = values_of(summary, "http_req_failed")
    return int(failed.get("passes", 0) + failed.get("fails", 0))


def keep(outcome: Outcome, path: Path) -> None:
    """Write the figures, the problems and the findings with their examples as JSON. Raises OSError."""
    content = {
        "passed": not outcome.problems(),
        "verdict": outcome.final_line(),
        "problems": outcome.problems(),
        "figures": outcome.figures(),
        "findings": asdict(outcome.verdict),
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def show(outcome: Outcome, console: Console) -> None:
    """A table of the figures, the problems, then the final line."""
    figures = outcome.figures()
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for label, text in rows(figures):
        table.add_row(label, text)
    console.print(table)
    for problem in outcome.problems():
        console.print(f"[bold red]✗[/] {escape(problem)}", highlight=False)
    colour = "red" if outcome.problems() else "green"
    console.print(outcome.final_line(), style=f"bold {colour}", highlight=False, soft_wrap=True)


def rows(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and figures for people."""

    def of(name: str, unit: str = "", digits: int = 0) -> str:
        value = figures[name]
        return "-" if value is None else f"{value:,.{digits}f}{unit}"

    rows = [
        ("accepted", f"{of('accepted_requests')} requests, {of('accepted_writes')} writes in {of('seconds', ' s', 1)}"),
        ("requests/s", of("requests_per_second")),
        (
            "backlog at stop",
            f"{of('backlog_at_stop_writes')} writes, {of('backlog_at_stop_seconds', ' s', 2)} of traffic",
        ),
        ("drain", f"{of('drain_seconds', ' s', 1)}, {of('documents_per_second')} documents/s over run and drain"),
        ("stored", f"{of('documents_of_run')} of this run, {of('documents_in_collection')} in all"),
    ]
    if figures["p50_ms"] is not None:
        latency = f"p50 {of('p50_ms', ' ms', 1)}, p95 {of('p95_ms', ' ms', 1)}, p99 {of('p99_ms', ' ms', 1)}"
        rows.insert(2, ("latency", latency))
    if figures["connecting_p95_ms"]:  # 0 where connections are kept
        waits = (of(f"connecting_{name}_ms", " ms", 1) for name in ("p95", "p99", "max"))
        rows.insert(3, ("connecting", "p95 {}, p99 {}, {} at most: k6 does not count it as latency".format(*waits)))
    if figures["commands_by_name"]:
        names = ", ".join(f"{name} {count:,}" for name, count in figures["commands_by_name"].items())
        rows.append(("commands", f"{of('commands')} ({names}), {of('writes_per_command', '', 1)} writes each"))
    rows.append(("worst window", f"{of('worst_window')} of {of('limit')}, {figures['worst_window_source']}"))
    if figures["unknown_requests"] or figures["refused_requests"]:
        unknown = f"{of('unknown_requests')} unknown ({of('documents_of_unknown_outcome')} documents stored)"
        rows.append(("not accepted", f"{of('refused_requests')} refused, {unknown}"))
    if figures["short_reads"]:
        rows.append(("reads", f"{of('reads')}; {of('short_reads')} answers brought fewer than one before"))
    if figures["documents_undated"]:
        rows.append(("undated", f"{of('documents_undated')} documents of unknown age, not judged"))
    return rows
