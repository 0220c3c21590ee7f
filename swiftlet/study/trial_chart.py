"""Accuracies of the arms of a study: each seed a dot, each mean a line, and what each gains with its interval."""

from typing import TYPE_CHECKING

from swiftlet.study.chart import COLOURS
from swiftlet.study.finding import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_trials(table: Table, figure: "Figure") -> None:
    """Of a table that Trials.table made."""
    labels, shown = table.column("arm"), table.columns[2]
    over = next(name for name in table.columns if name.startswith("points over"))
    places = list(range(len(labels)))
    left, right = figure.subplots(1, 2, sharey=True)
    for place, (mean, seeds) in enumerate(zip(table.column(shown), table.column("each seed %"), strict=True)):
        dots = [float(seed) for seed in seeds.split(", ")]
        left.plot(dots, [place] * len(dots), "o", color=COLOURS[0], alpha=0.6, markersize=6)
        left.plot([mean], [place], "|", color="black", markersize=16, markeredgewidth=2)
    left.set(xlabel=f"{shown}, each seed and the mean", yticks=places, yticklabels=labels)
    left.invert_yaxis()
    for place, (gain, low, high) in enumerate(
        zip(table.column(over), table.column("low"), table.column("high"), strict=True)
    ):
        if gain is None:
            right.plot([0], [place], "D", color="black", markersize=5)
        else:
            right.errorbar([gain], [place], xerr=[[gain - low], [high - gain]], fmt="o", color=COLOURS[1], capsize=3)
    right.axvline(0, color="#888888", linewidth=1, zorder=0)
    right.set(xlabel=f"{over}, 95 % interval")
    for axes in (left, right):
        axes.grid(axis="x", color="#dddddd", linewidth=0.5)


def draw_seeds(table: Table, label: str, x: float, axes: "Axes", colour: str) -> float:
    """One arm of a table that Trials.table made: each seed a dot over x. Returns its mean."""
    arm = table.where(arm=label)
    seeds = [float(seed) for seed in arm.column("each seed %")[0].split(", ")]
    axes.plot([x] * len(seeds), seeds, "o", color=colour, alpha=0.5, markersize=4)
    return float(arm.column("accuracy %")[0])
