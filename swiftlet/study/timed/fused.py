"""Inverted bottleneck against fused and Tucker convolution (MobileDets, section 3): MACs and time, float and int8."""

from collections import Counter
from typing import TYPE_CHECKING, get_args

from torch import nn

from swiftlet.layers.inverted_residual import InvertedResidual
from swiftlet.study.bench import Bench, Case, Precision
from swiftlet.study.chart import Line, dodged, legend, plain_log, times_line
from swiftlet.study.finding import Cell, Effect, Finding, Table, judge, ratio_text
from swiftlet.study.series import interval, inverse, measure
from swiftlet.zoo import mobiledets
from swiftlet.zoo.mobiledets import FullConvolution, scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLOCKS = 3  # of each case in a row
SHAPES = ((16, 80), (32, 80), (64, 40), (96, 20), (160, 10))  # channels in and out, side: those of a MobileDet at 320
QUICK = ((16, 10), (32, 5))
INVERTED, FUSED, TUCKER = "inverted, e = 4", "fused, e = 4", "Tucker, 0.25 and 0.75"


def published() -> tuple[Table, ...]:
    """What the searches chose for each chip, counted from the zoo's rows, and what the authors measured."""
    rows: list[tuple[Cell, ...]] = []
    networks = {"CPU": mobiledets.CPU, "EdgeTPU": mobiledets.EDGETPU, "DSP": mobiledets.DSP, "GPU": mobiledets.GPU}
    for chip, stages in networks.items():
        blocks = Counter(block[0] for _, _, row in stages for block in row)
        rows.append((chip, *(blocks[kind] for kind in ("inverted", "fused", "tucker"))))
    chosen = Table(
        title="MobileDets: what was chosen",
        columns=("chip", "inverted", "fused", "Tucker"),
        rows=tuple(rows),
        source="Blocks of each kind in the network that was searched for that chip, the authors' code",
    )
    measured = Table(
        title="MobileDets with SSDLite, 320 x 320",
        columns=("network", "G MACs", "device", "ms", "COCO val17 mAP"),
        rows=(
            ("CPU", 0.45, "Pixel 1 CPU", 113, 23.5),
            ("EdgeTPU", 1.53, "Pixel 4 EdgeTPU, int8", 6.9, 25.2),
            ("DSP", 2.82, "Pixel 4 DSP, int8", 12.3, 28.4),
            ("GPU", 5.07, "Jetson Xavier, float32", 11.0, 27.5),
            ("GPU", 5.07, "Jetson Xavier, int8", 2.3, 27.5),
        ),
        source="The authors' configuration files; each on the chip that it was searched for",
    )
    return chosen, measured


def run(bench: Bench) -> Finding:
    """The three blocks at each shape and precision; the verdict is about the fused one at the largest side."""
    shapes = QUICK if bench.quick else SHAPES
    series = {
        f"{precision}, c={channels}, {side} x {side}": _cases(channels, side, precision)
        for precision in get_args(Precision)
        for channels, side in shapes
    }
    source = f"{BLOCKS} blocks in a row, 3x3, stride 1, as many channels out as in, with the residual sum, ReLU6."
    table = measure(bench, series, title="Here", case="block", source=source)
    main, name = bench.runtimes[0], next(iter(series))
    faster = inverse(interval(table, runtime=main, series=name, block=FUSED))
    (macs,) = table.where(runtime=main, series=name, block=FUSED).column("x MACs")
    return Finding(
        study="fused",
        title="Full convolutions in place of inverted bottlenecks",
        claim="In early layers, with few channels, a full convolution is faster than depthwise and 1x1 ones, in spite "
        "of its MACs; true of accelerators, says MobileDet, and its search for a CPU chose none.",
        verdict=judge(faster[1], faster[2], at_least=1.0),
        sentence=f"On {main}, {name}, the inverted bottleneck takes {ratio_text(faster)} the time of the fused one, "
        f"which has {macs:.2f}x its MACs. {_wins(table, main, series)}",
        effect=Effect("time", "Use full convolutions in early layers.", *faster),
        measured=(table,),
        published=published(),
        notes=(
            "This is about cost alone: at equal width a full convolution can also learn more, which the paper's search "
            "weighs and this study does not.",
            "Expansion 4 in both bottlenecks. Tucker: 1x1 to a quarter of the channels, 3x3 to three quarters, 1x1.",
            "Runtimes that compute int8 files in floats have no int8 rows.",
        ),
    )


def draw(finding: Finding, figure: "Figure") -> None:
    """Time of fused and Tucker convolution against the inverted bottleneck, and their MACs."""
    (table,) = finding.measured
    precisions = [name for name in get_args(Precision) if any(s.startswith(name) for s in table.column("series"))]
    rows = figure.subplots(2, len(precisions), sharex=True, sharey="row", squeeze=False)
    figure.set_size_inches(10, 7.5)
    for axes_of_block, block in zip(rows, (FUSED, TUCKER), strict=True):
        for axes, precision in zip(axes_of_block, precisions, strict=True):
            names = [name for name in dict.fromkeys(table.column("series")) if name.startswith(precision)]
            lines = []
            for runtime in dict.fromkeys(table.column("runtime")):
                here = _rows(table, names, runtime=runtime, block=block)
                lines.append(times_line(here, runtime))
            counted = _rows(table, names, runtime=table.column("runtime")[0], block=block)
            lines.append(Line("MACs", counted.column("x MACs")))
            dodged(axes, [name.partition(", ")[2].replace(", ", "\n") for name in names], lines)
            axes.axhline(1, color="#888888", linewidth=1, zorder=0)
            axes.set_title(f"{block}; {precision}", fontsize="medium")
        axes_of_block[0].set_ylabel("against inverted, e = 4")
        plain_log(axes_of_block[0], "y")
    legend(figure, rows[0][0])


def _rows(table: Table, series: list[str], **equal: str) -> Table:
    """The rows of these series, in their order."""
    rows = tuple(row for name in series for row in table.where(series=name, **equal).rows)
    return Table(title=table.title, columns=table.columns, rows=rows, source=table.source)


def _wins(table: Table, runtime: str, series: dict[str, list[Case]]) -> str:
    """In how many shapes the whole interval says that the fused one is faster, for each precision."""
    parts = []
    for precision in get_args(Precision):
        ran = table.where(runtime=runtime).column("series")
        names = [name for name in series if name.startswith(precision) and name in ran]
        if not names:
            continue
        highs = [interval(table, runtime=runtime, series=name, block=FUSED)[2] for name in names]
        parts.append(f"{sum(high < 1 for high in highs)} of {len(names)} shapes in {precision}")
    return f"The fused one is faster at {', '.join(parts)}."


def _cases(c: int, side: int, precision: Precision) -> list[Case]:
    def block(name: str) -> nn.Module:
        if name == INVERTED:
            return InvertedResidual(c, 4 * c, c)
        first, middle = (None, 4 * c) if name == FUSED else (scale(c * 0.25), scale(c * 0.75))
        return FullConvolution(c, first, middle, c, 3, 1, True)

    return [
        Case(name, nn.Sequential(*(block(name) for _ in range(BLOCKS))), (c, side, side), precision)
        for name in (INVERTED, FUSED, TUCKER)
    ]
