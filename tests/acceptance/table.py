"""What the trials of a session measured, one row a fault: in the terminal, and in docs/guarantees.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

BEGIN, END = "<!-- chaos: begin -->", "<!-- chaos: end -->"
COUNTS = ("ok", "refused", "unknown", "lost", "doubled", "ghosts", "worst window")
HEADS = ("fault", *COUNTS, "s to notice", "s to ready", "s to drained")


@dataclass
class Row:
    """One fault. Requests, writes, commands and seconds, as the heads say; None is what was not measured."""

    fault: str
    ok: int = 0
    fail: int = 0
    unknown: int = 0
    lost: int = 0
    doubled: int = 0
    ghosts: int = 0
    worst_window: int | None = None
    ready_s: float | None = None
    drained_s: float | None = None
    noticed_s: float | None = None  # until readiness said so
    load_s: float = 0.0  # Redis reading its append-only file, part of ready_s
    passed: bool = False

    def cells(self) -> tuple[str, ...]:
        counts = (self.ok, self.fail, self.unknown, self.lost, self.doubled, self.ghosts)
        window = "-" if self.worst_window is None else str(self.worst_window)
        ready = _seconds(self.ready_s) + (f" ({self.load_s:.1f} AOF)" if self.load_s >= 0.05 else "")
        return (self.fault, *map(str, counts), window, _seconds(self.noticed_s), ready, _seconds(self.drained_s))


def text_table(rows: Sequence[Row]) -> str:
    """For a terminal; a row that failed is marked."""
    lines = [HEADS, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADS))]
    marks = ["  ", *("  " if row.passed else "✗ " for row in rows)]
    text = []
    for mark, (name, *cells) in zip(marks, lines, strict=True):
        numbers = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        text.append(mark + "  ".join([name.ljust(widths[0]), *numbers]))
    return "\n".join(text)


def markdown_table(rows: Sequence[Row], origin: str) -> str:
    """For the documentation; `origin` says where and when."""
    lines = [HEADS, ("---", *("---:" for _ in HEADS[1:])), *(row.cells() for row in rows)]
    return "\n".join([origin, "", *("| " + " | ".join(line) + " |" for line in lines)])


def write_between_markers(page: Path, text: str) -> None:
    """Replaces what is between the two markers of a page. Raises `ValueError` when it has none."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no {BEGIN} … {END} to write the table between")
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
