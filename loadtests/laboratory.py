"""One trial: checks the machine, lets k6 run a scenario while everything is watched, then lets the judge speak."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from loadtests import generator, preflight, samples
from loadtests.answers import load_answers
from loadtests.findings import Generator, StepFigures, generator_of, steps_of, wanted_of
from loadtests.generator import (
    ABORTED,
    FINISHED,
    INTERRUPTED,
    GeneratorError,
    Load,
    Threshold,
    inspect,
    start_k6,
    thresholds_of,
)
from loadtests.processes import GENERATOR, LISTENERS, Watch
from loadtests.report import Outcome, keep
from loadtests.samples import Sample, Sampler
from loadtests.scenario import Plan
from loadtests.service import ServiceError, is_ready
from loadtests.verify import ANSWERS, COMMANDS_PER_SECOND, DRAIN_TIMEOUT_S, SUMMARY, VERDICT, verify
from loadtests.window import Stamp, read_record

READY_WAIT_S = 30.0
SAMPLES, K6_LOG = "samples.ndjson", "k6.log"


@dataclass(frozen=True, slots=True)
class Target:
    """A running service: what is asked, and what the judge needs to know of it."""

    name: str
    urls: tuple[str, ...]
    mongodb_uri: str
    witness_record: Path | None = None
    run_id: str | None = None
    redis_url: str | None = None
    limit: int | None = COMMANDS_PER_SECOND  # None: not judged
    roots: tuple[int, ...] = ()  # processes whose children are the service's too
    drain_timeout_s: float = DRAIN_TIMEOUT_S


@dataclass(slots=True)
class Trial:
    """What one run of a scenario left. `code` is k6's."""

    load: Load
    target: Target
    plan: Plan
    code: int
    outcome: Outcome
    summary: Mapping[str, Any]
    samples: list[Sample]
    generator: Generator
    thresholds: list[Threshold]
    steps: list[StepFigures]
    stamps: list[Stamp] = field(default_factory=list)

    def problems(self) -> list[str]:
        """Why it did not pass: the judge's findings, then the thresholds missed, then how k6 ended."""
        found = self.outcome.problems()
        for threshold in self.thresholds:
            if not threshold.met:
                value = "" if threshold.value is None else f", measured {threshold.value:,.4g}"
                found.append(f"threshold {threshold.metric} {threshold.expression} was missed{value}")
        if self.code not in FINISHED:
            found.append(generator.reason(self.code))
        return found


def conduct(load: Load, target: Target, console: Console, k6: str, until: Callable[[], None] = lambda: None) -> Trial:
    """Run a scenario against a target and judge it; the records are in `load.out`. The judge waits for `until`.

    Raises GeneratorError (the message holds the commands that mend the machine), ServiceError, NoVerdict, ValueError
    for an unknown scenario, OSError.
    """
    load.out.mkdir(parents=True, exist_ok=True)
    plan = inspect(k6, load)
    watch = Watch(target.run_id, target.roots)
    load = replace(load, local_ips=_prepare(plan, load, watch))
    for url in load.base_urls:
        with console.status(f"waiting for {url}/readyz"):
            if not is_ready(url, READY_WAIT_S):
                raise ServiceError(f"{url}/readyz did not answer 200 within {READY_WAIT_S:.0f} s")
    answers, summary = load.out / ANSWERS, load.out / SUMMARY
    for old in (answers, summary, load.out / VERDICT):
        old.unlink(missing_ok=True)  # k6 appends; a run starts with an empty record
    with ExitStack() as watched:
        process = start_k6(k6, load, answers, summary, load.out / K6_LOG)
        watch.follow(process.pid)
        sampler = watched.enter_context(Sampler(watch, load.base_urls[0], answers))
        code = _await(process, plan, sampler, console)
        loaded_until_s = time.time()
        if code == ABORTED or not answers.exists():
            raise GeneratorError(f"{generator.reason(code)}: {_tail(load.out / K6_LOG)}")
        until()
        outcome = verify(
            load.out,
            load.base_urls[0],
            target.mongodb_uri,
            target.witness_record,
            unknown=plan.users if code == INTERRUPTED else 0,
            limit=target.limit,
            load_s=plan.seconds,
            drain_timeout_s=target.drain_timeout_s,
            console=console,
            drained=watched.close,
        )
    keep(outcome, load.out / VERDICT)
    samples.keep(sampler.seen, load.out / SAMPLES)
    return _trial(load, target, plan, code, outcome, sampler.seen, loaded_until_s)


def warm_up(load: Load, console: Console, k6: str) -> None:
    """Run a scenario that is neither watched, judged nor counted; requests may fail.

    Raises GeneratorError when k6 did not come to its end, KeyboardInterrupt after Ctrl-C, OSError.
    """
    _unjudged(load, console, k6)


