"""python -m cluster dead-letters: list, show, replay, discard."""

from __future__ import annotations

import json
import re
import sys
from base64 import b64decode
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from cluster.board import count
from cluster.shelf import Refused, Shelf, Span
from cluster.terminal import err, fail, out, running, settings_and_folder

app = typer.Typer(help="Writes that MongoDB refused: look, replay, discard.", no_args_is_help=True)

_PAGE = 500
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

Ids = Annotated[list[str] | None, typer.Argument(help="Letters, as the list names them")]
Namespace = Annotated[str, typer.Option(help="Only those for this database.collection")]
Reason = Annotated[str, typer.Option(help="Only those whose reason holds this text, for example E11000")]
Since = Annotated[str, typer.Option(help="Only those rejected since: 2026-01-31T08:30:00Z, or 90m, 2h, 3d ago")]
Before = Annotated[str, typer.Option(help="Only those rejected before: a time, or so long ago")]
All = Annotated[bool, typer.Option("--all", help="All there are")]
BaseUrl = Annotated[str, typer.Option(help="Of the service [default: the one that runs here]")]


@app.command("list")
def list_(
    namespace: Namespace = "",
    reason: Reason = "",
    since: Since = "",
    before: Before = "",
    limit: Annotated[int, typer.Option(help="Letters at most", min=1)] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: one object a line")] = False,
    base_url: BaseUrl = "",
) -> None:
    """Print them, oldest first."""
    shelf = _shelf(base_url)
    shown: list[dict[str, Any]] = []
    more = False
    try:
        for page in shelf.pages("", _selection(namespace, reason, since, before), min(limit, _PAGE)):
            shown += page["items"]
            more = len(shown) > limit or (len(shown) == limit and page["next"] is not None)
            if len(shown) >= limit:
                break
    except Refused as refusal:
        fail(str(refusal))
    if as_json:
        for item in shown[:limit]:
            print(json.dumps(item))
        return
    if not shown:
        out.print("There are no dead letters like that.")
        return
    # Where nobody looks, nothing is cut to a terminal's width.
    (out if out.is_terminal else Console(width=240, highlight=False)).print(_table(shown[:limit]))
    if more:
        err.print(f"There may be more; these are the oldest {count(limit)}: --limit, or a filter.")


@app.command()
def show(
    id_: Annotated[str, typer.Argument(metavar="ID", help="As the list names it")],
    raw: Annotated[bool, typer.Option("--raw", help="Only the original bytes, BSON, to standard output")] = False,
    base_url: BaseUrl = "",
) -> None:
    """Print one with its body."""
    try:
        letter = _shelf(base_url).show(id_)
    except Refused as refusal:
        fail(str(refusal))
    if raw:
        sys.stdout.buffer.write(b64decode(letter["body_base64"]))
    else:
        print(json.dumps(letter, indent=2, ensure_ascii=False))


@app.command()
def replay(
    ids: Ids = None,
    namespace: Namespace = "",
    reason: Reason = "",
    since: Since = "",
    before: Before = "",
    all_: All = False,
    base_url: BaseUrl = "",
) -> None:
    """Write them again, behind everything accepted since. Ctrl-C stops; what is done is done, the rest stays."""
    selection = _meant(ids, namespace, reason, since, before, all_)
    shelf = _shelf(base_url)
    done = _run(shelf, "replay", ids, selection, shelf.replay, None if ids else _span(shelf))
    if done["rejected_again"]:
        fail("Some were refused again; their cause is not mended: python -m cluster dead-letters list")


@app.command()
def discard(
    ids: Ids = None,
    namespace: Namespace = "",
    reason: Reason = "",
    since: Since = "",
    before: Before = "",
    all_: All = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask")] = False,
    base_url: BaseUrl = "",
) -> None:
    """Forget them for good; asks first when it is more than one. What comes after the question is counted stays."""
    selection = _meant(ids, namespace, reason, since, before, all_)
    shelf = _shelf(base_url)
    span = None if ids else _span(shelf)
    if not yes:
        try:  # of all, the service knows how many; to list a million takes minutes
            number = len(ids) if ids else span.size if all_ and span else _number(shelf, selection, span)
        except Refused as refusal:
            fail(str(refusal))
        if number > 1:
            _confirm(f"Discard {count(number)} dead letters? These writes are then lost for good.")
    _run(shelf, "discard", ids, selection, shelf.discard, span)
    if span:
        with suppress(Refused):  # what was asked for is done
            more = _number(shelf, selection, shelf.span(span.end))
            if more:
                out.print(f"{count(more)} more came meanwhile; they stay.")


