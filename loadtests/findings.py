"""What a run says beyond its thresholds: was the generator at its end, where does the service break. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from loadtests.answers import Answers
from loadtests.generator import Threshold, values_of
from loadtests.processes import GENERATOR, LABORATORY
from loadtests.samples import Sample
from loadtests.scenario import Plan, Step

FULL = 0.95  # of the machine: whoever wants more CPU takes it from somebody
GREEDY = 0.5  # of the machine: the generator measures itself
OTHERS = 0.2  # cores
WINDOW = 5  # samples, one a second: a shorter burst of k6 changes no figure of a run
DROPPED = 0.01
BREAKING_P95_MS = 2_000.0
BREAKING_FAILED = 0.01
BREAKING_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class Generator:
    """k6's part in a run: CPU in cores and as a share of what was used; how it was `saturated`, or why nobody knows,
    or None: it was not.

    CPU per request in µs: k6's, and that of all other parts but the laboratory together, each while k6 ran.
    """

    cores: float
    share_of_used: float | None  # None: nobody knows what the service used
    share_of_machine: float
    machine_busy: float
    machine_cores: float
    cpu_us_per_request: float | None
    service_us_per_request: float | None
    others_cores: float  # what programs took that are no part of the run
    saturated: str | None

    def warnings(self) -> list[str]:
        """What a reader must know before believing the figures."""
        found = []
        if self.saturated:
            found.append(f"The generator was {self.saturated}. The service may do better.")
        if self.others_cores > OTHERS:
            found.append(
                f"Programs that are no part of this run took {self.others_cores:.1f} cores meanwhile: "
                "on a quiet machine the figures would be others."
            )
        return found


def generator_of(
    samples: Sequence[Sample], cores: float, seconds: float, requests: int, dropped: int, unwatched: str | None = None
) -> Generator:
    """Judge the generator by the samples of the loaded time, which lasted `seconds`.

    `dropped`: requests an open model could not begin. `unwatched`: why there are no samples of a part of the time.
    """
    used = [sum(sample.usage.cpu_cores.values()) for sample in samples]
    laboratory = [sample.usage.cpu_cores.get(LABORATORY, 0.0) for sample in samples]
    own = [sample.usage.cpu_cores.get(GENERATOR, 0.0) for sample in samples]
    busy = mean(sample.usage.machine_busy for sample in samples) if samples else 0.0
    k6 = mean(own) if own else 0.0
    us_per_core = seconds / requests * 1e6 if requests and samples else None
    reason = _greedy(samples, cores)
    if requests and dropped > DROPPED * (requests + dropped):
        share = dropped / (requests + dropped)
        reason = f"saturated: {dropped} requests were not begun in time ({share:.1%}): too few free users"
    if unwatched or not samples:
        blind = unwatched or "not watched"
        reason = f"{reason}; {blind}" if reason else f"{blind}, so it may have been saturated"
    return Generator(
        cores=k6,
        share_of_used=k6 / mean(used) if used and mean(used) else 0.0,
        share_of_machine=k6 / cores if cores else 0.0,
        machine_busy=busy,
        machine_cores=cores,
        others_cores=max(busy * cores - mean(used), 0.0) if used else 0.0,
        cpu_us_per_request=us_per_core and k6 * us_per_core,
        service_us_per_request=us_per_core and (mean(used) - k6 - mean(laboratory)) * us_per_core,
        saturated=reason,
    )


def _greedy(samples: Sequence[Sample], cores: float) -> str | None:
    """Where k6 took what the service lacked, in any window: a mean over a run hides a peak behind its ramps."""
    width = min(WINDOW, len(samples))
    for end in range(width, len(samples) + 1) if samples else ():
        window = samples[end - width : end]
        busy = mean(_busy(sample, cores) for sample in window)
        share = mean(sample.usage.cpu_cores.get(GENERATOR, 0.0) for sample in window) / cores
        if busy >= FULL and share >= GREEDY:
            took = f"saturated: k6 took {share:.0%} of a machine that was {busy:.0%} busy for {width} s"
            return f"{took}: it measured itself as well"
    return None


def _busy(sample: Sample, cores: float) -> float:
    """The machine's share in use; where a container may use a part of the machine only, that of its part."""
    return max(sample.usage.machine_busy, min(sum(sample.usage.cpu_cores.values()) / cores, 1.0))


@dataclass(frozen=True, slots=True)
class StepFigures:
    """One step: requests/s answered, those offered (None: as many as the users asked), ms, share failed or
    without success, dropped.

    Users who wait for their answers offer nothing that could be missed: a quick service is asked more often by them.
    """

    name: str
    users: int
    offered_per_s: float | None
    answered_per_s: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    failed: float
    dropped: int

    @property
    def broken(self) -> str | None:
        """Why this step is beyond the breaking point; None while it is not."""
        if self.failed >= BREAKING_FAILED:
            return f"{self.failed:.1%} failed"
        if self.p95_ms is not None and self.p95_ms > BREAKING_P95_MS:
            return f"p95 {self.p95_ms / 1000:.1f} s"
        if not self.answered_per_s:  # it never came, as after Ctrl-C: that it did not break proves nothing
            return "nothing was answered"
        if self.offered_per_s and self.answered_per_s < BREAKING_SHARE * self.offered_per_s:
            return f"{self.answered_per_s:.0f} of {self.offered_per_s:.0f} requests/s"
        return None


def steps_of(plan: Plan, summary: Mapping[str, Any], answers: Answers) -> list[StepFigures]:
    """The figures of each step of a plan that has several; empty for a plan of one, whose figures are the run's.

    Answered is what was answered within the step: k6's own count has those too that came after its end.
    """
    if len(plan.steps) < 2:
        return []
    return [_figures(step, summary, answers.ended(step.start_s, step.seconds)) for step in plan.steps]


def wanted_of(plan: Plan, steps: Sequence[StepFigures]) -> list[Threshold]:
    """The requests/s that steps of the plan had to answer, as thresholds beside k6's own."""
    wanted = {step.name: step.wanted_per_s for step in plan.steps if step.wanted_per_s is not None}
    pairs = [(step.name, step.answered_per_s, wanted[step.name]) for step in steps if step.name in wanted]
    return [Threshold(f"answered/s of {name}", f">={least:g}", rate >= least, rate) for name, rate, least in pairs]


def _figures(step: Step, summary: Mapping[str, Any], answered: int) -> StepFigures:
    def of(metric: str) -> Mapping[str, float]:
        return values_of(summary, f"{metric}{{scenario:{step.name}}}")

    time, checks = of("http_req_duration"), of("checks")
    checked = checks.get("passes", 0) + checks.get("fails", 0)
    broken = checks.get("fails", 0) / checked if checked else 0.0  # a 200 without success is an answer too
    return StepFigures(
        name=step.name,
        users=step.users,
        offered_per_s=step.rate,
        answered_per_s=answered / step.seconds,
        p50_ms=time.get("med"),
        p95_ms=time.get("p(95)"),
        p99_ms=time.get("p(99)"),
        failed=max(float(of("http_req_failed").get("rate", 0.0)), broken),
        dropped=int(of("dropped_iterations").get("count", 0)),
    )


def breaking_point(steps: Sequence[StepFigures]) -> str:
    """The breaking point in words: the last step that held, and the first that did not."""
    held = None
    for step in steps:
        if step.broken:
            before = f"{held.name} held" if held else "no step held"
            return f"breaks at {step.name}: {step.broken} ({before})"
        held = step
    return f"not reached: {held.name} held" if held else "no steps"
