"""Sizes and shapes of kernels: 3x3, 5x5, 7x7, what is put in their place, dense and depthwise.

Two or three 3x3 in series see as far as one 5x5 or 7x7 (VGG, section 2.3), as do 1xN and Nx1 (Inception V3, section 3);
depthwise, a larger kernel is cheap (MobileNet V3 has 5x5).
"""

from typing import TYPE_CHECKING

from torch import nn

from swiftlet.study.bench import Bench, Case
from swiftlet.study.chart import Line, dodged, legend, plain_log, times_line
from swiftlet.study.finding import Effect, Finding, Table, judge, ratio_text
from swiftlet.study.series import interval, inverse, measure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REPEATS = 4  # of each case in a row
Kernel = tuple[int, int]
# a series -> its cases, the first of which the others are compared with: label -> kernels in a row
SERIES: dict[str, dict[str, tuple[Kernel, ...]]] = {
    "size": {"3x3": ((3, 3),), "5x5": ((5, 5),), "7x7": ((7, 7),), "1x3, 3x1": ((1, 3), (3, 1))},
    "in place of 5x5": {"5x5": ((5, 5),), "3x3 twice": ((3, 3),) * 2, "1x5, 5x1": ((1, 5), (5, 1))},
    "in place of 7x7": {"7x7": ((7, 7),), "3x3 three times": ((3, 3),) * 3, "1x7, 7x1": ((1, 7), (7, 1))},
}

PUBLISHED = Table(
    title="MACs against the larger kernel, at equal widths",
    columns=("in place of", "by", "x MACs", "source"),
    rows=(
        ("5x5", "3x3 twice", 18 / 25, "Inception V3, section 3.1"),
        ("7x7", "3x3 three times", 27 / 49, "VGG, section 2.3"),
        ("3x3", "1x3, 3x1", 6 / 9, "Inception V3, section 3.2"),
    ),
    source="Arithmetic; these papers print no times.",
)


def run(bench: Bench) -> Finding:
    """Each kernel against what stands in its place; the verdict is about dense 5x5 and two 3x3."""
    channels, side = (16, 14) if bench.quick else (64, 28)
    series = {
        f"{kind}, {name}": [_case(label, kernels, channels, side, groups) for label, kernels in cases.items()]
        for kind, groups in (("dense", 1), ("depthwise", channels))
        for name, cases in SERIES.items()
    }
    source = (
        f"{channels} channels in and out, {side} x {side}, stride 1, {REPEATS} times in a row, ReLU after each layer."
    )
    table = measure(bench, series, title="Here", case="kernel", source=source)
    main = bench.runtimes[0]
    dense, depthwise = (
        inverse(interval(table, runtime=main, series=f"{kind}, in place of 5x5", kernel="3x3 twice"))
        for kind in ("dense", "depthwise")
    )
    larger = interval(table, runtime=main, series="depthwise, size", kernel="5x5")
    return Finding(
        study="kernels",
        title="Kernels: several small ones in place of a large one",
        claim="Two 3x3 convolutions see as far as one 5x5 with 28 % fewer MACs, so they are faster.",
        verdict=judge(dense[1], dense[2], at_least=1.0),
        sentence=f"On {main}, dense, a 5x5 takes {ratio_text(dense)} the time of two 3x3, and depthwise "
        f"{ratio_text(depthwise)}. A depthwise 5x5 takes {ratio_text(larger)} the time of a depthwise 3x3.",
        effect=Effect("time", "Put two 3x3 convolutions in place of a 5x5.", *dense),
        measured=(table,),
        published=(PUBLISHED,),
        notes=(
            "Layers in series also have a ReLU between them, and write and read their result once more; with few "
            "channels, or depthwise, that can cost more than the MACs that they save.",
            "1xN and Nx1: some runtimes have fast kernels for square shapes only.",
        ),
    )


def draw(finding: Finding, figure: "Figure") -> None:
    """Times and MACs of what stands in place of larger kernels, dense and depthwise, on one scale."""
    (table,) = finding.measured
    figure.set_size_inches(10, 7.5)
    rows = figure.subplots(2, 3, sharey=True, width_ratios=(4, 3, 3))
    for axes, kind in zip(rows, ("dense", "depthwise"), strict=True):
        for each, name in zip(axes, SERIES, strict=True):
            _panel(each, table.where(series=f"{kind}, {name}"), f"{kind}, {name}")
        axes[0].set_ylabel("against the first")
        plain_log(axes[0], "y")
    legend(figure, rows[0][0])


def _panel(axes: "Axes", here: Table, title: str) -> None:
    lines = [times_line(here.where(runtime=runtime), runtime) for runtime in dict.fromkeys(here.column("runtime"))]
    first = here.where(runtime=here.rows[0][0])
    lines.append(Line("MACs", first.column("x MACs")))
    dodged(axes, [label.replace(", ", ",\n").replace(" ", "\n", 1) for label in first.column("kernel")], lines)
    axes.axhline(1, color="#888888", linewidth=1, zorder=0)
    axes.set_title(title, fontsize="medium")


def _case(label: str, kernels: tuple[Kernel, ...], channels: int, side: int, groups: int) -> Case:
    layers: list[nn.Module] = []
    for _ in range(REPEATS):
        for height, width in kernels:
            padding = (height // 2, width // 2)
            layers += [nn.Conv2d(channels, channels, (height, width), padding=padding, groups=groups), nn.ReLU()]
    return Case(label, nn.Sequential(*layers), (channels, side, side))
