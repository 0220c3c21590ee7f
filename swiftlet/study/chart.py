"""What several studies draw alike. The colours are Okabe and Ito's, which colour-blind readers can tell apart."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from swiftlet.study.finding import Table

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444", "#B8A800")
MARKERS = ("o", "D", "v", "P", "^", "s", "X", "*")


class Line(NamedTuple):
    """One value per category, None where there is none. low and high: its interval; what has none, because it was
    published or counted, is drawn hollow. Without any value the line keeps its place and colour for other panels."""

    label: str
    middle: Sequence[float | None]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


def times_line(table: Table, label: str) -> Line:
    """x time of the rows of a table that series.measure made."""
    return Line(label, table.column("x time"), table.column("low"), table.column("high"))


def speed_line(table: Table, column: str, label: str) -> Line:
    """Published speeds as times against the first."""
    speeds = table.column(column)
    return Line(label, [speeds[0] / speed for speed in speeds])


def dodged(axes: "Axes", categories: Sequence[str], lines: Sequence[Line], *, joined: bool = False) -> None:
    """Points side by side over each category, each with its interval. joined: the categories have an order."""
    step = min(0.14, 0.7 / max(1, len(lines)))
    for place, line in enumerate(lines):
        x = [i + (place - (len(lines) - 1) / 2) * step for i in range(len(categories))]
        if not line.middle:
            continue
        axes.errorbar(
            x,
            [math.nan if value is None else value for value in line.middle],
            yerr=spread(line) if line.low else None,
            color=COLOURS[place % len(COLOURS)],
            marker=MARKERS[place % len(MARKERS)],
            markerfacecolor=None if line.low else "white",
            markersize=6,
            capsize=2,
            elinewidth=1.5,
            linewidth=1,
            linestyle="none" if not joined else "-" if line.low else ":",
            label=line.label,
        )
    axes.set_xticks(range(len(categories)), categories)
    axes.set_xlim(-0.6, len(categories) - 0.4)
    axes.grid(axis="y", alpha=0.3)


def spread(line: Line) -> list[list[float]]:
    """The interval as matplotlib wants it: how far down and how far up from the middle."""
    three = [(m, low, high) for m, low, high in zip(line.middle, line.low, line.high, strict=True) if m is not None]
    return [[m - low for m, low, _ in three], [high - m for m, _, high in three]]


def legend(figure: "Figure", *axes: "Axes") -> None:
    """One legend for all axes, beside them, where it hides nothing. Equal labels are the same thing."""
    handles: dict[str, Artist] = {}
    for each in axes:
        for handle, label in zip(*each.get_legend_handles_labels(), strict=True):
            handles.setdefault(str(label), handle)
    figure.legend(list(handles.values()), list(handles), loc="outside right upper", frameon=False, fontsize="small")


def plain_log(axes: "Axes", which: Literal["x", "y"], ticks: Sequence[float] = ()) -> None:
    """A logarithmic axis whose ticks, powers of two unless given, are written as plain numbers."""
    from matplotlib.ticker import FixedLocator, LogLocator, NullLocator, StrMethodFormatter

    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(FixedLocator(ticks) if ticks else LogLocator(base=2, numticks=12))
    axis.set_major_formatter(StrMethodFormatter("{x:.4g}"))
    axis.set_minor_locator(NullLocator())
