"""A run that is not judged: to warm a service up, or to learn how much goes through it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from loadtests import generator, preflight
from loadtests.answers import load_answers
from loadtests.findings import Generator, generator_of
from loadtests.generator import FINISHED, INTERRUPTED, GeneratorError, Load, inspect
from loadtests.k6_run import k6_run, last_words
from loadtests.processes import Watch
from loadtests.samples import Sampler
from loadtests.scenario import Plan
from loadtests.verify import ANSWERS, SUMMARY


@dataclass(frozen=True, slots=True)
class Throughput:
    """What was got through, in requests/s and in all, and k6's part in it."""

    per_s: float
    requests: int
    generator: Generator


def warm_up(load: Load, console: Console, k6: str) -> None:
    """Run a scenario of which nothing is wanted; requests may fail.

    Raises GeneratorError when k6 did not come to its end, KeyboardInterrupt after Ctrl-C, OSError.
    """
    _unjudged(load, console, k6)


def throughput(load: Load, console: Console, k6: str) -> Throughput:
    """How much a scenario gets through.

    Of a scenario that records its answers those count that came while load was offered; of another all that were made,
    which is one a user too many at most.

    Raises what `warm_up` raises, and GeneratorError when a request failed: a refusal is quick, so a rate that counts
    refusals is no capacity.
    """
    plan, metrics, sampler = _unjudged(load, console, k6)
    failed = metrics.get("http_req_failed", {}).get("values", {})
    if failed.get("rate", 0.0) > 0:
        made = failed["passes"] + failed["fails"]
        raise GeneratorError(
            f"{failed['passes']:,.0f} of {made:,.0f} requests to {', '.join(load.base_urls)} failed, so their rate is "
            f"no capacity: the service's log says why; k6's record is in {load.out}"
        )
    answers = load_answers(load.out / ANSWERS)
    made = int(metrics["http_reqs"]["values"]["count"])
    answered = made if answers.started_s is None else answers.ended(0.0, plan.seconds)
    seen = sampler.seen
    watched_s = seen[-1].at_s - seen[0].at_s if seen else 0.0
    dropped = int(metrics.get("dropped_iterations", {}).get("values", {}).get("count", 0))
    k6_part = generator_of(seen[1:], preflight.cores(), watched_s, made, dropped, sampler.unwatched)
    return Throughput(answered / plan.seconds, answered, k6_part)


def _unjudged(load: Load, console: Console, k6: str) -> tuple[Plan, Mapping[str, Any], Sampler]:
    """One run of k6 to its end; its plan, its metrics, and what was seen meanwhile."""
    load.out.mkdir(parents=True, exist_ok=True)
    plan = inspect(k6, load)
    with k6_run(k6, load, plan, Watch(None), None, console, load.out.name) as (code, sampler):
        pass
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    if code not in FINISHED:
        raise GeneratorError(f"{generator.reason(code)}: {last_words(load)}")
    summary = load.out / SUMMARY
    if not summary.exists():
        raise GeneratorError(f"k6 left no figures: {last_words(load)}")
    metrics: Mapping[str, Any] = json.loads(summary.read_text(encoding="utf-8"))["metrics"]
    return plan, metrics, sampler
