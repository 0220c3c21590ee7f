"""Gains that a study names: the one that decides, and those that stand beside it, each with its interval."""

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from swiftlet.study.chart import COLOURS, MARKERS
from swiftlet.study.finding import Table
from swiftlet.study.trials import Gain, Trials, judge_gain

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def comparisons(gains: Mapping[str, Gain]) -> Table:
    """One row per gain, in points of accuracy. The study's verdict is the first one's."""
    return Table(
        title="Compared",
        columns=("what over what", "points", "low", "high", "above 0"),
        rows=tuple(
            (name, round(gain.mean, 2), round(gain.low, 2), round(gain.high, 2), judge_gain(gain))
            for name, gain in gains.items()
        ),
        source="points of accuracy, seed by seed, with 95 % intervals by Student's t; the first row is the verdict",
    )


def average(*figures: Sequence[float]) -> list[float]:
    """Several arms averaged seed by seed, so that seeds stay what is independent."""
    return [statistics.mean(seed) for seed in zip(*figures, strict=True)]


def gained(trials: Trials, label: str, over: str) -> list[float]:
    """By how much an arm is above another, seed by seed."""
    return [a - b for a, b in zip(trials.of(label), trials.of(over), strict=True)]


def draw_comparisons(table: Table, axes: "Axes") -> None:
    """Of a table that `comparisons` made: the deciding one in another colour, on top."""
    names = table.column("what over what")
    rows = zip(table.column("points"), table.column("low"), table.column("high"), strict=True)
    for place, (gain, low, high) in enumerate(rows):
        kind = 1 if place == 0 else 0
        spread = [[gain - low], [high - gain]]
        axes.errorbar([gain], [place], xerr=spread, fmt=MARKERS[kind], color=COLOURS[kind], capsize=3)
    axes.axvline(0, color="#888888", linewidth=1, zorder=0)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("points of accuracy, 95 % interval")
    axes.grid(axis="x", color="#dddddd", linewidth=0.5)


def draw_seeds(table: Table, label: str, x: float, axes: "Axes", colour: str) -> float:
    """One arm of a table that Trials.table made: each seed a dot over x. Returns its mean."""
    arm = table.where(arm=label)
    seeds = [float(seed) for seed in arm.column("each seed %")[0].split(", ")]
    axes.plot([x] * len(seeds), seeds, "o", color=colour, alpha=0.5, markersize=4)
    return float(arm.column("accuracy %")[0])
