"""python -m cluster: up, down, status, drain, doctor, dead-letters, tool, clean."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.markup import escape

from actors.core.errors import SpillwayError
from cluster import telegraph
from cluster.board import line
from cluster.dead_letters import app as dead_letters
from cluster.ray_environment import client_environment
from cluster.terminal import Unheard, err, fail, out, running, settings_and_folder
from cluster.welcome import without_password

app = typer.Typer(help="Spillway on this machine.", no_args_is_help=True, add_completion=False, rich_markup_mode=None)
app.add_typer(dead_letters, name="dead-letters")


@app.command()
def up(
    witness: Annotated[
        bool | None,
        typer.Option("--witness/--no-witness", help="Record each command MongoDB gets [default: when it is ours]"),
    ] = None,
) -> None:
    """Start Redis, MongoDB, Ray and the service; stay in the foreground until Ctrl-C, then drain and stop them all."""
    from cluster.up import up as run

    settings, folder = settings_and_folder()
    raise typer.Exit(run(settings, folder, Unheard(highlight=False), witness))


@app.command()
def down() -> None:
    """Stop a running service as Ctrl-C does, or end exactly what a killed run left. Data and logs stay."""
    from cluster.down import down as clean

    _, folder = settings_and_folder(of_a_run=True)
    raise typer.Exit(clean(folder, out))


@app.command()
def clean(data: Annotated[bool, typer.Option("--data", help="And the data, after a typed word")] = False) -> None:
    """Remove the logs and run files of a stopped service. The data stays: the log, dead letters, MongoDB of ours."""
    from cluster.down import clean as remove

    _, folder = settings_and_folder()
    raise typer.Exit(remove(folder, out, data))


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="For programs")] = False,
    secrets: Annotated[bool, typer.Option("--secrets", help="With the passwords of Redis and MongoDB")] = False,
) -> None:
    """Print the running service's addresses and numbers; exit code 1 when none runs. Passwords are starred out."""
    _, folder = settings_and_folder(of_a_run=True)
    record = running(folder)
    numbers = telegraph.status(record.http_url) if record.http_url else None
    told = record.to_json()
    if not secrets:
        told = {name: without_password(value) if isinstance(value, str) else value for name, value in told.items()}
    if as_json:
        print(json.dumps({**told, "status": numbers}, indent=2))
        return
    for name, value in told.items():
        if name not in ("run_id", "owner", "parts", "stop_s") and value:
            out.print(f"{name:<22}{escape(str(value))}", soft_wrap=True)
    for name, part in record.parts.items():
        out.print(f"{escape(name):<22}pid {part.pid}{'' if part.lives() else ' (ended)'}")
    out.print(line(numbers, record.state), soft_wrap=True)


@app.command()
def drain(timeout: Annotated[float | None, typer.Option(help="Seconds [default: drain_timeout_s]")] = None) -> None:
    """Refuse new writes and store what is buffered; prints `left N`. The service must be restarted to accept again."""
    from cluster.draining import drain as run

    settings, folder = settings_and_folder(of_a_run=True)
    if "RAY_ADDRESS" not in os.environ:
        record = running(folder)
        if record.ray_address is None:
            fail("Ray has no address yet; it is still starting.")
        os.environ.update(client_environment(str(record.ray_token_file), record.ray_address))
    try:
        left = run(settings, settings.drain_timeout_s if timeout is None else timeout)
    except (ConnectionError, SpillwayError) as error:
        fail(f"How many writes are left is not known: {error}")
    print(f"left {left}", flush=True)


@app.command()
def doctor() -> None:
    """Check tools, limits, ports, disk and Redis' durability; exit code 1 when something must be mended."""
    from cluster.doctor import examine

    settings, folder = settings_and_folder()
    record = folder.load()
    sick = False
    for finding in examine(settings, folder, record if record and record.owner.lives() else None):
        sick = sick or not finding.well
        mark = "[green]✓[/green]" if finding.well else "[red]✗[/red]"
        out.print(f"{mark} {finding.what:<16}{escape(finding.detail)}", soft_wrap=True)
        if not finding.well:
            out.print(f"    → {escape(finding.remedy)}", soft_wrap=True)
    raise typer.Exit(1 if sick else 0)


@app.command()
def tool(name: Annotated[str, typer.Argument(help="k6, go, ferretdb or redis-server")]) -> None:
    """Print the path of a tool, building it first when this machine has none."""
    from cluster.embedded import redis_server, toolchain
    from cluster.embedded.steps import Steps

    tools: dict[str, Callable[[Steps], Any]] = {
        "k6": toolchain.k6,
        "go": toolchain.go,
        "ferretdb": toolchain.ferretdb,
        "redis-server": lambda _: redis_server.find().binary,
    }
    if name not in tools:
        fail(f"No tool is called {name}; there are {', '.join(tools)}.")
    try:
        print(tools[name](Steps(err)))
    except (toolchain.BuildFailed, redis_server.NoRedisServer) as error:
        fail(str(error))


if __name__ == "__main__":
    app()