def closed_loop(load: Load, console: Console, k6: str) -> float:
    """Requests/s that a scenario gets through, neither watched nor judged.

    Of a scenario that records its answers, those that came while load was offered; of another all that were made, which
    is one a user too many at most.

    Raises what `warm_up` raises, and GeneratorError when a request failed: a refusal is quick, so a rate that counts
    refusals is no capacity.
    """
    plan, metrics = _unjudged(load, console, k6)
    failed = metrics.get("http_req_failed", {}).get("values", {})
    if failed.get("rate", 0.0) > 0:
        made = failed["passes"] + failed["fails"]
        raise GeneratorError(
            f"{failed['passes']:,.0f} of {made:,.0f} requests to {', '.join(load.base_urls)} failed, so their rate is "
            f"no capacity: the service's log says why; k6's record is in {load.out}"
        )
    answers = load_answers(load.out / ANSWERS)
    recorded = answers.started_s is not None
    made = answers.ended(0.0, plan.seconds) if recorded else metrics["http_reqs"]["values"]["count"]
    return float(made) / plan.seconds


def _unjudged(load: Load, console: Console, k6: str) -> tuple[Plan, Mapping[str, Any]]:
    """One run of k6 to its end; its plan and its metrics."""
    load.out.mkdir(parents=True, exist_ok=True)
    plan = inspect(k6, load)
    answers, summary, log = load.out / ANSWERS, load.out / SUMMARY, load.out / K6_LOG
    for old in (answers, summary):
        old.unlink(missing_ok=True)
    process = start_k6(k6, load, answers, summary, log)
    with Sampler(Watch(None), None, answers) as sampler:
        code = _await(process, plan, sampler, console, load.out.name)
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    if code not in FINISHED:
        raise GeneratorError(f"{generator.reason(code)}: {_tail(log)}")
    if not summary.exists():
        raise GeneratorError(f"k6 left no figures: {_tail(log)}")
    metrics: Mapping[str, Any] = json.loads(summary.read_text(encoding="utf-8"))["metrics"]
    return plan, metrics


def stop_if_interrupted(trial: Trial) -> None:
    """For experiments of many trials: Ctrl-C in one ends them all. Raises KeyboardInterrupt."""
    if trial.code == INTERRUPTED:
        raise KeyboardInterrupt


def _prepare(plan: Plan, load: Load, watch: Watch) -> str | None:
    """Check the machine, raise our own limit, and tell the addresses k6 has to call from. Raises GeneratorError."""
    need = preflight.need_of(plan)
    limits = preflight.file_limits(watch.pids(*LISTENERS))
    machine = preflight.survey(load.base_urls[0], load.out, limits)
    lacks = preflight.lacks(need, machine)
    if lacks:
        lines = [f"  {lack.what}\n    → {lack.command}" for lack in lacks]
        raise GeneratorError("this machine is too small for the scenario as it is:\n" + "\n".join(lines))
    preflight.allow_files(need.files)
    return preflight.local_ips(need, machine)


def _await(
    process: subprocess.Popen[bytes], plan: Plan, sampler: Sampler, console: Console, name: str | None = None
) -> int:
    """Show how far k6 is until it has ended; returns its exit code. Ctrl-C ends k6 by itself, and is waited for."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(name or plan.name, total=plan.seconds)
        began, interrupted = time.monotonic(), False
        while True:
            try:
                return process.wait(0.5)
            except subprocess.TimeoutExpired:
                progress.update(task, completed=time.monotonic() - began, description=_live(plan, sampler.seen, name))
            except KeyboardInterrupt:
                if not interrupted:
                    process.send_signal(signal.SIGINT)
                interrupted = True
            except BaseException:
                process.kill()
                raise


def _live(plan: Plan, seen: list[Sample], name: str | None) -> str:
    if len(seen) < 2:
        return name or plan.name
    before, now = seen[-2], seen[-1]
    rate = (now.requests - before.requests) / max(now.at_s - before.at_s, 1e-3)
    backlog = "" if now.backlog is None else f" · backlog {now.backlog:,}"
    k6 = now.usage.cpu_cores.get(GENERATOR, 0.0)
    return f"{name or plan.name} · {rate:,.0f} requests/s{backlog} · k6 {k6:.1f} cores"


def _trial(
    load: Load,
    target: Target,
    plan: Plan,
    code: int,
    outcome: Outcome,
    seen: list[Sample],
    loaded_until_s: float,
) -> Trial:
    summary = outcome.summary
    metrics = summary.get("metrics", {})
    steps = steps_of(plan, summary, outcome.answers)
    dropped = int(metrics.get("dropped_iterations", {}).get("values", {}).get("count", 0))
    if steps:  # beyond the breaking point it is the service that holds the users up
        dropped = sum(step.dropped for step in steps if not step.broken)
    loaded = [sample for sample in seen[1:] if sample.at_s <= loaded_until_s]
    stamps: list[Stamp] = []
    if target.witness_record is not None:
        since, until = outcome.answers.started_s or 0.0, seen[-1].at_s if seen else loaded_until_s
        stamps = [stamp for stamp in read_record(target.witness_record) if since <= stamp.wall_s <= until]
    return Trial(
        load=load,
        target=target,
        plan=plan,
        code=code,
        outcome=outcome,
        summary=summary,
        samples=seen,
        generator=generator_of(loaded, preflight.cores(), outcome.answers.requests, dropped),
        thresholds=[*thresholds_of(summary), *wanted_of(plan, steps)],
        steps=steps,
        stamps=stamps,
    )


def _tail(log: Path) -> str:
    try:
        return log.read_text(errors="replace").strip()[-600:]
    except OSError:
        return "k6 left no log"
