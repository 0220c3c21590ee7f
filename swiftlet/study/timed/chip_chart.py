"""The figure of the study of accelerators."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from swiftlet.study.finding import Finding, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ARRAY, DSP = "array 64 x 64 (model)", "DSP 128 (model)"  # as the tables call them
COLOURS = ("#0072B2", "#009E73", "#D55E00", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "D", "s", "^", "v", "P")


def draw(finding: Finding, figure: "Figure") -> None:
    """Networks, kinds of layers, single decisions."""
    networks, kinds, changes, *_ = finding.measured
    figure.set_size_inches(15, 1.8 + 0.27 * max(len(networks.rows), 16))
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.1))
    names = list(reversed(dict.fromkeys(changes.column("change"))))
    devices = [device for device in dict.fromkeys(changes.column("on")) if device != "MACs"]
    here = devices[2]  # the first runtime, in float32
    order = sorted(networks.rows, key=lambda row: row[2])  # type: ignore[arg-type,return-value]
    _dots(
        left,
        [str(row[0]) for row in order],
        {ARRAY: [row[2] for row in order], DSP: [row[6] for row in order], here: [row[7] for row in order]},
    )
    shown = list(reversed(kinds.rows))
    _dots(
        middle,
        [f"{row[0]} ({row[1]:.2g} % of MACs)" for row in shown],
        {ARRAY: [row[3] for row in shown], DSP: [row[4] for row in shown], here: [row[5] for row in shown]},
    )
    for axes, title in ((left, "networks"), (middle, "kinds of layers, all networks")):
        axes.set_xscale("log")
        axes.set_xticks((1, 3, 10, 30, 100), ("1", "3", "10", "30", "100"))
        axes.minorticks_off()
        axes.set(xlabel="utilisation, % of what the unit can do", title=title)
    _dots(right, names, {device: [_x_time(changes, name, device) for name in names] for device in devices})
    right.plot([_x_time(changes, name, "MACs") for name in names], range(len(names)), "k|", markersize=16, label="MACs")
    right.axvline(1, color="black", linewidth=0.6)
    right.set_xscale("log")
    ticks = (0.1, 0.2, 0.5, 1, 2, 5, 10)
    right.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    right.minorticks_off()
    right.set(xlabel="time against the block without the change", title="single decisions")
    handles, labels = right.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)


def _x_time(changes: Table, change: str, device: str) -> Any:
    ((_, _, middle, low, high),) = changes.where(change=change, on=device).rows
    return middle if low is None else (middle, low, high)


def _dots(axes: "Axes", names: Sequence[str], series: dict[str, list[Any]]) -> None:
    """One row per name, its devices below each other. A value is a number, (middle, low, high), or None."""
    step = min(0.16, 0.8 / len(series))
    for place, (label, values) in enumerate(series.items()):
        shift = ((len(series) - 1) / 2 - place) * step
        triples = [
            (i + shift, *(value if isinstance(value, tuple) else (value, value, value)))
            for i, value in enumerate(values)
            if value is not None
        ]
        y, middle, low, high = (list(column) for column in zip(*triples, strict=True))
        axes.hlines(y, low, high, color=COLOURS[place % 6], linewidth=1.5)
        axes.plot(middle, y, MARKERS[place % 6], color=COLOURS[place % 6], label=label, markersize=6)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.grid(alpha=0.3)
