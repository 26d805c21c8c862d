"""`python -m loadtests compare`: ours against the baselines, in one run on one machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from loadtests import compare_page, contest, facts, servers, trial_page
from loadtests.baselines.baseline import KINDS, Baseline
from loadtests.contender import Contender
from loadtests.contest import Loss, Round
from loadtests.generator import Load
from loadtests.laboratory import Target, Trial, conduct, stop_if_interrupted
from loadtests.page import Page, milliseconds, number
from loadtests.spillway import Spillway
from loadtests.strike import Strike
from loadtests.throughput import warm_up
from loadtests.verify import ANSWERS

KILL_USERS = 64
KILL_SHARE = 0.4  # of the time under load, after which the kill comes


def contenders(folder: Path) -> list[Contender]:
    """Ours first, then each baseline. Raises ServiceError when a server they need cannot be had."""
    mongodb, redis = servers.path_of("ferretdb"), servers.path_of("redis-server")
    baselines = [Baseline(kind, folder / f"baseline-{number_}", mongodb, redis) for number_, kind in enumerate(KINDS)]
    return [Spillway(folder / "spillway"), *baselines]


def compare(
    folder: Path, loads: Sequence[int], seconds: float, repeats: int, with_kill: bool, console: Console, k6: str
) -> Page:
    """Run everything, keep compare.html and compare.json in the folder up to date, and return the page.

    Raises what `conduct` raises, and ServiceError when a contender does not start.
    """
    everyone = {contender.name: contender for contender in contenders(folder)}
    rounds: list[Round] = []
    losses: list[Loss] = []
    about = facts.where(k6)
    for repeat in range(repeats):
        for name in contest.order(list(everyone), repeat):
            contender = everyone[name]
            console.print(f"round {repeat + 1} of {repeats}: {name}", style="bold", highlight=False)
            try:
                with console.status(f"starting {name}"):
                    target = contender.start()
                if target.redis_url:
                    versions = facts.servers(target.redis_url, target.mongodb_uri)
                    about |= {f"{part}, {name}": version for part, version in versions.items()}
                base = folder / f"{repeat + 1}-{_slug(name)}"
                warm_up(Load("flood", target.urls, base), console, k6)
                for users in loads:
                    load = Load("flood", target.urls, base / f"users{users}", users=users, seconds=seconds)
                    trial = conduct(load, target, console, k6)
                    stop_if_interrupted(trial)
                    trial_page.write(trial, load.out, about)
                    rounds.append(_round(name, users, trial))
                    console.print(f"  {users:,} users: {_line(trial)}", highlight=False)
                if with_kill and repeat == repeats - 1:
                    losses.append(_kill(contender, target, base / "kill", seconds, console, k6))
                    console.print(f"  killed: {_loss_line(losses[-1])}", highlight=False)
            finally:
                with console.status(f"stopping {name}"):
                    contender.stop()
            page = _keep(folder, list(everyone.values()), rounds, losses, about)
    return page


def _keep(
    folder: Path, everyone: Sequence[Contender], rounds: list[Round], losses: list[Loss], about: dict[str, str]
) -> Page:
    """After each contender: what was measured stays when a later one cannot be."""
    found = contest.standings(rounds)
    names = [(contender.name, contender.about) for contender in everyone]
    page = compare_page.page_of(found, losses, rounds, names, about)
    page.write(folder, "compare", compare_page.json_of(found, losses, rounds, about))
    return page


def _round(name: str, users: int, trial: Trial) -> Round:
    k6 = trial.generator
    figures = trial.outcome.figures() | {"lag_most_s": trial.lag_most_s()}
    return Round(name, users, figures, trial.problems(), trial.warnings(), k6.cores, k6.service_us_per_request)


def _kill(contender: Contender, target: Target, folder: Path, seconds: float, console: Console, k6: str) -> Loss:
    """Load, `kill -9` in the middle of it, recovery, and what the judge finds. Raises what `Strike.check` raises."""
    load = Load("kill", target.urls, folder, users=KILL_USERS, seconds=seconds)
    with Strike(contender, folder / ANSWERS, seconds * KILL_SHARE) as strike:
        trial = conduct(load, target, console, k6, until=strike.wait)
    stop_if_interrupted(trial)
    answers = trial.outcome.answers
    strike.check(min((answers.started_s or 0.0) + trial.plan.seconds, answers.stopped_s or 0.0))
    verdict, outcome = trial.outcome.verdict, trial.outcome
    return Loss(
        contender=contender.name,
        accepted=outcome.answers.writes,
        missing=verdict.lost.count,
        queued=outcome.drain.backlog,
        doubled=verdict.doubled.count,
        ghosts=verdict.ghosts.count,
        unknown_requests=outcome.answers.unknown,
        phantoms=verdict.phantoms.count,
        back_s=strike.back_s,
        problems=trial.problems(),
    )


def _line(trial: Trial) -> str:
    figures = trial.outcome.figures()
    return (
        f"{number(figures['requests_per_second'])} requests/s, p95 {milliseconds(figures['p95_ms'])}, "
        f"p99 {milliseconds(figures['p99_ms'])}, lag {number(trial.lag_most_s(), ' s', 2)} at most; "
        f"{trial.outcome.final_line()}"
    )


def _loss_line(loss: Loss) -> str:
    return f"lost {loss.told} of {loss.accepted:,} accepted, back after {loss.back_s:.1f} s"


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower()).strip("-")
