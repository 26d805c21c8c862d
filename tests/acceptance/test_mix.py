"""Everything at once, for as long as it takes: kills and pauses of all parts, one or several, as the seed says."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import psutil
import pytest

from tests.acceptance.service import Service
from tests.acceptance.trial import READY_S, Fault, Trials

BETWEEN_S = 8.0  # on average, so that some meet
LONGEST_PAUSE_S = 6.0
QUIET_S = 30.0  # before the end: what was killed again and again is started again more slowly, at most 10 s apart
SUPERVISOR_S = 10.0

Find = Callable[[], psutil.Process | None]


@pytest.mark.chaos
def test_a_random_mix_of_everything(service: Service, trial: Trials, pytestconfig: pytest.Config) -> None:
    seconds = float(pytestconfig.getoption("--mix-s"))
    made = trial(service, f"a random mix for {seconds:g} s")
    made.ready_s = READY_S + SUPERVISOR_S
    mixed = list(mix(service, random.Random(made.seed), seconds))
    struck: list[str] = []
    made.run(*(fault(struck) for fault in mixed), load_s=seconds)
    assert len(struck) > len(mixed) / 2, f"of {len(mixed)} faults only these found somebody: {struck}"


def mix(service: Service, dice: random.Random, seconds: float) -> Iterator[Callable[[list[str]], Fault]]:
    """Faults to be struck; each notes in a list whom it found."""
    victims: dict[str, Find] = {
        "a replica": lambda: service.find("ServeReplica"),
        "a BufferActor": lambda: service.find("BufferActor"),
        "the MongoWriter": lambda: service.find("MongoWriter"),
        "HAProxy": lambda: service.find("haproxy"),
        "Redis": lambda: service.find("Redis"),
        "MongoDB": lambda: service.find("MongoDB"),
    }
    at_s = 3.0
    while at_s < max(seconds - QUIET_S, 4.0):
        name = dice.choice(list(victims))
        pause_s = dice.choice((0.0, dice.uniform(0.5, LONGEST_PAUSE_S)))
        yield _fault(name, victims[name], at_s, pause_s)
        at_s += dice.expovariate(1 / BETWEEN_S)


def _fault(name: str, find: Find, at_s: float, pause_s: float) -> Callable[[list[str]], Fault]:
    """A kill, or a pause of `pause_s`. Who is just being restarted after another fault is left alone."""

    def of(struck: list[str]) -> Fault:
        found: list[psutil.Process] = []

        def begin() -> None:
            victim = find()
            if victim is None:
                return
            try:
                victim.suspend() if pause_s else victim.kill()
            except psutil.NoSuchProcess:
                return
            found.append(victim)
            struck.append(f"{at_s:.0f} s {name} {f'paused {pause_s:.1f} s' if pause_s else 'killed'}")

        def end() -> None:
            for victim in found:
                if victim.is_running():  # another fault may have killed it meanwhile
                    victim.resume()

        return Fault(begin, end if pause_s else None, lasts_s=pause_s, at_s=at_s)

    return of
