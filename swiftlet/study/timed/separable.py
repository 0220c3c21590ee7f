"""Depthwise separable convolution against dense: do the saved MACs save time? (MobileNet V1, section 3.1 and table 2.)

A sweep of channels x side x kernel x stride, forward and as a training step, and MobileNet V1's own layers by kind.
"""

from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

from torch import nn

from swiftlet.cost.count import count_model, count_onnx
from swiftlet.cost.screen import read_onnx
from swiftlet.runtime.operations import PROFILERS, operations
from swiftlet.study.bench import Bench, Case, Timing, counted, ratio
from swiftlet.study.chart import COLOURS, Line, legend, plain_log, spread
from swiftlet.study.finding import Cell, Effect, Finding, Table, judge, ratio_text
from swiftlet.study.series import interval
from swiftlet.timing.layers import join
from swiftlet.zoo import create_model

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LAYERS = 2  # in a row, so that what a runtime does at the edges of a file weighs less
MAX_MACS = 4_000_000_000  # of the dense layers: more takes seconds a run and is no part of a light network
INPUT = (3, 224, 224)  # of MobileNet V1
KINDS = ("conv 1x1", "conv 3x3 depthwise", "conv 3x3", "fully connected", "other")

PUBLISHED = Table(
    title="MobileNet V1, table 2",
    columns=("kind", "% of MACs", "% of params"),
    rows=(
        ("conv 1x1", 94.86, 74.59),
        ("conv 3x3 depthwise", 3.06, 1.06),
        ("conv 3x3", 1.19, 0.02),
        ("fully connected", 0.18, 24.33),
    ),
    source="1.19 is a misprint for 1.91: only so the column adds up to 100, and so our count has it. The text gives "
    "95 % of the time to 1x1 convolutions",
)


class Point(NamedTuple):
    """One comparison: channels in and out, side of the input, kernel, stride."""

    channels: int
    side: int
    kernel: int
    stride: int


REFERENCE = Point(256, 28, 3, 1)
QUICK = Point(32, 14, 3, 1)


def run(bench: Bench) -> Finding:
    """The sweep and the shares; the verdict is about 256 channels, 28 x 28, 3 x 3, and says where dense wins."""
    sweep = _sweep(bench)
    shares = _shares(bench)
    main, point = bench.runtimes[0], QUICK if bench.quick else REFERENCE
    saved = interval(sweep, runtime=main, step="forward", **point._asdict())
    (fewer,) = sweep.where(runtime=main, step="forward", **point._asdict()).column("x MACs")
    return Finding(
        study="separable",
        title="Depthwise separable convolutions: MACs saved, time saved",
        claim="A depthwise and a pointwise convolution take 8 to 9 times fewer MACs than a dense 3x3 one, and that "
        "much less time.",
        verdict=judge(saved[1] / fewer, saved[2] / fewer, at_least=0.8),
        sentence=f"On {main}, at {point.channels} channels, {point.side} x {point.side}, the dense 3x3 takes "
        f"{ratio_text(saved)} the time of the separable one, for {fewer:.2f}x the MACs. "
        f"{_where_dense_wins(sweep, main)}",
        effect=Effect("time", "Replace a dense 3x3 convolution by a depthwise and a 1x1 one.", *saved),
        measured=(sweep, _crossings(sweep), shares),
        published=(PUBLISHED,),
        notes=(
            f"Each point is {LAYERS} layers in a row, from `channels` to as many, with ReLU and without BatchNorm; at "
            f"stride 2 the second one has half the side. Points over {MAX_MACS / 1e9:g} G MACs are left out.",
            '"Holds" means that the time ratio is above 0.8 of the MACs ratio, interval and all.',
            "train: forward and backward in PyTorch, gradients for weights and input, no optimizer.",
            "Shares of time come from each runtime's profiler, which slows small operations down; ReLU counts with the "
            "layer that it is computed in, and as other where it is an operation of its own.",
        ),
    )


