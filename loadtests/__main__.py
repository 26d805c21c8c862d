"""`python -m loadtests flood`: checks the machine, lets k6 flood the running service, then judges what became of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from loadtests.generator import INTERRUPTED, THRESHOLDS_FAILED, GeneratorError, Load, allow_files, find_k6, run_k6
from loadtests.report import keep, show
from loadtests.service import ROOT, Addresses, ServiceError, find_service, is_ready
from loadtests.verify import (
    ANSWERS,
    COMMANDS_PER_SECOND,
    DRAIN_TIMEOUT_S,
    SUMMARY,
    VERDICT,
    NoVerdict,
    verify,
)

READY_WAIT_S = 30.0

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def _commands() -> None:
    """Load tests of a running service, and the judge of their outcome."""


@app.command()
def flood(
    users: Annotated[int, typer.Option(min=1, help="Users that each ask again as soon as they are answered.")] = 64,
    duration: Annotated[str, typer.Option(help="How long, in k6's notation: 60s, 5m.")] = "60s",
    base_url: Annotated[
        str | None,
        typer.Option(envvar="BASE_URL", help="Addresses, comma-separated; else the direct port, else the front door."),
    ] = None,
    mongodb_uri: Annotated[str | None, typer.Option(help="MongoDB itself; else the running service's.")] = None,
    witness: Annotated[Path | None, typer.Option(help="The witness' record; else the running service's.")] = None,
    limit: Annotated[int, typer.Option(help="Commands allowed in any second.")] = COMMANDS_PER_SECOND,
    drain_timeout: Annotated[float, typer.Option(help="How long the backlog may take, seconds.")] = DRAIN_TIMEOUT_S,
    out: Annotated[Path | None, typer.Option(help="Folder for records; else .spillway/loadtests/<time>.")] = None,
) -> None:
    """A closed loop on GET /api/data, then the verdict. Exit code 0: k6 and the judge are content."""
    console = Console()
    try:
        found = Addresses() if base_url and mongodb_uri else find_service()
        addresses = base_url or found.direct_url or found.http_url
        database = mongodb_uri or found.mongodb_uri
        if not addresses or not database:
            raise ServiceError("the running service names no address of its own or of its MongoDB")
        urls = tuple(url.strip().rstrip("/") for url in addresses.split(",") if url.strip())
        folder = out or ROOT / ".spillway" / "loadtests" / time.strftime("%Y%m%d-%H%M%S")
        folder.mkdir(parents=True, exist_ok=True)
        load = Load(users, duration, urls, folder)
        code = _flood(load, console)
        outcome = verify(
            folder,
            urls[0],
            database,
            witness or found.witness_record,
            unknown=users if code == INTERRUPTED else 0,
            limit=limit,
            drain_timeout_s=drain_timeout,
            console=console,
        )
        keep(outcome, folder / VERDICT)
    except (ServiceError, GeneratorError, NoVerdict, OSError) as error:
        console.print(f"[bold red]no verdict:[/] {error}", highlight=False)
        raise typer.Exit(2) from error
    console.print(f"records in {folder}", highlight=False, soft_wrap=True)
    if code:
        reason = {THRESHOLDS_FAILED: "a threshold was missed", INTERRUPTED: "interrupted"}.get(
            code, f"exit code {code}"
        )
        console.print(f"[bold red]✗[/] k6: {reason}", highlight=False)
    show(outcome, console)
    raise typer.Exit(1 if outcome.problems() or code else 0)


def _flood(load: Load, console: Console) -> int:
    """Preflight, then k6; returns its exit code. Raises ServiceError or GeneratorError."""
    allow_files(load.users)
    k6 = find_k6()
    for url in load.base_urls:
        with console.status(f"waiting for {url}/readyz"):
            if not is_ready(url, READY_WAIT_S):
                raise ServiceError(f"{url}/readyz did not answer 200 within {READY_WAIT_S:.0f} s")
    answers, summary = load.out / ANSWERS, load.out / SUMMARY
    for old in (answers, summary, load.out / VERDICT):
        old.unlink(missing_ok=True)  # k6 appends; a run starts with an empty record
    console.print(f"flooding {', '.join(load.base_urls)}: {load.users} users, {load.duration}", highlight=False)
    return run_k6(k6, load, answers, summary)


if __name__ == "__main__":
    app(prog_name="python -m loadtests")
