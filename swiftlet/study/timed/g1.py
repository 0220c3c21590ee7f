"""G1: equal channel width minimises memory access (ShuffleNet V2, section 2.1 and table 1).

Ten blocks of two 1x1 convolutions, c1 -> c2 -> c1, at one number of MACs; only the ratio c1:c2 varies.
"""

from typing import TYPE_CHECKING

from torch import nn

from swiftlet.study.bench import Bench, Case
from swiftlet.study.chart import dodged, legend, speed_line, times_line
from swiftlet.study.finding import Effect, Finding, Table, judge, ratio_text
from swiftlet.study.series import interval, measure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLOCKS = 10
PAPER = {"1:1": (128, 128), "1:2": (90, 180), "1:6": (52, 312), "1:12": (36, 432)}  # for its GPU
ALIGNED = {"1:1": (128, 128), "1:4": (64, 256), "1:16": (32, 512), "1:64": (16, 1024)}
SERIES = {"aligned widths": ALIGNED, "paper's widths": PAPER}

PUBLISHED = Table(
    title="ShuffleNet V2, table 1",
    columns=("c1:c2", "GPU channels", "GPU x1", "GPU x2", "GPU x4", "ARM channels", "ARM x1", "ARM x2", "ARM x4"),
    rows=(
        ("1:1", "128,128", 1480, 723, 232, "32,32", 76.2, 21.7, 5.3),
        ("1:2", "90,180", 1296, 586, 206, "22,44", 72.9, 20.5, 5.1),
        ("1:6", "52,312", 876, 489, 189, "13,78", 69.1, 17.9, 4.6),
        ("1:12", "36,432", 748, 392, 163, "9,108", 57.6, 15.1, 4.4),
    ),
    source="GTX 1080 Ti in batches/s, Snapdragon 810 with one thread in images/s; 56 x 56; higher is better",
)


def run(bench: Bench) -> Finding:
    """Milliseconds of each ratio, with the paper's channels and with multiples of 16; the verdict is about 1:16."""
    sides = (14,) if bench.quick else (56, 28)
    series = {
        f"{widths}, {side} x {side}": [_case(ratio, *channels, side) for ratio, channels in SERIES[widths].items()]
        for side in sides
        for widths in SERIES
    }
    source = f"{BLOCKS} blocks c1 -> c2 -> c1 of 1x1 convolutions with ReLU."
    table = measure(bench, series, title="Here", case="c1:c2", source=source)
    main = bench.runtimes[0]
    aligned, paper = list(series)[:2]
    slower = interval(table, runtime=main, series=aligned, **{"c1:c2": "1:16"})
    theirs = interval(table, runtime=main, series=paper, **{"c1:c2": "1:12"})
    return Finding(
        study="g1",
        title="G1: channels in and out, at equal MACs",
        claim="At a given number of MACs, memory access is least, and speed highest, with as many channels in as out.",
        verdict=judge(slower[1], slower[2], at_least=1.05),
        sentence=f"On {main}, 1:16 takes {ratio_text(slower)} the time of 1:1 at equal MACs, all widths multiples of "
        f"16. The paper's widths would say {ratio_text(theirs)} for 1:12.",
        effect=Effect("time", "Give a layer as many channels out as in.", *slower),
        measured=(table,),
        published=(PUBLISHED,),
        notes=(
            "The paper's widths are not of one kind: 128 is a multiple of 16, 90, 52, 312 and 36 are not, and kernels "
            "work in blocks of 8 or 16 channels (study staircase). 1:12 also has 5 % fewer MACs than 1:1. The aligned "
            "series has neither fault, so the verdict rests on it.",
            '"Holds" means that the whole interval lies above 1.05.',
        ),
    )


def draw(finding: Finding, figure: "Figure") -> None:
    """Time against 1:1: the aligned widths, and the paper's beside the published times."""
    (table,) = finding.measured
    names = list(dict.fromkeys(table.column("series")))[: len(SERIES)]
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, name, widths in zip((left, right), names, SERIES.values(), strict=True):
        here = table.where(series=name)
        lines = [times_line(here.where(runtime=runtime), runtime) for runtime in dict.fromkeys(here.column("runtime"))]
        if axes is right:
            lines += [speed_line(PUBLISHED, f"{device} x1", f"{device}, published") for device in ("GPU", "ARM")]
        dodged(axes, list(widths), lines, joined=True)
        axes.set(xlabel="c1 : c2", title=name)
        axes.axhline(1, color="#888888", linewidth=1, zorder=0)
    left.set_ylabel("time, against 1:1 at equal MACs")
    legend(figure, right)


def _case(ratio: str, c1: int, c2: int, side: int) -> Case:
    layers: list[nn.Module] = []
    for _ in range(BLOCKS):
        layers += [nn.Conv2d(c1, c2, 1), nn.ReLU(), nn.Conv2d(c2, c1, 1), nn.ReLU()]
    return Case(ratio, nn.Sequential(*layers), (c1, side, side))