def draw(finding: Finding, figure: "Figure") -> None:
    """MACs ratio and time ratio over channels, and the shares of each kind of layer."""
    sweep, _, shares = finding.measured
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    side = max(sweep.column("side"), key=lambda side: (len(sweep.where(side=side, kernel=3, stride=1).rows), side))
    here = sweep.where(side=side, kernel=3, stride=1)
    steps = dict.fromkeys(zip(here.column("runtime"), here.column("step"), strict=True))
    for place, (runtime, step) in enumerate(steps):
        mine = here.where(runtime=runtime, step=step)
        line = Line(f"{runtime}, {step}", mine.column("x time"), mine.column("low"), mine.column("high"))
        left.errorbar(
            mine.column("channels"), line.middle, yerr=spread(line), color=COLOURS[place], marker="o", markersize=5,
            capsize=2, linewidth=1.2, linestyle="-" if step == "forward" else "--", label=line.label,
        )  # fmt: skip
    counted_ = here.where(runtime=here.rows[0][0], step="forward")
    left.plot(counted_.column("channels"), counted_.column("x MACs"), color="#444444", linestyle=":", label="MACs")
    plain_log(left, "x", sorted(set(here.column("channels"))))
    plain_log(left, "y")
    left.axhline(1, color="#888888", linewidth=1, zorder=0)
    left.set(xlabel="channels", ylabel="dense / separable", title=f"3 x 3, stride 1, {side} x {side}")
    _draw_shares(right, shares)
    legend(figure, left)


def _draw_shares(axes: "Axes", shares: Table) -> None:
    from matplotlib.patches import Patch

    names = list(shares.columns[1:])
    for place, name in enumerate(names):
        start = 0.0
        for kind, colour in zip(KINDS, COLOURS, strict=False):
            share = shares.where(kind=kind).column(name)[0] or 0.0
            axes.barh(place, share, left=start, color=colour, height=0.6)
            if share > 12:
                axes.text(start + share / 2, place, f"{share:.0f}", ha="center", va="center", color="white", fontsize=9)
            start += share
    axes.set_yticks(range(len(names)), [name.removeprefix("% of ").replace("time, ", "time,\n") for name in names])
    axes.invert_yaxis()
    axes.set(title="MobileNet V1 by kind of layer", xlabel="%", xlim=(0, 100))
    axes.legend(
        handles=[Patch(color=colour, label=kind) for kind, colour in zip(KINDS, COLOURS, strict=False)],
        loc="upper center", bbox_to_anchor=(0.4, -0.14), ncols=2, fontsize="small", frameon=False,
    )  # fmt: skip


