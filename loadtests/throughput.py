"""A run that is not judged: to warm a service up, or to learn how much goes through it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console

from loadtests import generator, preflight
from loadtests.answers import load_answers
from loadtests.findings import Generator, generator_of
from loadtests.generator import FINISHED, INTERRUPTED, GeneratorError, Load, inspect, values_of
from loadtests.k6_run import k6_run, last_words
from loadtests.processes import Watch
from loadtests.samples import Sampler
from loadtests.scenario import Plan
from loadtests.verify import ANSWERS, SUMMARY

WARM_UP_USERS, WARM_UP_S = 16, 3.0


@dataclass(frozen=True, slots=True)
class Throughput:
    """What was got through, in requests/s and in all, and k6's part in it."""

    per_s: float
    requests: int
    generator: Generator


def warm_up(load: Load, console: Console, k6: str) -> None:
    """Run a few seconds of what `load` will be, in a folder below its own; requests may fail.

    Raises GeneratorError when k6 did not come to its end, KeyboardInterrupt after Ctrl-C, OSError.
    """
    out = load.out / "warm-up"
    _unjudged(Load(load.scenario, load.base_urls, out, users=WARM_UP_USERS, seconds=WARM_UP_S), console, k6)


def throughput(load: Load, console: Console, k6: str) -> Throughput:
    """How much a scenario gets through.

    Of a scenario that records its answers those count that came while load was offered; of another all that were made,
    which is one a user too many at most.

    Raises what `warm_up` raises, and GeneratorError when nothing was answered, or a request failed: a refusal is
    quick, so a rate that counts refusals is no capacity.
    """
    plan, summary, sampler = _unjudged(load, console, k6)
    failed = values_of(summary, "http_req_failed")
    if failed.get("rate", 0.0) > 0:
        made = failed["passes"] + failed["fails"]
        raise GeneratorError(
            f"{failed['passes']:,.0f} of {made:,.0f} requests to {', '.join(load.base_urls)} failed, so their rate is "
            f"no capacity: the service's log says why; k6's record is in {load.out}"
        )
    answers = load_answers(load.out / ANSWERS)
    made = int(values_of(summary, "http_reqs").get("count", 0))
    answered = made if answers.started_s is None else answers.ended(0.0, plan.seconds)
    if not answered:
        raise GeneratorError(
            f"{', '.join(load.base_urls)} answered nothing within {plan.seconds:g} s: k6's record is in {load.out}"
        )
    seen = sampler.seen
    watched_s = seen[-1].at_s - seen[0].at_s if seen else 0.0
    dropped = generator.dropped(summary)
    k6_part = generator_of(seen[1:], preflight.cores(), watched_s, made, dropped, sampler.unwatched)
    k6_part = replace(k6_part, others_cores=0.0)  # the service is not watched here, and would count among them
    return Throughput(answered / plan.seconds, answered, k6_part)


def _unjudged(load: Load, console: Console, k6: str) -> tuple[Plan, Mapping[str, Any], Sampler]:
    """One run of k6 to its end; its plan, its figures, and what was seen meanwhile."""
    load.out.mkdir(parents=True, exist_ok=True)
    plan = inspect(k6, load)
    with k6_run(k6, load, plan, Watch(None), None, console, load.out.name) as (code, sampler):
        pass
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    if code not in FINISHED:
        raise GeneratorError(f"{generator.reason(code)}: {last_words(load)}")
    path = load.out / SUMMARY
    if not path.exists():
        raise GeneratorError(f"k6 left no figures: {last_words(load)}")
    summary: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return plan, summary, sampler
