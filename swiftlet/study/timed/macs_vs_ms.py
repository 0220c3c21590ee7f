"""The whole zoo in one scatter: do multiply-adds, or the bytes moved, give the time? (ShuffleNet V2, figure 1)"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from swiftlet.budget import Cost
from swiftlet.catalogue import Row, build_row, catalogue, described
from swiftlet.study.bench import Bench, Case, Timing, counted
from swiftlet.study.chunks import Make, race_in_chunks
from swiftlet.study.finding import Effect, Finding, Table, judge
from swiftlet.study.timed.labels import label_points
from swiftlet.study.timed.pixel import PIXEL
from swiftlet.study.timed.ranks import Interval, predictors, spearman, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REFERENCE = "mobilenet_v2"
SMALLEST = 10_000_000  # MACs: below, a network's time is that of calling it
WIDE = 1.5  # a spread at equal MACs that decides between networks
QUICK = (
    "mobilenet_v1", "mobilenet_v2", "efficientnet_lite0", "mobilenet_v4_conv_small", "mobileone_s0", "resnet18",
    "squeezenet1_1", "resnet20",
)  # fmt: skip
NAMES = {
    "alexnet": "AlexNet", "ghostnet": "GhostNet", "googlenet": "GoogLeNet", "inception_v3": "Inception V3",
    "lcnet": "PP-LCNet", "lenet5": "LeNet-5", "mnasnet_a1": "MnasNet A1", "mobiledet_cpu": "MobileDet CPU",
    "mobiledet_gpu": "MobileDet GPU", "mobilenet_v1": "MobileNet V1", "mobilenet_v2": "MobileNet V2",
    "mobilenet_v3_large": "MobileNet V3 L", "mobilenet_v3_small": "MobileNet V3 S", "mobileone_s0": "MobileOne S0",
    "resnet18": "ResNet-18", "resnet20": "ResNet-20", "resnet50": "ResNet-50", "resnext50_32x4d": "ResNeXt-50",
    "shufflenet_v1": "ShuffleNet V1", "shufflenet_v2": "ShuffleNet V2", "squeezenet1_0": "SqueezeNet 1.0",
    "squeezenet1_1": "SqueezeNet 1.1", "vgg16": "VGG-16", "xception": "Xception",
}  # fmt: skip


def run(bench: Bench) -> Finding:
    """Every variant of the catalogue at its own side on every runtime; the verdict is about the first one."""
    listed = [catalogue(name)[0] for name in QUICK] if bench.quick else catalogue()
    costs: dict[str, Cost] = {}

    def maker(row: Row) -> Make:
        def make() -> Case:
            case = Case(label(row), build_row(row), (3, row.side, row.side))
            costs[case.label] = counted(case).cost
            return case

        return make

    reference = maker(next(row for row in listed if row.network == REFERENCE))()
    times = race_in_chunks(bench, [maker(row) for row in listed], reference, what="the zoo")
    rows: list[tuple[Any, ...]] = []
    for runtime in bench.runtimes:
        for row in listed:
            cost, time = costs[label(row)], times[Timing(label(row), runtime)]
            macs, moved = cost.macs or 0, (cost.memory_access_bytes or 0) / 1e6
            rows.append(
                (runtime, row.network, described(row.arguments), row.side, macs, moved, time.ms, 1e9 * time.ms / macs)
            )
    points = Table(
        title="The zoo",
        columns=("runtime", "network", "arguments", "side", "MACs", "MB moved", "ms", "ms per 10^9 MACs"),
        rows=tuple(rows),
        source=f"{bench.place()}, float32, BatchNorm folded; MB moved: what each operation reads and writes",
    )
    summary, sentences = [], []
    for runtime in bench.runtimes:
        here = points.where(runtime=runtime)
        both = predictors(here.column("MACs"), here.column("MB moved"), here.column("ms"), bench.seed)
        wide = spread(here.column("MACs"), here.column("ms"), bench.seed)
        for name, value in (
            ("rank correlation of MACs with ms", both.first),
            ("rank correlation of bytes moved with ms", both.second),
            ("of MACs with ms at equal bytes", both.first_given_second),
            ("of bytes with ms at equal MACs", both.second_given_first),
            ("MACs minus bytes", both.difference),
            ("x time between slow and fast at equal MACs", wide),
        ):
            summary.append((runtime, name, *value))
        sentences.append((both.first, wide, _better(both.difference)))
    correlation, wide, better = sentences[0]
    best, worst = extremes(points.where(runtime=bench.runtimes[0]))
    matched = _matched(points, bench.runtimes[0])
    notes = [
        f"Slow and fast: the 90th and 10th percentile of time around a power law of MACs. Extremes are among networks "
        f"of {SMALLEST / 1e6:.0f} million MACs or more.",
        "Variants of one network resemble each other, so that the intervals, which draw variants independently, are "
        "somewhat narrow; the zoo is not a random sample of networks either.",
        f"They run in races of 12, drawn by lot, each with {REFERENCE}, to which all times are linked.",
    ]
    if len(matched.rows) >= 5:
        ours = spearman(matched.column("ms"), matched.column("ms, Pixel 1"), bench.seed)
        notes.append(
            f"Of {len(matched.rows)} networks that were timed on the Pixel 1 too, the order by time there and here has "
            f"rank correlation {_text(ours)}."
        )
    return Finding(
        study="macs-vs-ms",
        title="Multiply-adds against milliseconds, the whole zoo",
        claim="MACs do not give the time: networks with equal MACs differ in speed.",
        verdict=judge(wide[1], wide[2], at_least=WIDE),
        sentence=f"On {bench.runtimes[0]}, MACs order the zoo with rank correlation {_text(correlation)}, but at equal "
        f"MACs slow networks take {_text(wide)} times as long as fast ones; {better}; fastest per MAC is {best}, "
        f"slowest {worst}.",
        effect=Effect("time", "Choose among networks of equal MACs by their measured time.", *wide),
        measured=(
            Table(
                title="What orders the zoo",
                columns=("runtime", "what", "value", "low", "high"),
                rows=tuple(summary),
                source=f"{len(listed)} networks; Spearman, 95 % bootstrap intervals over networks",
            ),
            points,
            matched,
        ),
        published=(PIXEL, _their_order(bench.seed)),
        notes=tuple(notes),
    )


def label(row: Row) -> str:
    return f"{row.network} {described(row.arguments)} at {row.side}"


def extremes(points: Table) -> tuple[str, str]:
    """The network with the fewest and the one with the most milliseconds per MAC."""
    named = [
        (row[7], f"{row[1]} {row[2]}".strip() + f" ({row[7]:.3g} ms per 10^9)")
        for row in points.rows
        if row[4] >= SMALLEST  # type: ignore[operator]
    ]
    return min(named)[1], max(named)[1]


def _better(difference: Interval) -> str:
    if difference[1] > 0:
        return "MACs order better than bytes moved"
    if difference[2] < 0:
        return "bytes moved order better than MACs"
    return "whether MACs or bytes moved order better cannot be told"


def _matched(points: Table, runtime: str) -> Table:
    theirs = {row[:3]: row for row in PIXEL.rows}
    rows = tuple(
        (*row[1:5], row[6], theirs[row[1:4]][4]) for row in points.where(runtime=runtime).rows if row[1:4] in theirs
    )
    return Table(
        title="Here and on a phone",
        columns=("network", "arguments", "side", "MACs", "ms", "ms, Pixel 1"),
        rows=rows,
        source=f"{runtime} here; there TensorFlow Lite on one big core, float32",
    )


def _their_order(seed: int) -> Table:
    macs, times = PIXEL.column("million MACs"), PIXEL.column("ms")
    rows = (
        ("rank correlation of MACs with ms", *spearman(macs, times, seed)),
        ("x time between slow and fast at equal MACs", *spread(macs, times, seed)),
    )
    return Table(
        title="The same of the published times", columns=("what", "value", "low", "high"), rows=rows,
        source="from the table above: MobileNets and MnasNet only, which are alike",
    )  # fmt: skip


def _text(value: Interval) -> str:
    return "{:.2f} (95 % {:.2f} to {:.2f})".format(*value)


def draw(finding: Finding, figure: "Figure") -> None:
    """MACs against time, large and with names; beside it bytes moved, and the phone's times."""
    _, points, _ = finding.measured
    figure.set_size_inches(13, 7.5)
    grid = figure.add_gridspec(2, 2, width_ratios=(1.9, 1))
    large, moved, phone = (figure.add_subplot(place) for place in (grid[:, 0], grid[0, 1], grid[1, 1]))
    here = points.where(runtime=points.rows[0][0])
    gigamacs = [value / 1e9 for value in here.column("MACs")]
    times = here.column("ms")
    _scatter(large, gigamacs, times, "#0072B2")
    _scatter(moved, here.column("MB moved"), times, "#D55E00")
    _scatter(phone, [value / 1e3 for value in PIXEL.column("million MACs")], PIXEL.column("ms"), "#009E73")
    large.set(xlabel="billion MACs", ylabel=f"ms, {points.rows[0][0]}")
    moved.set(xlabel="MB read and written", ylabel="ms")
    phone.set(xlabel="billion MACs", ylabel="ms, Pixel 1 (published)")
    seen: set[Any] = set()
    names = []
    for row, x, y in zip(here.rows, gigamacs, times, strict=True):
        if row[1] in NAMES and row[1] not in seen:  # a network's first variant is its default
            seen.add(row[1])
            names.append((x, y, NAMES[str(row[1])]))
    label_points(figure, large, names, list(zip(gigamacs, times, strict=True)))


def _scatter(axes: "Axes", x: Sequence[float], y: Sequence[float], colour: str) -> None:
    """On logarithmic axes, with lines of equal time per unit."""
    axes.scatter(x, y, s=18, color=colour, alpha=0.75, linewidths=0, zorder=3)
    axes.set_xscale("log")
    axes.set_yscale("log")
    rates = sorted(b / a for a, b in zip(x, y, strict=True))
    middle, ends = rates[len(rates) // 2], (min(x), max(x))
    axes.plot(ends, [middle * end for end in ends], color="#888888", linewidth=0.8, linestyle="--", zorder=1)
    axes.grid(alpha=0.3)