def _points(quick: bool) -> Iterator[Point]:
    if quick:
        yield from (Point(channels, 14, 3, 1) for channels in (3, 32, 64))
        return
    for channels, side, kernel, stride in product(
        (3, 16, 32, 64, 128, 256, 1024), (7, 14, 28, 56, 112), (3, 5), (1, 2)
    ):
        point = Point(channels, side, kernel, stride)
        if LAYERS * channels**2 * kernel**2 * (side // stride) ** 2 <= MAX_MACS:
            yield point


def _sweep(bench: Bench) -> Table:
    rows: list[tuple[Cell, ...]] = []
    points = list(_points(bench.quick))
    for done, point in enumerate(points):
        dense, separable = _case(point, dense=True), _case(point, dense=False)
        times = bench.times((dense, separable), train=True, what=f"racing, point {done + 1} of {len(points)}")
        macs = [counted(case).cost.macs or 0 for case in (dense, separable)]
        for runtime, step in ((key.runtime, key.step) for key in times if key.label == dense.label):
            slow, fast = Timing(dense.label, runtime, step), Timing(separable.label, runtime, step)
            ms = (times[slow].p50_ms, times[fast].p50_ms)
            rows.append((runtime, step, *point, *macs, *ms, macs[0] / macs[1], *ratio(times, slow, fast)))
    return Table(
        title="Dense against separable",
        columns=(
            "runtime", "step", "channels", "side", "kernel", "stride", "dense MACs", "separable MACs", "dense ms",
            "separable ms", "x MACs", "x time", "low", "high",
        ),
        rows=tuple(rows),
        source=f"{bench.place()}. x: dense against separable, time with its 95 % interval.",
    )  # fmt: skip


def _crossings(sweep: Table) -> Table:
    """For each runtime, step, side, kernel and stride: up to where dense wins, and from where separable does."""
    places = [sweep.columns.index(name) for name in ("runtime", "step", "side", "kernel", "stride")]
    rows: list[tuple[Cell, ...]] = []
    for key in dict.fromkeys(tuple(row[place] for place in places) for row in sweep.rows):
        here = sweep.where(**dict(zip(("runtime", "step", "side", "kernel", "stride"), key, strict=True)))
        channels, lows, highs = (here.column(name) for name in ("channels", "low", "high"))
        dense = [c for c, high in zip(channels, highs, strict=True) if high < 1]
        separable = [c for c, low in zip(channels, lows, strict=True) if low > 1]
        rows.append((*key, max(dense, default=None), min(separable, default=None)))
    return Table(
        title="Below which size dense is the faster one",
        columns=("runtime", "step", "side", "kernel", "stride", "dense wins up to", "separable wins from"),
        rows=tuple(rows),
        source="Channels, of those in the sweep, with the whole interval on that side of 1; empty: at none of them.",
    )


def _where_dense_wins(sweep: Table, runtime: str) -> str:
    here = _crossings(sweep).where(runtime=runtime, step="forward", kernel=3, stride=1)
    sides: dict[int | None, list[str]] = {}
    for side, channels in zip(here.column("side"), here.column("dense wins up to"), strict=True):
        sides.setdefault(channels, []).append(str(side))
    parts = [
        f"{f'up to {channels} channels' if channels else 'nowhere'} at side {', '.join(at)}"
        for channels, at in sides.items()
    ]
    return f"Of the points in the sweep, dense is the faster one {'; '.join(parts)} (3x3, stride 1)."


def _shares(bench: Bench) -> Table:
    """MobileNet V1 by kind of layer, in percent of MACs, of weights, and of the time that each profiler sees."""
    network = create_model("mobilenet_v1").eval()
    kinds = {name: _kind(module) for name, module in network.named_modules()}
    sums: dict[str, dict[str, float]] = {"MACs": {}, "params": {}}
    for layer in count_model(network, INPUT).layers:
        _add(sums["MACs"], kinds.get(layer.name, "other"), layer.macs)
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            _add(sums["params"], kinds[name], module.weight.numel())
    file = bench.file(Case("mobilenet_v1", network, INPUT))
    model = read_onnx(file)
    for runtime in bench.runtimes:
        if runtime in PROFILERS:
            times, own = join(operations(file, runtime, bench.threads, bench.batch), model.graph, count_onnx(model))
            mine = sums[f"time, {runtime}"] = {"other": sum(operation.ms for operation in own)}
            for name, ms in times.items():
                _add(mine, kinds.get(name, "other"), ms)
    columns = [[100 * each.get(kind, 0.0) / sum(each.values()) for kind in KINDS] for each in sums.values()]
    return Table(
        title="MobileNet V1, 224 x 224, by kind of layer",
        columns=("kind", *(f"% of {name}" for name in sums)),
        rows=tuple(zip(KINDS, *columns, strict=True)),
        source=f"{bench.place()}. params: weights, as in the paper, without biases and BatchNorm. Times: medians of 20 "
        "runs under the runtime's profiler.",
    )


def _kind(module: nn.Module) -> str:
    if isinstance(module, nn.Linear):
        return "fully connected"
    if not isinstance(module, nn.Conv2d):
        return "other"
    return "conv 1x1" if module.kernel_size == (1, 1) else "conv 3x3 depthwise" if module.groups > 1 else "conv 3x3"


def _add(sums: dict[str, float], kind: str, value: float) -> None:
    sums[kind] = sums.get(kind, 0.0) + value


def _case(point: Point, *, dense: bool) -> Case:
    c, side, kernel, stride = point
    layers: list[nn.Module] = []
    for _ in range(LAYERS):
        if dense:
            layers += [nn.Conv2d(c, c, kernel, stride, kernel // 2), nn.ReLU()]
        else:
            layers += [nn.Conv2d(c, c, kernel, stride, kernel // 2, groups=c), nn.ReLU(), nn.Conv2d(c, c, 1), nn.ReLU()]
    return Case("dense" if dense else "separable", nn.Sequential(*layers), (c, side, side))
