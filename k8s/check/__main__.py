"""python -m k8s.check: everything about the manifests that can be proven without a cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cluster.embedded.child import ChildFailed
from cluster.embedded.steps import Steps
from cluster.embedded.toolchain import BuildFailed
from k8s.check import programs, render, trial
from k8s.check.control_plane import Api, Refused, control_plane
from k8s.check.documents import Document, Fault, parse
from k8s.check.inspection import OVERLAYS, drift, inspect, secrets

app = typer.Typer(add_completion=False, rich_markup_mode=None, help="Spillway's manifests, checked.")
out = Console(highlight=False)

Report = dict[str, dict[str, list[Fault]]]
"""Check, overlay, faults."""

ACCEPTED = f"accepted by Kubernetes {programs.VERSION}, strictly"
NOT_HERE = (
    "Not checked here: what the KubeRay operator makes of a RayService, and all that only shows when it runs. "
    "k8s/first-run.md is the list for a live cluster."
)


@app.callback(invoke_without_command=True)
def check(
    context: typer.Context,
    crd: Annotated[
        str | None, typer.Option(envvar=programs.CRD_VARIABLE, help="File with the definition (CRD) of RayService")
    ] = None,
    crd_from_cluster: Annotated[bool, typer.Option(help="Take it from the cluster that kubectl talks to")] = False,
) -> None:
    """Check every overlay; exit code 1 when something is wrong, 2 when it could not be checked."""
    if context.invoked_subcommand is not None:
        return
    steps = Steps(out)
    try:
        folder = programs.built(steps)
        definition = programs.crd(steps, crd, crd_from_cluster, folder)
        overlays = {name: rendered(folder, name) for name in OVERLAYS}
        report = inspections(overlays)
        with control_plane(folder, steps) as api:
            report[ACCEPTED] = trials(api, overlays, definition.path, steps)
    except (BuildFailed, ChildFailed, Refused) as error:
        out.print(f"[red]{escape(str(error))}[/red]", soft_wrap=True)
        raise typer.Exit(2) from None
    faulty = show(report)
    out.print(f"RayService's schema: {definition.origin}.", soft_wrap=True)
    if programs.CRD_MODULE_VERSION in definition.origin:
        ways = f"{programs.CRD_VARIABLE}=FILE make k8s-check, or make k8s-check ARGS=--crd-from-cluster"
        out.print(f"The manifests are for operator {programs.OPERATOR}; with its own schema: {ways}", soft_wrap=True)
    out.print(NOT_HERE, soft_wrap=True)
    raise typer.Exit(1 if faulty else 0)


@app.command(name="render")
def render_() -> None:
    """Make serve-config.yaml and haproxy again from cluster/."""
    for path in render.write():
        print(path.relative_to(render.FOLDER.parent))


def rendered(folder: Path, overlay: str) -> list[Document]:
    """What kustomize makes of an overlay. Raises `Refused`."""
    command = [str(folder / "kustomize"), "build", str(render.FOLDER / "overlays" / overlay)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if answer.returncode != 0:
        raise Refused(f"kustomize cannot build the overlay {overlay}: {answer.stderr.strip()}")
    return parse(answer.stdout)


def inspections(overlays: dict[str, list[Document]]) -> Report:
    """Every check without an API server."""
    report: Report = {"made from cluster/, unchanged": dict.fromkeys(overlays, drift())}
    for overlay, documents in overlays.items():
        for name, faults in inspect(documents).items():
            report.setdefault(name, {})[overlay] = faults
    return report


def trials(api: Api, overlays: dict[str, list[Document]], crd: Path, steps: Steps) -> dict[str, list[Fault]]:
    """Every overlay against the API server. Raises `Refused` when not even RayService's definition is taken."""
    trial.install(api, crd)
    found = {}
    for overlay, documents in overlays.items():
        with steps.step(f"Applying {overlay}: {len(documents)} objects"):
            found[overlay] = trial.faults(api, documents, secrets())
    return found


def show(report: Report) -> bool:
    """Prints the table and each fault once; returns whether there are any."""
    table = Table("", *OVERLAYS, box=None, pad_edge=False)
    where: dict[str, list[str]] = {}
    for name, by_overlay in report.items():
        marks = ["[red]✗[/red]" if by_overlay[overlay] else "[green]✓[/green]" for overlay in OVERLAYS]
        table.add_row(name, *marks)
        for overlay in OVERLAYS:
            for fault in by_overlay[overlay]:
                where.setdefault(f"{name}\n  {fault}", []).append(overlay)
    out.print(table)
    for fault_text, overlays in where.items():
        out.print(f"[red]✗[/red] {', '.join(overlays)}: {escape(fault_text)}", soft_wrap=True)
    return bool(where)


if __name__ == "__main__":
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    sys.exit(app())
