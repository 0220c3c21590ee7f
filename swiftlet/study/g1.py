"""G1: equal channel width minimises memory access (ShuffleNet V2, section 2.1 and table 1).

Ten blocks of two 1x1 convolutions, c1 -> c2 -> c1, at one number of MACs; only the ratio c1:c2 varies.
"""

from typing import TYPE_CHECKING

from torch import nn

from swiftlet.study.bench import Bench, Case, Timing, counted, ratio
from swiftlet.study.finding import Finding, Table, judge, ratio_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLOCKS = 10
WIDTHS = {"1:1": (128, 128), "1:2": (90, 180), "1:6": (52, 312), "1:12": (36, 432)}  # the paper's, for its GPU
SCALES = (0.5, 1.0)  # of the channels
SIDE = 56

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
    """Milliseconds of each ratio; the verdict compares 1:12 with 1:1."""
    cases = {(scale, name): _case(name, scale, 28 if bench.quick else SIDE) for scale in SCALES for name in WIDTHS}
    times = bench.times(list(cases.values()))
    rows = []
    for (scale, name), case in cases.items():
        cost = counted(case).cost
        for runtime in bench.runtimes:
            measured = times[Timing(case.label, runtime)]
            slower = ratio(times, Timing(case.label, runtime), Timing(cases[scale, "1:1"].label, runtime))
            megabytes = (cost.memory_access_bytes or 0) / 1e6
            rows.append((runtime, scale, name, cost.macs, megabytes, measured.p50_ms, *slower))
    main = bench.runtimes[0]
    whole = ratio(times, Timing(cases[1.0, "1:12"].label, main), Timing(cases[1.0, "1:1"].label, main))
    return Finding(
        study="g1",
        title="G1: unequal channel widths cost time at equal MACs",
        claim="At a given number of MACs, memory access is least, and speed highest, with as many channels in as out.",
        verdict=judge(whole[1], whole[2], at_least=1.05),
        sentence=f"On {main}, 1:12 takes {ratio_text(whole)} the time of 1:1 at equal MACs.",
        measured=(
            Table(
                title="Here",
                columns=("runtime", "scale", "c1:c2", "MACs", "MB moved", "ms", "against 1:1", "low", "high"),
                rows=tuple(rows),
                source=f"{BLOCKS} blocks, {bench.threads} thread, batch {bench.batch}; 95 % intervals",
            ),
        ),
        published=(PUBLISHED,),
    )


def draw(finding: Finding, figure: "Figure") -> None:
    """Slow-down against 1:1 for each runtime, and the published ones."""
    (table,) = finding.measured
    axes = figure.subplots()
    for runtime in dict.fromkeys(table.column("runtime")):
        here = table.where(runtime=runtime, scale=1.0)
        middle, low, high = (here.column(name) for name in ("against 1:1", "low", "high"))
        spread = [[m - a for m, a in zip(middle, low, strict=True)], [b - m for m, b in zip(middle, high, strict=True)]]
        axes.errorbar(here.column("c1:c2"), middle, yerr=spread, marker="o", capsize=3, label=f"{runtime}, here")
    for device in ("GPU", "ARM"):
        speeds = PUBLISHED.column(f"{device} x1")
        slower = [speeds[0] / speed for speed in speeds]
        axes.plot(PUBLISHED.column("c1:c2"), slower, linestyle="--", marker="s", label=f"{device}, published")
    axes.set(xlabel="channels in : channels inside, at equal MACs", ylabel="time against 1:1")
    axes.legend()


def _case(name: str, scale: float, side: int) -> Case:
    c1, c2 = (int(channels * scale) for channels in WIDTHS[name])
    layers: list[nn.Module] = []
    for _ in range(BLOCKS):
        layers += [nn.Conv2d(c1, c2, 1), nn.ReLU(), nn.Conv2d(c2, c1, 1), nn.ReLU()]
    return Case(f"{name} x{scale:g}", nn.Sequential(*layers), (c1, side, side))
