"""`python -m loadtests`: flood and run judge a running service; scale, compare and limits start what they measure."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, NoReturn
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.markup import escape

from loadtests import facts, scenario, trial_page
from loadtests.generator import GeneratorError, Load, find_k6
from loadtests.laboratory import Target, conduct
from loadtests.page import Page
from loadtests.report import show
from loadtests.service import ROOT, URI_VARIABLE, Addresses, ServiceError, find_service
from loadtests.throughput import throughput
from loadtests.verify import COMMANDS_PER_SECOND, DRAIN_TIMEOUT_S, NoVerdict

Users = Annotated[int | None, typer.Option(min=1, help="Largest number of users; the others follow.")]
BaseUrl = Annotated[
    str | None, typer.Option(envvar="BASE_URL", help="Addresses, comma-separated; else the running service's.")
]
Door = Annotated[str | None, typer.Option(help="direct or front [default: direct, when there is one]")]
Uri = Annotated[str | None, typer.Option(envvar=URI_VARIABLE, help="MongoDB itself; else the running service's.")]
Witness = Annotated[Path | None, typer.Option(help="The witness' record; else the running service's.")]
Limit = Annotated[int, typer.Option(help="Commands allowed in any second.")]
DrainTimeout = Annotated[float, typer.Option(help="How long the backlog may take, seconds.")]
Out = Annotated[Path | None, typer.Option(help="Folder for records; else .spillway/loadtests/<time>.")]
Seconds = Annotated[float | None, typer.Option(min=1, help="The whole time; its parts follow.")]
Quick = Annotated[bool, typer.Option("--quick", help="Less time, the same users.")]

CAPACITY_USERS = 1_000  # with 64 a machine is not full: their calls and commands are small, and so dear

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _commands() -> None:
    """Load tests of a running service, and the judge of their outcome."""


@app.command()
def flood(
    users: Users = None,
    seconds: Seconds = None,
    base_url: BaseUrl = None,
    door: Door = None,
    mongodb_uri: Uri = None,
    witness: Witness = None,
    limit: Limit = COMMANDS_PER_SECOND,
    drain_timeout: DrainTimeout = DRAIN_TIMEOUT_S,
    out: Out = None,
) -> None:
    """A closed loop on GET /api/data, 64 users for 60 s: the same as `run flood`."""
    run("flood", False, users, seconds, None, base_url, door, mongodb_uri, witness, limit, drain_timeout, out)


@app.command()
def run(
    name: Annotated[str, typer.Argument(metavar="SCENARIO", help=", ".join(scenario.names()))],
    quick: Quick = False,
    users: Users = None,
    seconds: Seconds = None,
    rate: Annotated[
        float | None, typer.Option(min=1, help="ackdb, bare: requests/s offered. rate: the capacity, else measured.")
    ] = None,
    base_url: BaseUrl = None,
    door: Door = None,
    mongodb_uri: Uri = None,
    witness: Witness = None,
    limit: Limit = COMMANDS_PER_SECOND,
    drain_timeout: DrainTimeout = DRAIN_TIMEOUT_S,
    out: Out = None,
) -> None:
    """Run a scenario against a running service and write report.html. Exit code 0: passed; 1: not; 2: no verdict."""
    console = Console()
    try:
        scenario.script(name)
        target, found = _target(base_url, door, mongodb_uri, witness, limit, drain_timeout)
        folder = out or ROOT / ".spillway" / "loadtests" / time.strftime(f"%Y%m%d-%H%M%S-{name}")
        load = Load(name, target.urls, folder, quick, users, seconds, rate)
        k6 = find_k6()
        console.print(f"{name}: {', '.join(target.urls)}", highlight=False)
        if name == "rate" and rate is None:
            asked = Load("flood", target.urls, folder / "capacity", quick, users or CAPACITY_USERS, seconds)
            load = replace(load, rate=throughput(asked, console, k6).per_s)
            console.print(
                f"capacity: {load.rate:,.0f} requests/s in a closed loop of {asked.users:,} users", highlight=False
            )
        trial = conduct(load, target, console, k6)
        about = {
            **facts.where(k6),
            **facts.servers(found.redis_url, target.mongodb_uri),
        }
        page = trial_page.write(trial, folder, about)
    except (ServiceError, GeneratorError, NoVerdict, OSError, ValueError) as error:
        console.print(f"[bold red]no verdict:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error
    for warning in trial_page.warnings_of(trial, about):
        console.print(f"[yellow]![/] {escape(warning)}", highlight=False, soft_wrap=True)
    for problem in trial.problems():
        if problem not in trial.outcome.problems():
            console.print(f"[bold red]✗[/] {escape(problem)}", highlight=False, soft_wrap=True)
    show(trial.outcome, console)
    console.print(f"report: {page}", highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(1 if trial.problems() else 0)


@app.command()
def compare(
    users: Annotated[str, typer.Option(help="Loads, comma-separated.")] = "64,1000",
    seconds: Annotated[float, typer.Option(min=1, help="How long each load lasts.")] = 30.0,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds; the table shows medians.")] = 3,
    quick: Annotated[bool, typer.Option("--quick", help="One round of 10 s.")] = False,
    kill: Annotated[bool, typer.Option(help="Also kill each one under load and see what it lost.")] = True,
    out: Out = None,
) -> None:
    """Ours and the baselines one after the other, in one run; they are started here. Writes compare.html."""
    from loadtests.compare import compare as contend

    loads = numbers(users)
    if not loads:
        raise typer.BadParameter("--users names no load, as 64,1000 does")

    def work(folder: Path, console: Console, k6: str) -> Page:
        length, rounds = (10.0, 1) if quick else (seconds, repeats)
        return contend(folder, loads, length, rounds, kill, console, k6)

    _experiment("compare", out, work)


@app.command()
def scale(
    replicas: Annotated[str, typer.Option(help="Replicas, comma-separated; changed without a restart.")] = "1,2,4",
    buffers: Annotated[str, typer.Option(help="Buffers, comma-separated.")] = "1,2,4",
    batch: Annotated[str, typer.Option(help="Writes in one flush at most, comma-separated.")] = "200,500,1000",
    rate_cap: Annotated[str, typer.Option(help="Commands allowed in any second, comma-separated.")] = "50,100,200",
    users: Annotated[int, typer.Option(min=1)] = 64,
    seconds: Annotated[float, typer.Option(min=1, help="How long each cell lasts.")] = 30.0,
    quick: Annotated[bool, typer.Option("--quick", help="10 s a cell.")] = False,
    out: Out = None,
) -> None:
    """One axis after the other, each cell judged; the service is started here. Writes scale.html."""
    from loadtests.scale import Axis
    from loadtests.scale import scale as experiment

    axes = [
        Axis("replicas", "replicas", numbers(replicas), None),
        Axis("buffers", "buffers", numbers(buffers), "SPILLWAY_BUFFERS"),
        Axis("batch", "writes in one flush at most", numbers(batch), "SPILLWAY_BATCH_SIZE"),
        Axis("rate cap", "commands allowed in any second", numbers(rate_cap), "SPILLWAY_RATE_LIMIT_PER_S"),
    ]
    if not any(axis.values for axis in axes):
        raise typer.BadParameter("no axis has a value, as --replicas 1,2,4 does")

    def work(folder: Path, console: Console, k6: str) -> Page:
        return experiment(folder, axes, users, 10.0 if quick else seconds, console, k6)

    _experiment("scale", out, work)


@app.command()
def limits(
    seconds: Annotated[float, typer.Option(min=1, help="How long each is measured.")] = 15.0,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds; the table shows medians.")] = 3,
    out: Out = None,
) -> None:
    """What hello world, an actor call and an append reach here, and how near ours comes. Writes limits.html."""
    from loadtests.limits import limits as measure

    def work(folder: Path, console: Console, k6: str) -> Page:
        return measure(folder, seconds, repeats, console, k6)

    _experiment("limits", out, work)


def numbers(text: str) -> list[int]:
    """The whole numbers from 1 on in a comma-separated list, each once, in order. Raises typer.BadParameter."""
    try:
        found = sorted({int(word) for word in text.split(",") if word.strip()})
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no list of whole numbers, as 1,2,4 is") from error
    if found and found[0] < 1:
        raise typer.BadParameter(f"in {text!r} each number must be 1 or more")
    return found


def _experiment(name: str, out: Path | None, work: Callable[[Path, Console, str], Page]) -> None:
    """Do the work in a folder of its own, and say what came out. Exit code 1: something wanted was not shown; 2: it
    cannot be done, and why."""
    console = Console()
    folder = out or ROOT / ".spillway" / "loadtests" / time.strftime(f"%Y%m%d-%H%M%S-{name}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in (f"{name}.html", f"{name}.json"):  # of an experiment before: it says nothing of this one
            (folder / old).unlink(missing_ok=True)
        page = work(folder.resolve(), console, find_k6())
    except (ServiceError, GeneratorError, NoVerdict, OSError, ValueError) as error:
        console.print(f"[bold red]no result:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error
    for line in (*page.warnings, *page.reasons, page.verdict):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print(f"report: {folder / name}.html", highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(1 if page.passed is False else 0)


def _target(
    base_url: str | None,
    door: str | None,
    mongodb_uri: str | None,
    witness: Path | None,
    limit: int,
    drain_timeout_s: float,
) -> tuple[Target, Addresses]:
    """The running service, or the one the options name. Raises ServiceError."""
    if door not in ("direct", "front", None):
        raise ServiceError(f"there is no door {door!r}: direct or front")
    found = Addresses() if base_url and mongodb_uri else find_service()
    addresses = base_url or found.door(door) or ""
    database = mongodb_uri or found.mongodb_uri
    urls = tuple(url.strip().rstrip("/") for url in addresses.split(",") if url.strip())
    if not urls or not database:
        raise ServiceError(f"no address of the service's {door or 'own'} or of its MongoDB is given or found")
    if any("@" in urlsplit(url).netloc for url in urls):  # reports name the address
        raise ServiceError("--base-url takes no user and no password: Spillway asks for none")
    name = base_url or ("direct port" if urls[0] == found.direct_url else "front door")
    record = witness or found.witness_record
    target = Target(name, urls, database, record, found.run_id, found.redis_url, limit, drain_timeout_s=drain_timeout_s)
    return replace(target, roots=(found.owner_pid,) if found.owner_pid else ()), found


def leave_by_exception() -> None:
    """From here on SIGTERM and a closed terminal end k6 and the services that were started, as Ctrl-C does.

    Whoever ignores a signal, as nohup does, goes on ignoring it.
    """

    def leave(number: int, _frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, leave)


if __name__ == "__main__":
    leave_by_exception()
    app(prog_name="python -m loadtests")