def _span(shelf: Shelf) -> Span:
    try:
        return shelf.span()
    except Refused as refusal:
        fail(str(refusal))


def _number(shelf: Shelf, selection: dict[str, str], span: Span | None) -> int:
    """How many letters of the span are meant. Raises `Refused`."""
    return sum(len(page["items"]) for page in shelf.pages("", selection, 1_000, span=span))


def _run(
    shelf: Shelf,
    act: str,
    ids: list[str] | None,
    selection: dict[str, str],
    one: Callable[[str], None],
    span: Span | None,
) -> Counter[str]:
    """Do it, with a bar; whatever ends it, it says how far it came."""
    done: Counter[str] = Counter()
    verb = f"{act}ed"
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=err
    )
    try:
        with bar:
            task = bar.add_task(verb, total=span.size if span else len(ids or ()))
            for id_ in ids or ():
                one(id_)
                done[verb] += 1
                bar.advance(task)
            if not ids:

                def waiting(why: str) -> None:
                    bar.update(task, description=f"waiting: {why}"[:100] if why else f"{verb} {count(done[verb])}")

                for page in shelf.pages(act, selection, _PAGE, waiting, span):
                    done.update({name: page.get(name, 0) for name in (verb, "stored", "rejected_again")})
                    bar.update(task, advance=page["scanned"], description=f"{verb} {count(done[verb])}")
    except KeyboardInterrupt:
        out.print(f"Stopped. {_told(verb, done)} A page under way may still be done. The same command goes on.")
        raise typer.Exit(130) from None
    except Refused as refusal:
        out.print(_told(verb, done))
        fail(str(refusal))
    out.print(_told(verb, done))
    return done


def _told(verb: str, done: Counter[str]) -> str:
    """How far it came."""
    told = f"{verb.capitalize()} {count(done[verb])}"
    if done["stored"] or done["rejected_again"]:
        waiting = done[verb] - done["stored"] - done["rejected_again"]
        told += f": {count(done['stored'])} stored, {count(done['rejected_again'])} refused again"
        told += f", {count(waiting)} on their way" if waiting else ""
    return f"{told}."


def _table(items: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("id", "rejected at"):
        table.add_column(name, no_wrap=True)
    for name in ("what", "document", "tries", "reason"):
        table.add_column(name, overflow="fold", justify="right" if name == "tries" else "left")
    for item in items:
        what = f"{item['kind']} {item['namespace']}"
        cells = (item["id"], item["rejected_at"], what, item["document_id"], str(item["attempts"]), item["reason"])
        table.add_row(*(Text(_plain(cell)) for cell in cells))
    return table


def _plain(text: str) -> str:
    """A document's id is its writer's to choose; what is not printable could steer the terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _meant(
    ids: list[str] | None, namespace: str, reason: str, since: str, before: str, all_: bool
) -> dict[str, str]:
    ways = [bool(ids), bool(namespace or reason or since or before), all_]
    if sum(ways) != 1:
        fail("Name letters by their ids, or by --namespace, --reason, --since, --before, or say --all.", code=2)
    return _selection(namespace, reason, since, before)


def _selection(namespace: str, reason: str, since: str, before: str) -> dict[str, str]:
    times = {"since": since, "before": before}
    asked = {"namespace": namespace or "*", "reason": reason} | {
        name: moment(text, datetime.now(UTC)) for name, text in times.items()
    }
    return {name: text for name, text in asked.items() if text}


def moment(text: str, now: datetime) -> str:
    """ "2h" as the time two hours ago, in RFC 3339; anything else as it is."""
    ago = re.fullmatch(r"(\d{1,5})([smhd])", text)
    if ago is None:
        return text
    return (now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _confirm(question: str) -> None:
    if not _somebody_is_here():
        fail(f"{question} Nobody is here to ask; nothing was discarded. Say --yes.")
    if not typer.confirm(question):
        fail("Nothing was discarded.")


def _somebody_is_here() -> bool:
    return sys.stdin.isatty()


def _shelf(base_url: str) -> Shelf:
    if not base_url:
        _, folder = settings_and_folder(of_a_run=True)
        base_url = running(folder).http_url
    if not base_url:
        fail("The service has no address yet; it is still starting.")
    if not base_url.startswith(("http://", "https://")):
        fail(f"--base-url must begin with http:// or https://; it is {base_url}", code=2)
    return Shelf(base_url)
