"""What a scenario file of k6 will do, as `k6 inspect` tells it: the numbers stand in the scenario and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("scenarios")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def names() -> list[str]:
    """The scenarios there are."""
    return sorted(path.stem for path in FOLDER.glob("*.js"))


def script(name: str) -> Path:
    """The file of a scenario. Raises ValueError that names those there are."""
    if name not in names():
        raise ValueError(f"there is no scenario {name!r}; there are {', '.join(names())}")
    return FOLDER / f"{name}.js"


@dataclass(frozen=True, slots=True)
class Step:
    """One k6 scenario of a file: from `start_s` on, for `seconds`, at most `users`, or `rate` requests/s offered.

    `wanted_per_s`: how many requests/s must be answered, where the scenario says so.
    """

    name: str
    start_s: float
    seconds: float
    users: int
    rate: float | None = None
    think_s: tuple[float, float] = (0.0, 0.0)
    wanted_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """All steps of a scenario in order, `users` k6 needs at most, whether each request has its own connection, and
    whether k6 is to judge thresholds."""

    name: str
    steps: tuple[Step, ...]
    users: int
    fresh_connections: bool
    has_thresholds: bool = False

    @property
    def seconds(self) -> float:
        """How long load is offered."""
        return max((step.start_s + step.seconds for step in self.steps), default=0.0)

    @property
    def fewest_seconds_between(self) -> float:
        """Mean think time (s) of the step that thinks least: how often one user asks at most. 0: at once."""
        return min((sum(step.think_s) / 2 for step in self.steps), default=0.0)

    @property
    def open_model(self) -> bool:
        """Whether requests come whether or not the ones before were answered."""
        return any(step.rate is not None for step in self.steps)


def plan_of(name: str, inspected: Mapping[str, Any]) -> Plan:
    """The plan in the JSON of `k6 inspect --execution-requirements`. Raises ValueError for what k6 does not write."""
    try:
        steps = [_step(step, found) for step, found in inspected["scenarios"].items()]
        users = int(inspected["maxVUs"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"k6 describes the scenario in an unknown form: {error}") from error
    ordered = tuple(sorted(steps, key=lambda step: (step.start_s, step.name)))
    return Plan(name, ordered, users, bool(inspected.get("noConnectionReuse")), bool(inspected.get("thresholds")))


def _step(name: str, found: Mapping[str, Any]) -> Step:
    stages = found.get("stages") or []
    seconds = sum(seconds_of(stage["duration"]) for stage in stages) or seconds_of(found.get("duration"))
    users = max((int(stage["target"]) for stage in stages), default=int(found.get("vus") or found.get("maxVUs") or 0))
    rate = float(found["rate"]) / seconds_of(found.get("timeUnit") or "1s") if found.get("rate") else None
    env = found.get("env") or {}
    think = str(env.get("THINK") or "0-0").split("-")
    wanted = float(env["WANTED_PER_S"]) if env.get("WANTED_PER_S") else None
    start_s = seconds_of(found.get("startTime"))
    return Step(name, start_s, seconds, users, rate, (float(think[0]), float(think[-1])), wanted)


def seconds_of(text: str | None) -> float:
    """Seconds of a duration in Go's notation, `1m30s`; None and `0s` are 0. Raises ValueError for anything else."""
    if not text or text == "0":
        return 0.0
    parts = _DURATION.findall(text)
    if "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is no duration")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)
