"""The live status line: the numbers of GET /v1/status, to be read at a glance. Pure; time is an argument."""

from __future__ import annotations

from typing import Any

from rich.text import Text


def count(number: float) -> str:
    """1234567 as 1,234,567."""
    return f"{number:,.0f}"


def size(number: float) -> str:
    """Bytes, in the unit that gives one to three digits before the point."""
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"


def number(values: dict[str, Any] | None, *path: str) -> float:
    """A number inside nested objects; 0 when it is missing, null or no number."""
    found: Any = values
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return float(found) if isinstance(found, int | float) else 0.0


class Board:
    """Remembers the last sample, so that accepted/s is a true difference over the time between two answers."""

    def __init__(self) -> None:
        self._total: float | None = None
        self._at_s = 0.0
        self.accepted_per_s = 0.0
        self.backlog = 0  # the last one that was known

    def update(self, status: dict[str, Any], now_s: float) -> None:
        """Takes one answer in. A total that shrank means the service began anew: the rate is then 0 once."""
        total = number(status, "accepted_total")
        if self._total is not None and now_s > self._at_s:
            self.accepted_per_s = max(0.0, total - self._total) / (now_s - self._at_s)
        self._total, self._at_s = total, now_s
        if not _unknown_backlog(status):
            self.backlog = int(number(status, "backlog", "writes"))

    def line(self, status: dict[str, Any] | None, state: str = "") -> Text:
        """The line for the latest answer; without one it says so."""
        text = Text()
        if state:
            text.append(f"{state}  ", style="yellow")
        if status is None:
            return text.append("the service does not answer", style="red")
        limit = number(status, "commands", "limit")
        worst = number(status, "commands", "worst_window")
        text.append(f"accepted {count(self.accepted_per_s)}/s", style="bold")
        if _unknown_backlog(status):
            text.append(" · backlog unknown, a buffer does not answer", style="yellow")
        else:
            text.append(f" · backlog {count(self.backlog)} ({size(number(status, 'backlog', 'bytes'))})")
        text.append(f" · commands {count(number(status, 'commands', 'last_second'))} of {count(limit)} in 1 s")
        text.append(f", worst {count(worst)}", style="red" if limit and worst > limit else "")
        text.append(f" · lag {number(status, 'lag_s'):.1f} s")
        for part in ("redis", "mongodb"):
            if status.get(part) == "down":
                text.append(f" · {part} down", style="red")
        return text


def _unknown_backlog(status: dict[str, Any]) -> bool:
    """Whether a part of it lies in the log of a buffer that does not answer."""
    backlog = status.get("backlog")
    return isinstance(backlog, dict) and "writes" in backlog and backlog["writes"] is None
