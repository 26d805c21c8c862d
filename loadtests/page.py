"""A page that stands by itself: verdict first, then figures, tables, plots, and where and how it was measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from loadtests.plots import Bars, Plot, svg

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under a head. A cell `met` or `missed` is coloured."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """What the page says, in the order in which it says it. `passed` None: nothing was judged."""

    title: str
    subtitle: str
    passed: bool | None
    verdict: str
    reasons: Sequence[str] = ()
    warnings: Sequence[str] = ()
    tiles: Sequence[tuple[str, str]] = ()
    tables: Sequence[Table] = ()
    plots: Sequence[Plot | Bars] = ()
    facts: Mapping[str, str] = field(default_factory=dict)

    def html(self) -> str:
        """One file: no script, nothing is loaded from anywhere. Plots without data are left out."""
        drawings = [(plot, Markup(svg(plot))) for plot in self.plots if not plot.empty]
        return _TEMPLATES.get_template("page.html").render(page=self, drawings=drawings)

    def write(self, folder: Path, name: str, content: Mapping[str, Any]) -> Path:
        """Write it as NAME.html, and `content`, the same as plain values, as NAME.json beside it; returns the page's
        path. Raises OSError."""
        (folder / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        page = folder / f"{name}.html"
        page.write_text(self.html(), encoding="utf-8")
        return page


def number(value: float | None, unit: str = "", digits: int = 0) -> str:
    """A figure for people: `1,234 ms`; a dash where there is none."""
    return "-" if value is None else f"{value:,.{digits}f}{unit}"


def milliseconds(value: float | None) -> str:
    """A latency for people: three digits that matter, seconds from ten thousand milliseconds on."""
    if value is None:
        return "-"
    if value >= 10_000:
        return f"{value / 1000:,.1f} s"
    return f"{value:,.0f} ms" if value >= 100 else f"{value:,.1f} ms"
