"""Plots as SVG for a page: text and lines in the page's own colour, so that they are read in light and dark."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike

# Okabe and Ito's colours, told apart by the colour-blind too; those that vanish on white or on black are left out.
COLOURS = ("#0284c7", "#e07b00", "#0f9d75", "#c2579b", "#d1495b", "#7c6fd6", "#8a8f98", "#a3874b", "#3aa6a6", "#b0609f")
LIMIT_COLOUR = "#d1495b"
WIDTH_IN, HEIGHT_IN = 7.6, 2.7
_INK = "#010203"  # a colour nobody uses: replaced by the page's
_STYLE: dict[Any, Any] = {  # mpl knows each name by itself
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "grid.color": _INK,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.6,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
}


@dataclass(frozen=True, slots=True)
class Curve:
    """One named line. NaN leaves a gap."""

    name: str
    x: ArrayLike
    y: ArrayLike


@dataclass(frozen=True, slots=True)
class Plot:
    """What is drawn, as plain data. `limit` is a dashed line with its name; `stacked` sums the curves up."""

    title: str
    x_label: str
    y_label: str
    curves: Sequence[Curve]
    limit: tuple[float, str] | None = None
    stacked: bool = False
    markers: bool = False
    note: str = ""
    shades: Sequence[tuple[float, float, str]] = ()  # from, to, name
    x_max: float | None = None  # so that plots of one run stand one above the other

    @property
    def empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not any(np.isfinite(np.asarray(curve.y, dtype=float)).any() for curve in self.curves)


@dataclass(frozen=True, slots=True)
class Bars:
    """Groups of bars: for each label one bar of every series."""

    title: str
    y_label: str
    labels: Sequence[str]
    series: Mapping[str, Sequence[float | None]]
    note: str = ""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not any(value is not None for values in self.series.values() for value in values)


def svg(plot: Plot | Bars) -> str:
    """The drawing as an `<svg>` element without size, which fills the width it is given."""
    with mpl.rc_context({**_STYLE, "svg.hashsalt": plot.title}):
        figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), layout="constrained")
        axes = figure.add_subplot()
        if isinstance(plot, Bars):
            _bars(axes, plot)
        else:
            _curves(axes, plot)
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _into_page(out.getvalue(), plot.title)


def _curves(axes: mpl.axes.Axes, plot: Plot) -> None:
    for start, stop, name in plot.shades:
        axes.axvspan(start, stop, color=_INK, alpha=0.06, linewidth=0)
        axes.annotate(name, (start, 1), xycoords=("data", "axes fraction"), xytext=(2, -9), textcoords="offset points")
    if plot.stacked and plot.curves:
        x = np.asarray(plot.curves[0].x, dtype=float)
        heights = [np.nan_to_num(np.asarray(curve.y, dtype=float)) for curve in plot.curves]
        axes.stackplot(
            x, *heights, labels=[curve.name for curve in plot.curves], colors=COLOURS, alpha=0.85, linewidth=0
        )
    else:
        for curve, colour in zip(plot.curves, _colours(len(plot.curves)), strict=True):
            style: dict[str, Any] = {"marker": "o", "markersize": 4} if plot.markers else {}
            axes.plot(curve.x, curve.y, label=curve.name, color=colour, linewidth=1.5, **style)
    if plot.limit is not None:
        value, name = plot.limit
        axes.axhline(value, color=LIMIT_COLOUR, linestyle=(0, (4, 3)), linewidth=1.2, label=name)
    axes.set_xlabel(plot.x_label)
    axes.set_ylabel(plot.y_label)
    axes.set_ylim(bottom=0)
    axes.margins(x=0.01)
    if plot.x_max is not None:
        axes.set_xlim(0, plot.x_max)
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    _finish(axes)


def _bars(axes: mpl.axes.Axes, plot: Bars) -> None:
    places = np.arange(len(plot.labels), dtype=float)
    width = 0.8 / max(len(plot.series), 1)
    for number, (name, values) in enumerate(plot.series.items()):
        heights = [math.nan if value is None else value for value in values]
        at = places + (number - (len(plot.series) - 1) / 2) * width
        drawn = axes.bar(at, heights, width * 0.92, label=name, color=COLOURS[number % len(COLOURS)])
        axes.bar_label(drawn, fmt=lambda value: "" if math.isnan(value) else f"{value:,.0f}", fontsize=7.5, padding=1)
    axes.set_xticks(places, plot.labels)
    axes.set_ylabel(plot.y_label)
    axes.grid(axis="x", visible=False)
    axes.set_axisbelow(True)
    _finish(axes)


def _finish(axes: mpl.axes.Axes) -> None:
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > 1:
        axes.legend(
            *(handles, labels),
            loc="lower left",
            bbox_to_anchor=(-0.02, 1.0),
            ncols=6,
            borderaxespad=0.2,
            handlelength=1.2,
            columnspacing=1.2,
            fontsize=8,
        )


def _colours(count: int) -> list[str]:
    return [COLOURS[number % len(COLOURS)] for number in range(count)]


def _into_page(drawing: str, title: str) -> str:
    """The element alone, in the page's colour and font, and of any width; its ids are this drawing's alone."""
    element = drawing[drawing.index("<svg") :]
    element = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", element, count=1)
    element = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", element, count=1)
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    prefix = re.sub(r"\W+", "-", title.lower()).strip("-")
    element = re.sub(r'\bid="', f'id="{prefix}-', element)
    element = element.replace("url(#", f"url(#{prefix}-").replace('href="#', f'href="#{prefix}-')
    element = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", element)
    return element.replace("<svg", f'<svg role="img" aria-label="{title}"', 1).replace(_INK, "currentColor")
