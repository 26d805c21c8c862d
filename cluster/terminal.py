"""What every command shares: two consoles, the settings, the running service, and how to fail."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NoReturn

from rich.console import Console
from rich.markup import escape

from cluster import serve_config
from cluster.reaper import RUN_VARIABLE
from cluster.settings import CONFIG_FILE_VARIABLE, ENV_PREFIX, Settings, load, variable
from cluster.state import Record, StateFolder


class Unheard(Console):
    """A run's: it says what it can, and no word of it ends the run. rich's own ends the program on a closed pipe."""

    def on_broken_pipe(self) -> None:  # Ctrl-C in `make up | tee log` ends tee, and then the run drains
        silence([self.file.fileno()])

    def __exit__(self, *why: Any) -> None:  # whatever is said is said here
        with suppress(OSError):  # of a log on a full disk
            super().__exit__(*why)


out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

NOTHING_RUNS = "No Spillway runs here. Start one: make up"
UNREADABLE = (
    "A Spillway runs here, and its record cannot be read: it has only just begun, or another version of this program "
    "started it. Try again; then end it by Ctrl-C in its terminal, or by the version that started it."
)


def unusable(error: OSError) -> str:
    """Of the state folder, for example another user's."""
    return f"Spillway's folder cannot be used: {error}"


def settings_and_folder(of_a_run: bool = False) -> tuple[Settings, StateFolder]:
    """Ends the command with code 2 when a setting is wrong, and tells of variables that are none.

    `of_a_run`: not where a run is found all the same. What was written into the files since it began must keep nobody
    from stopping it or from asking; of the settings only `state_dir` is sure to be its own then.
    """
    for name in unread(os.environ):
        warn(f"Nobody reads the variable {name}; each setting's name: cluster/settings.example.yaml")
    args: dict[str, Any] = {}
    try:
        args = serve_config.args()
        settings = load(**args)  # as the application reads them
    except ValueError as error:  # a `SettingsError`, or why the file cannot be used
        despite = _of_the_run(args) if of_a_run else None
        if despite is None:
            fail(str(error), code=2)
        settings = despite
        warn(f"{error}\nThis is about the run in {StateFolder(settings.state_dir).path}.")
    return settings, StateFolder(settings.state_dir)


def _of_the_run(args: dict[str, Any]) -> Settings | None:
    """What stands in for settings that cannot be used; None when no run is found, which may be somewhere else then."""
    place = args.get("state_dir") or os.environ.get(variable("state_dir"))
    try:
        settings = Settings.model_construct(state_dir=str(place)) if place else load()
    except ValueError:  # the file of SPILLWAY_CONFIG may name another place: a guess could stop another service
        return None
    return settings if StateFolder(settings.state_dir).load() else None


def unread(variables: Iterable[str]) -> list[str]:
    """Those that are called like a setting and are none. A misspelt address would be passed over without a word, and a
    server of ours started in its place."""
    options = {variable(name) for name in Settings.model_fields}
    others = (CONFIG_FILE_VARIABLE, RUN_VARIABLE, f"{ENV_PREFIX}TEST_MONGODB_URI", f"{ENV_PREFIX}CRD")
    return sorted(name for name in variables if name.startswith(ENV_PREFIX) and name not in {*options, *others})


def running(folder: StateFolder) -> Record:
    """Ends the command when nothing runs, or when nobody here may know."""
    record = folder.load()
    if record is None:
        try:
            fail(UNREADABLE if folder.is_locked() else NOTHING_RUNS)
        except OSError as error:
            fail(unusable(error))
    if not record.owner.lives():
        fail("The last run was killed and has not been cleaned up: make down")
    return record


def silence(streams: Iterable[int] = (1, 2)) -> None:
    """After the terminal has closed, when every word to it is an error: from here on words go nowhere.

    Only a stream that leads to a file still leads there.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        if not stat.S_ISREG(os.fstat(stream).st_mode):
            os.dup2(nowhere, stream)
    os.close(nowhere)


def warn(message: str) -> None:
    err.print(f"[yellow]{escape(message)}[/yellow]", soft_wrap=True)


def fail(message: str, code: int = 1) -> NoReturn:
    err.print(f"[red]{escape(message)}[/red]", soft_wrap=True)
    sys.exit(code)
