"""k6: where it is, what it says about a scenario, and one run of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests import scenario
from loadtests.preflight import FEW_USERS, k6_limit_bytes
from loadtests.scenario import Plan
from loadtests.service import tool

INTERRUPTED = 105  # k6's exit code after Ctrl-C
THRESHOLDS_FAILED = 99
ABORTED = 108  # by the scenario itself: not ready
INSPECT_S = 60.0
FINISHED = (0, THRESHOLDS_FAILED)  # k6 came to its end, and its record is whole


class GeneratorError(RuntimeError):
    """k6 cannot run here; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Load:
    """One run of a scenario: addresses asked, its numbers where they differ from the file's, the folder of records."""

    scenario: str
    base_urls: tuple[str, ...]
    out: Path
    quick: bool = False
    users: int | None = None  # the largest number of users; the others follow
    seconds: float | None = None  # the whole time; its parts follow
    rate: float | None = None  # requests/s offered, or of the capacity
    local_ips: str | None = None

    def environment(self) -> dict[str, str]:
        """What the scenario reads of its environment."""
        given = {
            "BASE_URL": ",".join(self.base_urls),
            "QUICK": "1" if self.quick else "",
            "USERS": "" if self.users is None else str(self.users),
            "SECONDS": "" if self.seconds is None else f"{self.seconds:g}",
            "RATE": "" if self.rate is None else f"{self.rate:g}",
            "CAPACITY": "" if self.rate is None else f"{self.rate:g}",
        }
        return {name: value for name, value in given.items() if value}


def find_k6() -> str:
    """k6's path: the environment's K6, else what `python -m cluster tool k6` finds or builds, else the PATH's.

    A build is shown as it goes. Raises GeneratorError.
    """
    found = os.environ.get("K6") or tool("k6") or shutil.which("k6")
    if found is None:
        raise GeneratorError("k6 was not found: put it on the PATH or name it in K6")
    return found


def inspect(k6: str, load: Load) -> Plan:
    """What the scenario will do under these numbers. Raises GeneratorError or, for an unknown scenario, ValueError."""
    command = [k6, "inspect", "--execution-requirements", "--log-format", "raw", *_variables(load)]
    command.append(str(scenario.script(load.scenario)))
    try:
        done = subprocess.run(
            command, env=_environment(), capture_output=True, text=True, check=False, timeout=INSPECT_S
        )
    except subprocess.TimeoutExpired as error:
        late = f"`k6 inspect` did not describe {load.scenario}.js within {INSPECT_S:.0f} s"
        raise GeneratorError(f"{late}: end what keeps this machine busy") from error
    except OSError as error:
        raise GeneratorError(f"k6 cannot be started: {error}; K6 names another one") from error
    if done.returncode:
        what = done.stderr.strip().partition("\n\tat ")[0][-500:]  # without JavaScript's stack
        raise GeneratorError(f"k6 does not take {load.scenario}.js as it was asked for: {what}")
    return scenario.plan_of(load.scenario, json.loads(done.stdout))


def start_k6(k6: str, load: Load, users: int, answers: Path, summary: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start the scenario, of `users` at most; k6's own words go to `log`. Raises GeneratorError when it cannot be
    started.

    Ctrl-C of the terminal does not reach it: pass it on once, and k6 ends its requests by itself. Wait for it, and its
    record is whole; a second one would cut it short.
    """
    command = [
        *(k6, "run", "--quiet", "--no-color", "--no-usage-report", "--address", ""),
        # Only console.log goes to the file; k6's own complaints go to its log.
        *("--console-output", str(answers), "--log-format", "raw"),
        # As `k6 inspect` does it: else USERS or RATE of somebody's shell would be a load that the plan does not know.
        "--include-system-env-vars=false",
        # What thresholds and reports go by, and no other: each tag costs every request something.
        *("--system-tags", "scenario,check,expected_response"),
        *(("--local-ips", load.local_ips) if load.local_ips else ()),
        *_variables(load),
        *("-e", f"SUMMARY={summary}"),
        str(scenario.script(load.scenario)),
    ]
    try:
        with log.open("ab") as output:
            return subprocess.Popen(
                command,
                env={**_frugal(users), **_environment()},
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
    except OSError as error:
        raise GeneratorError(f"k6 cannot be started: {error}") from error


def _environment() -> dict[str, str]:
    """This process' environment without k6's own variables: K6_NO_THRESHOLDS or K6_RPS of somebody's shell would be
    another test than the scenario's. And without its proxies, which are for the internet: k6 asks them for all that is
    not on loopback, as a service with an address of its own on this machine."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("K6_")}
    return ours | {"NO_PROXY": "*"}


def _frugal(users: int) -> dict[str, str]:
    """What makes k6 leave more CPU to the service, unless the caller's environment says otherwise.

    Garbage of thousands of users is collected only near the memory limit: a collection among them takes both cores for
    seconds. That of a few is collected early and in no time, and they go on in memory that caches hold.
    No new cookie jar for every request, as nobody here sets a cookie.
    """
    collector = "400" if users <= FEW_USERS else "off"
    return {"GOGC": collector, "GOMEMLIMIT": str(k6_limit_bytes(users)), "K6_NO_COOKIES_RESET": "true"}


def reason(code: int) -> str:
    """Why k6 ended with this code; empty for 0."""
    known = {0: "", THRESHOLDS_FAILED: "a threshold was missed", INTERRUPTED: "interrupted", ABORTED: "not ready"}
    return known.get(code, f"k6 ended with {code}")


def _variables(load: Load) -> list[str]:
    return [word for name, value in load.environment().items() for word in ("-e", f"{name}={value}")]


def values_of(summary: Mapping[str, Any], metric: str) -> Mapping[str, float]:
    """k6's figures of one metric; empty when it has none of it."""
    found: Mapping[str, float] = summary.get("metrics", {}).get(metric, {}).get("values", {})
    return found


def dropped(summary: Mapping[str, Any]) -> int:
    """Requests of an open model that could not be begun."""
    return int(values_of(summary, "dropped_iterations").get("count", 0))


@dataclass(frozen=True, slots=True)
class Threshold:
    """One threshold of the scenario, what it was measured on, and whether it was met."""

    metric: str
    expression: str
    met: bool
    value: float | None


def thresholds_of(summary: Mapping[str, object]) -> list[Threshold]:
    """The thresholds in k6's figures. Those that end in `>=0` only keep a scenario's figures apart: left out.

    One of a rate or a latency of which nothing was measured is not met: k6 says it is, `rate==1` of no checks too.
    """
    found = []
    metrics = summary.get("metrics")
    for name, metric in sorted(metrics.items()) if isinstance(metrics, Mapping) else ():
        for expression, outcome in (metric.get("thresholds") or {}).items():
            if not expression.endswith(">=0"):
                values = metric.get("values") or {}
                is_empty = values.get("max") == 0 or values.get("passes") == values.get("fails") == 0
                value = None if is_empty else _value(expression, values)
                found.append(Threshold(name, expression, bool(outcome["ok"]) and not is_empty, value))
    return found


def _value(expression: str, values: Mapping[str, float]) -> float | None:
    """What was measured under a threshold's expression: `p(95)<=2000` asks for `p(95)`."""
    name = expression.split("<")[0].split(">")[0].split("=")[0].strip()
    return values.get(name)
