"""G3: network fragmentation reduces parallelism (ShuffleNet V2, section 2.3 and table 3).

Ten blocks of one, two or four 1x1 convolutions ("fragments"), one after the other or side by side, at one number of
MACs. The paper's block structures are in a figure only; these are ours. In series: every convolution keeps its width,
channels / sqrt(n). In parallel: n convolutions of all channels to channels / n each, concatenated.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from swiftlet.study.bench import Bench, Case
from swiftlet.study.chart import dodged, legend, speed_line, times_line
from swiftlet.study.finding import Effect, Finding, Table, judge, ratio_text
from swiftlet.study.series import interval, measure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLOCKS = 10
# channels of the undivided block -> width of two and four in series
ALIGNED = (384, {2: 272, 4: 192})  # all multiples of 16, also divided by 2 and 4; 2 * 17^2 ~ 24^2, within 0.4 %
PAPER = (128, {2: 90, 4: 64})
SERIES = {"aligned widths": ALIGNED, "paper's widths": PAPER}
SIDES = {"aligned widths": (28, 14), "paper's widths": (56, 28)}

PUBLISHED = Table(
    title="ShuffleNet V2, table 3",
    columns=("fragments", "GPU c=128", "GPU c=256", "GPU c=512", "ARM c=64", "ARM c=128", "ARM c=256"),
    rows=(
        ("1", 2446, 1274, 434, 40.2, 10.1, 2.3),
        ("2 series", 1790, 909, 336, 38.6, 10.1, 2.2),
        ("4 series", 752, 745, 349, 38.4, 10.1, 2.3),
        ("2 parallel", 1537, 803, 320, 33.4, 9.1, 2.2),
        ("4 parallel", 691, 572, 292, 35.0, 8.4, 2.1),
    ),
    source="GTX 1080 Ti in batches/s, Snapdragon 810 with one thread in images/s; 56 x 56; higher is better",
)


def run(bench: Bench) -> Finding:
    """Milliseconds of each structure; the verdict is about four fragments in parallel, in aligned widths."""
    series = {
        f"{widths}, {side} x {side}": _cases(*SERIES[widths], side)
        for place in range(1 if bench.quick else 2)
        for widths in SERIES
        for side in ((7,) if bench.quick else SIDES[widths][place : place + 1])
    }
    source = f"{BLOCKS} blocks of 1x1 convolutions with ReLU."
    table = measure(bench, series, title="Here", case="fragments", source=source)
    main, name = bench.runtimes[0], next(iter(series))
    slower = interval(table, runtime=main, series=name, fragments="4 parallel")
    series4 = interval(table, runtime=main, series=name, fragments="4 series")
    return Finding(
        study="g3",
        title="G3: fragments, at equal MACs",
        claim="At a given number of MACs, many small convolutions, above all side by side, are slower than one.",
        verdict=judge(slower[1], slower[2], at_least=1.05),
        sentence=f"On {main}, four fragments in parallel take {ratio_text(slower)} the time of one at equal MACs; four "
        f"in series {ratio_text(series4)}.",
        effect=Effect("time", "Use one convolution rather than several small ones side by side.", *slower),
        measured=(table,),
        published=(PUBLISHED,),
        notes=(
            "The paper loses most on its GPU, where each small kernel leaves cores idle, and little on ARM. One thread "
            "has no cores to leave idle: what remains here is the cost of a call, of reading the same input again and "
            "of the concatenation. Try --threads.",
            "In series the blocks are narrower, so they read and write more, as G1 and the column of MB say.",
            "The paper's 128 channels become 90 in series, which is no multiple of 8 or 16; the aligned widths are "
            "multiples of 16 throughout and their MACs agree within 0.4 %, so the verdict rests on them.",
            '"Holds" means that the whole interval lies above 1.05.',
        ),
    )


def draw(finding: Finding, figure: "Figure") -> None:
    """Time against one fragment: the aligned widths, and the paper's beside the published times."""
    (table,) = finding.measured
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, name in zip((left, right), dict.fromkeys(table.column("series")), strict=False):
        here = table.where(series=name)
        lines = [times_line(here.where(runtime=runtime), runtime) for runtime in dict.fromkeys(here.column("runtime"))]
        if axes is right:
            published = (("GPU, published", "GPU c=128"), ("ARM, published", "ARM c=64"))
            lines += [speed_line(PUBLISHED, column, label) for label, column in published]
        dodged(axes, [name.replace(" ", "\n") for name in PUBLISHED.column("fragments")], lines)
        axes.set(xlabel="fragments of a block", title=name)
        axes.axhline(1, color="#888888", linewidth=1, zorder=0)
    left.set_ylabel("time, against 1 fragment at equal MACs")
    legend(figure, right)


class Parallel(nn.Module):
    """(B, C, H, W) -> (B, C, H, W): `branches` 1x1 convolutions of all of the input, concatenated."""

    def __init__(self, channels: int, branches: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, channels // branches, 1), nn.ReLU()) for _ in range(branches)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


def _cases(channels: int, narrow: dict[int, int], side: int) -> list[Case]:
    def chain(width: int, length: int) -> nn.Sequential:
        return nn.Sequential(*(layer for _ in range(length) for layer in (nn.Conv2d(width, width, 1), nn.ReLU())))

    cases = [Case("1", chain(channels, BLOCKS), (channels, side, side))]
    cases += [Case(f"{n} series", chain(width, n * BLOCKS), (width, side, side)) for n, width in narrow.items()]
    for n in narrow:
        blocks = nn.Sequential(*(Parallel(channels, n) for _ in range(BLOCKS)))
        cases.append(Case(f"{n} parallel", blocks, (channels, side, side)))
    return cases
