"""The judge of a run: waits for the drain, compares what was accepted with what is stored, and counts the commands.

`python loadtests/verify.py DIR`, where DIR holds `answers.log` (what k6 recorded) and, if there is one, `summary.json`;
`verdict.json` is written beside them. Exit code 0: passed. 1: at least one fault, or more commands than allowed, or
nothing accepted, or a backlog that stayed. 2: no verdict, because something needed cannot be read.

Nobody else may write to the collection during the run: a document the judge cannot account for is a ghost.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

if __package__ in (None, ""):  # started as a file: Python looked beside it, the package is one folder up
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from loadtests.answers import Answers, load_answers
from loadtests.report import Outcome, keep, show
from loadtests.service import (
    URI_VARIABLE,
    Drain,
    ServiceError,
    find_service,
    get_json,
    wait_for_drain,
    worst_window_of,
    writer_of,
)
from loadtests.stored import StoreError, each_document
from loadtests.verdict import Comparison, Verdict
from loadtests.window import Traffic, witnessed

COMMANDS_PER_SECOND = 100
DRAIN_TIMEOUT_S = 120.0
_WRITER_WAIT_S = 15.0  # as long as k6 waits for it before the load
_ASK_AGAIN_S = 0.5
ANSWERS, SUMMARY, VERDICT = "answers.log", "summary.json", "verdict.json"
_PROGRESS_STEP = 1000


class NoVerdict(RuntimeError):
    """Something the judge needs is missing or damaged; the message names it."""


def verify(
    run: Path,
    base_url: str,
    mongodb_uri: str,
    witness: Path | None = None,
    unknown: int = 0,
    limit: int | None = COMMANDS_PER_SECOND,
    drain_timeout_s: float = DRAIN_TIMEOUT_S,
    console: Console | None = None,
    drained: Callable[[], None] = lambda: None,
    load_s: float | None = None,
) -> Outcome:
    """Judge the run in a folder, with progress on the console. `unknown`: requests whose outcome k6 did not record.
    `load_s`: how long load was to be offered, where that is known.

    `drained` is called when the backlog is empty or given up, before MongoDB is read. Raises NoVerdict.
    """
    console = console or Console()
    try:
        if not (run / ANSWERS).exists():
            raise ValueError(f"there is no {run / ANSWERS}: the folder of a run is wanted")
        with _progress(console) as progress:
            drain = _drain(base_url, drain_timeout_s, progress)  # first: its clock began with the end of the run
            drained_s = time.time()
            drained()
        with console.status("reading what k6 recorded"):
            answers = load_answers(run / ANSWERS)
            answers.unknown += unknown
            _complete(answers, run / ANSWERS)
            summary = _summary(run / SUMMARY)
        with _progress(console) as progress:
            # Needed only where no witness tells what was sent.
            status = _status(base_url, 0.0 if witness or limit is None else _WRITER_WAIT_S)
            verdict = _compare(answers, mongodb_uri, get_json(f"{base_url}/api/stats"), progress)
        seen: Traffic | None = None
        if witness is not None:
            seen = witnessed(witness, answers.started_s or 0.0, drained_s)
    except (OSError, ValueError, StoreError) as error:
        raise NoVerdict(str(error)) from error
    return Outcome(answers, verdict, drain, limit, seen, worst_window_of(status), summary, load_s, writer_of(status))


def _status(base_url: str, patience_s: float) -> dict[str, Any] | None:
    """The service's status. Asked for again while it names no writer: for an instant none may answer, and without its
    name a good run would not pass."""
    deadline = time.monotonic() + patience_s
    while True:
        status = get_json(f"{base_url}/v1/status")
        if writer_of(status) or time.monotonic() >= deadline:
            return status
        time.sleep(_ASK_AGAIN_S)


def _complete(answers: Answers, path: Path) -> None:
    """A run without a start cannot be judged; one without a stop (k6 was killed) ended with its last line."""
    if answers.started_s is None:
        raise ValueError(f"{path} has no start: k6 did not come to its first request")
    if answers.stopped_s is None:
        answers.stopped_s, answers.is_cut = path.stat().st_mtime, True


def _summary(path: Path) -> Mapping[str, Any]:
    """k6's figures; empty when it left none, or half of them (it was killed)."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )


def _drain(base_url: str, timeout_s: float, progress: Progress) -> Drain:
    """Wait for an empty backlog; the bar is the largest backlog seen, done is what has left it."""
    largest = 0
    task = progress.add_task("draining the backlog (writes)", total=None)

    def advance(backlog: int) -> None:
        nonlocal largest
        largest = max(largest, backlog)
        progress.update(task, total=largest or 1, completed=largest - backlog if largest else 1)

    return wait_for_drain(base_url, timeout_s, advance)


def _compare(answers: Answers, mongodb_uri: str, stats: Mapping[str, Any] | None, progress: Progress) -> Verdict:
    """Read the whole collection; the service's own count is good enough for the length of the bar."""
    total = (stats or {}).get("total_documents")
    expected = total if isinstance(total, int) else answers.writes
    task = progress.add_task("reading MongoDB (documents)", total=max(expected, 1))
    comparison = Comparison(answers)
    seen = 0
    for document in each_document(mongodb_uri):
        comparison.see(document)
        seen += 1
        if seen % _PROGRESS_STEP == 0:
            progress.update(task, completed=seen)
    progress.update(task, completed=seen, total=max(seen, 1))
    return comparison.verdict()


def main(
    run: Annotated[Path, typer.Argument(help="The folder of a run: answers.log, and summary.json if there is one.")],
    base_url: Annotated[str | None, typer.Option(help="The service; found by itself when it runs here.")] = None,
    mongodb_uri: Annotated[str | None, typer.Option(envvar=URI_VARIABLE, help="MongoDB, not the witness.")] = None,
    witness: Annotated[Path | None, typer.Option(help="The record of the witness.")] = None,
    unknown: Annotated[int, typer.Option(help="Requests whose outcome k6 did not record.")] = 0,
    limit: Annotated[int, typer.Option(help="Commands allowed in any second.")] = COMMANDS_PER_SECOND,
    drain_timeout: Annotated[float, typer.Option(help="How long the backlog may take, seconds.")] = DRAIN_TIMEOUT_S,
) -> None:
    """Compare what a run was promised with what MongoDB holds."""
    console = Console()
    try:
        if base_url is None or mongodb_uri is None:
            found = find_service()
            base_url = base_url or found.http_url
            mongodb_uri = mongodb_uri or found.mongodb_uri
            witness = witness or found.witness_record
        if base_url is None or mongodb_uri is None:
            raise NoVerdict("the running service names no address of its own or of its MongoDB")
        outcome = verify(run, base_url.rstrip("/"), mongodb_uri, witness, unknown, limit, drain_timeout, console)
        keep(outcome, run / VERDICT)
    except (NoVerdict, ServiceError, OSError) as error:
        console.print(f"[bold red]no verdict:[/] {escape(str(error))}", highlight=False)
        raise typer.Exit(2) from error
    show(outcome, console)
    raise typer.Exit(1 if outcome.problems() else 0)


if __name__ == "__main__":
    typer.run(main)
