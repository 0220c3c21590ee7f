"""G2: excessive group convolution increases memory access (ShuffleNet V2, section 2.2 and table 2).

Ten 1x1 group convolutions at one number of MACs: more groups, so more channels.
"""

from typing import TYPE_CHECKING

from torch import nn

from swiftlet.study.bench import Bench, Case
from swiftlet.study.chart import dodged, legend, speed_line, times_line
from swiftlet.study.finding import Effect, Finding, Table, judge, ratio_text
from swiftlet.study.series import interval, measure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LAYERS = 10
# groups -> channels, which grow with the square root of the groups
PAPER = {1: 128, 2: 180, 4: 256, 8: 360}  # for its GPU
ALIGNED = {
    1: 544,
    2: 768,
    4: 1088,
    8: 1536,
}  # the smallest multiples of 16 whose MACs agree within 1 %: 17^2 ~ 2 * 12^2
SERIES = {"aligned widths": ALIGNED, "paper's widths": PAPER}
SIDES = {"aligned widths": (28, 14), "paper's widths": (56, 28)}

PUBLISHED = Table(
    title="ShuffleNet V2, table 2",
    columns=("groups", "GPU channels", "GPU x1", "GPU x2", "GPU x4", "ARM channels", "ARM x1", "ARM x2", "ARM x4"),
    rows=(
        (1, 128, 2451, 1289, 437, 64, 40.0, 10.2, 2.3),
        (2, 180, 1725, 873, 341, 90, 35.0, 9.5, 2.2),
        (4, 256, 1026, 644, 338, 128, 32.9, 8.7, 2.1),
        (8, 360, 634, 445, 230, 180, 27.8, 7.5, 1.8),
    ),
    source="GTX 1080 Ti in batches/s, Snapdragon 810 with one thread in images/s; 56 x 56; higher is better",
)


def run(bench: Bench) -> Finding:
    """Milliseconds of each number of groups; the verdict is about 8 groups of aligned widths."""
    series = {
        f"{widths}, {side} x {side}": [_case(groups, channels, side) for groups, channels in SERIES[widths].items()]
        for place in range(1 if bench.quick else 2)
        for widths in SERIES
        for side in ((7,) if bench.quick else SIDES[widths][place : place + 1])
    }
    source = f"{LAYERS} 1x1 group convolutions with ReLU."
    table = measure(bench, series, title="Here", case="groups", source=source)
    main = bench.runtimes[0]
    aligned, paper = list(series)[:2]
    slower, theirs = (interval(table, runtime=main, series=name, groups="8") for name in (aligned, paper))
    return Finding(
        study="g2",
        title="G2: groups, at equal MACs",
        claim="At a given number of MACs, more groups mean more memory access and less speed.",
        verdict=judge(slower[1], slower[2], at_least=1.05),
        sentence=f"On {main}, 8 groups take {ratio_text(slower)} the time of 1 at equal MACs, in widths of 16 channels "
        f"and more per group. The paper's widths would say {ratio_text(theirs)}.",
        effect=Effect("time", "Use few groups in 1x1 convolutions.", *slower),
        measured=(table,),
        published=(PUBLISHED,),
        notes=(
            "The paper's 180 and 360 channels are 90 and 45 per group, no multiples of 8 or 16, in whose blocks "
            "kernels work (study staircase). The aligned series has 544, 384, 272 and 192 channels per group, all "
            "multiples of 16, and MACs within 0.4 %, so the verdict rests on it. It is wider than the paper's.",
            '"Holds" means that the whole interval lies above 1.05.',
        ),
    )


def draw(finding: Finding, figure: "Figure") -> None:
    """Time against one group: the aligned widths, and the paper's beside the published times."""
    (table,) = finding.measured
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, name, widths in zip((left, right), dict.fromkeys(table.column("series")), SERIES.values(), strict=False):
        here = table.where(series=name)
        lines = [times_line(here.where(runtime=runtime), runtime) for runtime in dict.fromkeys(here.column("runtime"))]
        if axes is right:
            lines += [speed_line(PUBLISHED, f"{device} x1", f"{device}, published") for device in ("GPU", "ARM")]
        dodged(axes, [f"{groups}\n({channels})" for groups, channels in widths.items()], lines, joined=True)
        axes.set(xlabel="groups\n(channels)", title=name)
        axes.axhline(1, color="#888888", linewidth=1, zorder=0)
    left.set_ylabel("time, against 1 group at equal MACs")
    legend(figure, right)


def _case(groups: int, channels: int, side: int) -> Case:
    layers: list[nn.Module] = []
    for _ in range(LAYERS):
        layers += [nn.Conv2d(channels, channels, 1, groups=groups), nn.ReLU()]
    return Case(str(groups), nn.Sequential(*layers), (channels, side, side))
