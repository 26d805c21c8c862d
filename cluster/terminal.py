"""What every command shares: two consoles, the settings, the running service, and how to fail."""

from __future__ import annotations

import sys
from typing import NoReturn

from rich.console import Console
from rich.markup import escape

from cluster.settings import Settings, SettingsError, load
from cluster.state import Record, StateFolder

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

NOTHING_RUNS = "No Spillway runs here. Start one: make up"


def settings_and_folder() -> tuple[Settings, StateFolder]:
    """Ends the command with code 2 when a setting is wrong."""
    try:
        settings = load()
    except SettingsError as error:
        fail(str(error), code=2)
    return settings, StateFolder(settings.state_dir)


def running(folder: StateFolder) -> Record:
    """Ends the command when nothing runs."""
    record = folder.load()
    if record is None:
        fail(NOTHING_RUNS)
    if not record.owner.lives():
        fail("The last run was killed and has not been cleaned up: make down")
    return record


def fail(message: str, code: int = 1) -> NoReturn:
    err.print(f"[red]{escape(message)}[/red]", soft_wrap=True)
    sys.exit(code)
