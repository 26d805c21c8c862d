"""One trial: checks the machine, lets k6 run a scenario while everything is watched, then lets the judge speak."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from loadtests import generator, preflight, samples, stored
from loadtests.findings import Generator, StepFigures, generator_of, steps_of, wanted_of
from loadtests.generator import (
    ABORTED,
    FINISHED,
    INTERRUPTED,
    THRESHOLDS_FAILED,
    GeneratorError,
    Load,
    Threshold,
    inspect,
    thresholds_of,
)
from loadtests.k6_run import k6_run, last_words
from loadtests.processes import LISTENERS, Watch
from loadtests.report import Outcome, keep
from loadtests.samples import Sample, Sampler
from loadtests.scenario import Plan
from loadtests.service import ServiceError, is_ready
from loadtests.verify import ANSWERS, COMMANDS_PER_SECOND, DRAIN_TIMEOUT_S, VERDICT, verify
from loadtests.window import Stamp, read_record

READY_WAIT_S = 30.0


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

    def lag_most_s(self) -> float | None:
        """The age of the oldest write that was not stored yet, at most (s), while load was offered; None: not told."""
        return max((lag_s for lag_s in self._lags_s() if lag_s is not None), default=None)

    def warnings(self) -> list[str]:
        """What a reader must know before believing the figures."""
        found, lags_s = self.generator.warnings(), self._lags_s()
        unknown = lags_s.count(None)
        if unknown and self.target.limit is not None:  # of a baseline nothing is demanded
            found.append(
                f"{unknown:,} of {len(lags_s):,} looks at the service under load found no lag, as its status did not "
                "tell one: a write may have waited longer than is said"
            )
        return found

    def _lags_s(self) -> list[float | None]:
        began_s = self.outcome.answers.started_s or 0.0
        return [sample.lag_s for sample in samples.within(self.samples, began_s, began_s + self.plan.seconds)]

    def problems(self) -> list[str]:
        """Why it did not pass: the judge's findings, then the thresholds missed, then how k6 ended."""
        found = self.outcome.problems()
        for threshold in self.thresholds:
            if not threshold.met:
                value = "" if threshold.value is None else f", measured {threshold.value:,.4g}"
                found.append(f"threshold {threshold.metric} {threshold.expression} was missed{value}")
        if self.code not in FINISHED:
            found.append(generator.reason(self.code))
        metrics = self.summary.get("metrics")
        if not metrics:
            found.append("k6 left no figures, so its thresholds were not judged")
        elif self.plan.has_thresholds and not any(metric.get("thresholds") for metric in metrics.values()):
            found.append("the scenario has thresholds, and k6's figures say of none whether it was met")
        elif self.code == THRESHOLDS_FAILED and all(threshold.met for threshold in self.thresholds):
            found.append("k6 missed a threshold, and its figures do not say which")
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
    check_sources(target)
    with k6_run(k6, load, plan, watch, load.base_urls[0], console) as (code, sampler):
        if code == ABORTED or not _size(load.out / ANSWERS):
            raise GeneratorError(f"{generator.reason(code) or 'k6 recorded no answer'}: {last_words(load)}")
        until()
        outcome = verify(
            load.out,
            load.base_urls[0],
            target.mongodb_uri,
            target.witness_record,
            unknown=0 if code in FINISHED else plan.users,  # each user may have had a request under way
            limit=target.limit,
            load_s=plan.seconds,
            drain_timeout_s=target.drain_timeout_s,
            console=console,
            drained=sampler.stop,
        )
    keep(outcome, load.out / VERDICT)
    return _trial(load, target, plan, code, outcome, sampler)


def check_sources(target: Target) -> None:
    """Raise ServiceError when something is missing that the judge will need: better now than after the load."""
    record = target.witness_record
    if record is not None and not record.exists():
        raise ServiceError(
            f"there is no record of a witness at {record}: name the right one by --witness, or start the service "
            "with one, python -m cluster up --witness"
        )
    try:
        stored.check(target.mongodb_uri)
    except stored.StoreError as error:
        raise ServiceError(f"{error}; the judge reads it directly: start it, or name it by --mongodb-uri") from error


def stop_if_interrupted(trial: Trial) -> None:
    """For experiments of many trials: Ctrl-C in one ends them all. Raises KeyboardInterrupt."""
    if trial.code == INTERRUPTED:
        raise KeyboardInterrupt


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _prepare(plan: Plan, load: Load, watch: Watch) -> str | None:
    """Check the machine, raise our own limit, and tell the addresses k6 has to call from. Raises GeneratorError."""
    need = preflight.need_of(plan, preflight.k6_limit_bytes(plan.users))
    limits = preflight.file_limits(watch.pids(*LISTENERS), load.base_urls[0])
    machine = preflight.survey(load.base_urls[0], load.out, limits, watch.pids("HAProxy"))
    lacks = preflight.lacks(need, machine)
    if lacks:
        lines = [f"  {lack.what}\n    → {lack.command}" for lack in lacks]
        raise GeneratorError("this machine is too small for the scenario as it is:\n" + "\n".join(lines))
    preflight.allow_files(need.files)
    return preflight.local_ips(need, machine)


def _trial(load: Load, target: Target, plan: Plan, code: int, outcome: Outcome, sampler: Sampler) -> Trial:
    summary, seen = outcome.summary, sampler.seen
    steps, dropped = steps_of(plan, summary, outcome.answers), generator.dropped(summary)
    if steps:  # beyond the breaking point it is the service that holds the users up
        dropped = sum(step.dropped for step in steps if not step.broken)
    answers, cores = outcome.answers, preflight.cores()
    started_s, stopped_s = answers.started_s or 0.0, answers.stopped_s or 0.0
    loaded = samples.within(seen, started_s, stopped_s)
    k6 = generator_of(loaded, cores, answers.duration_s, answers.requests, dropped, sampler.unwatched)
    if not target.run_id and not target.roots:  # nobody could tell which processes the service has
        is_here = preflight.is_here(load.base_urls[0])
        others_cores = 0.0 if is_here else k6.others_cores
        k6 = replace(k6, share_of_used=None, service_us_per_request=None, others_cores=others_cores)
    stamps: list[Stamp] = []
    if target.witness_record is not None:
        until_s = max(seen[-1].at_s, stopped_s) if seen else stopped_s
        stamps = [stamp for stamp in read_record(target.witness_record) if started_s <= stamp.wall_s <= until_s]
    return Trial(
        load=load,
        target=target,
        plan=plan,
        code=code,
        outcome=outcome,
        summary=summary,
        samples=seen,
        generator=k6,
        thresholds=[*thresholds_of(summary), *wanted_of(plan, steps)],
        steps=steps,
        stamps=stamps,
    )
