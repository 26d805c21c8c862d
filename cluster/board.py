"""The live status line: the numbers of GET /v1/status, to be read at a glance. Pure."""

from __future__ import annotations

from typing import Any

from rich.text import Text

UNKNOWN = "unknown"


def count(number: float | None, form: str = "{:,.0f}") -> str:
    """1234567 as 1,234,567, and None as unknown."""
    return UNKNOWN if number is None else form.format(number)


def left(writes: int | None) -> str:
    """What is said of accepted writes that a run has left in the log; nothing where there are none."""
    if writes == 0:
        return ""
    known = f"{count(writes)} accepted writes are still in the log"
    told = "How many accepted writes are in the log is not known" if writes is None else known
    return f"{told}; the next `make up` stores them."


def left_elsewhere(writes: int | None, there: str, here: str) -> str:
    """What is said of them at the start of a run whose log is another one; nothing where there are none."""
    if writes == 0:
        return ""
    known = f"the last run left {count(writes)} accepted writes in its log"
    told = "nobody knows how many accepted writes the last run left in its log" if writes is None else known
    return (
        f"{told}, in {there}. This run's is in {here}, and it does not store them. To have them stored: make down, "
        "then make up with the settings of before, until nothing is left (docs/operations.md, 'Another Redis')"
    )


def size(number: float) -> str:
    """Bytes, in the unit that gives one to three digits before the point."""
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"


def number(values: dict[str, Any] | None, *path: str) -> float | None:
    """A number inside nested objects; None when it is missing, null or no number."""
    found: Any = values
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return float(found) if isinstance(found, int | float) else None


def line(status: dict[str, Any] | None, state: str = "") -> Text:
    """The line for the latest answer; without one it says so. What is not known is never shown as 0."""
    text = Text()
    if state:
        text.append(f"{state}  ", style="yellow")
    if status is None:
        return text.append("the service does not answer", style="red")
    text.append(f"accepted {count(number(status, 'accepted_per_s'), '{:,.0f}/s')}", style="bold")
    writes, held = number(status, "backlog", "writes"), number(status, "backlog", "bytes")
    text.append(f" · backlog {count(writes)}{'' if held is None else f' ({size(held)})'}")
    seen, worst, limit = (number(status, "commands", name) for name in ("last_second", "worst_window", "limit"))
    if seen is None or worst is None or limit is None:
        text.append(f" · commands {UNKNOWN}")
    else:
        text.append(f" · commands {count(seen)} of {count(limit)} in 1 s")
        text.append(f", worst {count(worst)}", style="red" if worst > limit else "")
    text.append(f" · lag {count(number(status, 'lag_s'), '{:.1f} s')}")
    for part in ("redis", "mongodb"):
        if status.get(part) in ("down", UNKNOWN):
            text.append(f" · {part} {status[part]}", style="red" if status[part] == "down" else "")
    if status.get("ready") is False:
        text.append(" · writes are refused", style="red")
    if letters := number(status, "dead_letters"):
        text.append(f" · dead letters {count(letters)} (make letters)", style="red")
    text.highlight_words([UNKNOWN], "yellow")
    return text
