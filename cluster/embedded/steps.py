"""Progress for people: a spinner with the time in a terminal, plain lines elsewhere. Quick steps stay quiet."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

QUIET_S = 2.0
"""Seconds a step may take before a log without a terminal hears of it."""


def is_alive(console: Console) -> bool:
    """Whether a line can change there. In a `dumb` terminal, as Emacs has one, rich shows no such line at all."""
    return console.is_terminal and not console.is_dumb_terminal


class Steps:
    """Shows one step after the other on `console`."""

    def __init__(self, console: Console, meanwhile: Callable[[], None] = lambda: None) -> None:
        """`meanwhile` is called while a step waits, and ends the step by what it raises."""
        self.console = console
        self._meanwhile = meanwhile

    @contextmanager
    def step(self, title: str) -> Iterator[Callable[[], None]]:
        """Shows `title` until the block ends, then how long it took; call what it yields now and then while waiting.

        An exception of the block passes through; the step is then marked as failed.
        """
        began = time.monotonic()
        announced = False
        alive = is_alive(self.console)

        def tick() -> None:
            nonlocal announced
            self._meanwhile()
            if not alive and not announced and time.monotonic() - began >= QUIET_S:
                announced = True
                self.console.print(f"  … {escape(title)}")

        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        bar = Progress(*columns, console=self.console, transient=True, disable=not alive)
        try:
            with bar:
                bar.add_task(escape(title), total=None)
                yield tick
        except BaseException:
            self.console.print(f"[red]✗[/red] {escape(title)} [dim]{time.monotonic() - began:.1f} s[/dim]")
            raise
        self.console.print(f"[green]✓[/green] {escape(title)} [dim]{time.monotonic() - began:.1f} s[/dim]")

    def note(self, text: str) -> None:
        """One line that is no step; rich markup allowed."""
        self.console.print(f"  {text}", soft_wrap=True)
