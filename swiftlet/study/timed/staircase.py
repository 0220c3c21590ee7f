"""Latency against channel count in steps of one: where are the sweet spots, and are multiples of 8 or 16 among them?

A chain of equal convolutions, as many channels in as out, so that the edges of the file weigh little. What is judged is
the time against a smooth trend in the number of channels, which a staircase leaves and a line does not.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import log
from typing import TYPE_CHECKING, Any

from torch import nn

from swiftlet.cost.systolic import Conv, SystolicArray
from swiftlet.study.bench import Bench, Case, Precision, Timing
from swiftlet.study.chunks import Linked, race_in_chunks
from swiftlet.study.finding import Effect, Finding, Table, Verdict, judge
from swiftlet.study.series import inverse
from swiftlet.study.timed.steps import Steps, find_steps, multiples

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS = {"1x1": (1, False, 28, 6), "3x3": (3, False, 14, 4), "depthwise 3x3": (3, True, 28, 8)}  # kernel, side, layers
RANGES = (range(32, 81), range(96, 145))  # channels: two or three steps of 16 in each
QUICK = RANGES[:1]
REFERENCE = 64
MODEL = "systolic array (model)"
TICKS: tuple[tuple[float, tuple[float, ...]], ...] = (  # of a logarithmic axis whose top is so many times its bottom
    (6, (0.2, 0.5, 1, 2, 5, 10, 20, 50)),
    (1.8, (0.4, 0.5, 0.7, 1, 1.5, 2, 3, 4)),
    (0, (0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.3, 1.4, 1.6)),
)


def run(bench: Bench) -> Finding:
    """Every count on every runtime in float32, and in int8 where a runtime computes in integers."""
    kinds = dict(list(KINDS.items())[:1]) if bench.quick else KINDS
    counts = [count for each in (QUICK if bench.quick else RANGES) for count in each]
    points: list[tuple[str, str, int, float, float, float, float]] = []
    found: list[tuple[str, str, Steps]] = []
    gains: list[tuple[str, str, int, tuple[float, float, float]]] = []
    for kind in kinds:
        series = dict(_measured(bench, kind, counts))
        series[MODEL] = [Linked(ms, 1.0, 1.0, 1.0) for ms in _modelled(kind, counts)]
        for name, times in series.items():
            ms = [time.ms for time in times]
            errors = [log(time.high / time.low) / 4 for time in times]  # four standard errors lie in 95 %
            steps = find_steps(counts, ms, errors)
            found.append((name, kind, steps))
            gains += [(name, kind, size, value) for size, value in multiples(counts, ms, errors).items()]
            for count, time, trend in zip(counts, times, steps.trend, strict=True):
                ratio, scale = time.ms / trend, time.ms / trend / time.against
                points.append((name, kind, count, time.ms, ratio, time.low * scale, time.high * scale))
    main = f"{bench.runtimes[0]} float32"
    verdict, answer, saved = _answer(main, found, gains)
    return Finding(
        study="staircase",
        title="Time against the number of channels, in steps of one",
        claim="Channel counts that are multiples of 8 or 16 suit the hardware; others are paid for as if rounded up.",
        verdict=verdict,
        sentence=answer,
        effect=Effect("time", "Make the channels of 1x1 convolutions multiples of 16.", *saved),
        measured=(
            Table(
                title="Sweet spots",
                columns=("program", "layers", "multiples of", "shape", "others cost, %", "low", "high", "p"),
                rows=tuple((name, kind, *_row(steps)) for name, kind, steps in found),
                source="the best of stairs (a count costs as much as the next multiple) and combs (multiples are "
                "cheaper than all others), against a smooth trend; F-test, p times the number of shapes tried; cost "
                "of a count that is no multiple, mean and 95 % interval",
            ),
            Table(
                title="Time at multiples against other counts",
                columns=("program", "layers", "multiples of", "x time", "low", "high"),
                rows=tuple((name, kind, size, *value) for name, kind, size, value in gains),
                source="against counts that 4 does not divide, on the same trend; each count belongs to its largest "
                "multiple: 24 to 8, 32 to 16; 95 % intervals",
            ),
            Table(
                title="All counts",
                columns=("program", "layers", "channels", "ms", "x trend", "low", "high"),
                rows=tuple(points),
                source=f"{bench.place()}; chains of layers with ReLU between them",
            ),
        ),
        notes=(
            "More programs than one race can hold: they run in races of 12, drawn by lot, each with the same reference "
            f"({REFERENCE} channels); a time is its ratio to the reference of its own race.",
            "The model is of 64 x 64 multipliers, see the study accelerator. Layers with equal channels in and out pay "
            "twice for a bad count; in a network each layer pays for one side.",
        ),
    )


def _measured(bench: Bench, kind: str, counts: Sequence[int]) -> list[tuple[str, list[Linked]]]:
    series = []
    precisions: tuple[Precision, ...] = ("float32", "int8")
    for precision in precisions:
        names = bench.runtimes if precision == "float32" else in_integers(bench, make_case(kind, 16, "int8"))
        if not names:
            continue
        cases = [lambda c=count, p=precision: make_case(kind, c, p) for count in counts]
        times = race_in_chunks(
            replace(bench, runtimes=names), cases, make_case(kind, REFERENCE, precision), what=f"{kind} {precision}"
        )
        for name in names:
            series.append((f"{name} {precision}", [times[Timing(f"{kind}, {count}", name)] for count in counts]))
    return series


def in_integers(bench: Bench, case: Case) -> tuple[str, ...]:
    """The runtimes that compute an int8 file in integers: others say that they emulate, or refuse."""
    file = bench.file(case)
    able = []
    for name in bench.runtimes:
        program = bench.in_integers(file, name)
        if program is not None:
            able.append(name)
            program.close()
    return tuple(able)


def make_case(kind: str, channels: int, precision: Precision) -> Case:
    kernel, depthwise, side, layers = KINDS[kind]
    groups = channels if depthwise else 1
    chain: list[nn.Module] = []
    for _ in range(layers):
        chain += [nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=groups), nn.ReLU()]
    return Case(f"{kind}, {channels}", nn.Sequential(*chain), (channels, side, side), precision)


def _modelled(kind: str, counts: Sequence[int]) -> list[float]:
    kernel, depthwise, side, layers = KINDS[kind]
    chip = SystolicArray()
    size, output = (kernel, kernel), (side, side)
    convs = [Conv(name=kind, c_in=c, c_out=c, kernel=size, output=output, groups=c if depthwise else 1) for c in counts]
    return [layers * chip.conv_cycles(conv) / chip.clock_ghz / 1e6 for conv in convs]


def _row(steps: Steps) -> tuple[Any, ...]:
    if steps.size is None:
        return ("none", "smooth", None, None, None, steps.p)
    return (str(steps.size), steps.shape, *(100 * value for value in steps.penalty), steps.p)


def _answer(
    main: str,
    found: Sequence[tuple[str, str, Steps]],
    gains: Sequence[tuple[str, str, int, tuple[float, float, float]]],
) -> tuple[Verdict, str, tuple[float, float, float]]:
    """Verdict, sentence and how many times longer other counts take than multiples of 16: in 1x1 layers, of the first
    runtime in float32."""
    multiple = next(value for name, kind, size, value in gains if (name, kind, size) == (main, "1x1", 16))
    (ratio, low, high), saved = multiple, inverse(multiple)
    spots: dict[str, list[str]] = {}
    for name, kind, steps in found:
        cost = f"{steps.size} (others +{100 * steps.penalty[0]:.0f} %)" if steps.size else "none"
        spots.setdefault(name, []).append(f"{kind} {cost}")
    texts = [f"{name}: {', '.join(each)}" for name, each in spots.items()]
    sentence = (
        f"On {main}, 1x1 layers with a multiple of 16 take {ratio:.2f}x (95 % {low:.2f} to {high:.2f}) the time of "
        f"counts that 4 does not divide. Sweet spots, multiples of: {'; '.join(texts)}."
    )
    return judge(saved[1], saved[2], at_least=1.02), sentence, saved


def draw(finding: Finding, figure: "Figure") -> None:
    """A small plot for each program and kind of layer: time against its own trend, multiples marked."""
    spots, _, points = finding.measured
    programs = list(dict.fromkeys(points.column("program")))
    kinds = list(dict.fromkeys(points.column("layers")))
    figure.set_size_inches(3.4 * len(programs), 1.2 + 2.5 * len(kinds))
    grid = figure.subplots(len(kinds), len(programs), sharex=True, squeeze=False)
    for i, kind in enumerate(kinds):
        for j, program in enumerate(programs):
            axes = grid[i][j]
            part = points.where(program=program, layers=kind)
            _dots(axes, part)
            (spot,) = spots.where(program=program, layers=kind).rows
            found = "none" if spot[2] == "none" else f"multiples of {spot[2]}"
            axes.set_title(f"{program}, {kind}\nsweet spots: {found}", fontsize="small")
        grid[i][0].set_ylabel("time against trend")
    for axes in grid[-1]:
        axes.set_xlabel("channels")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)


def _dots(axes: "Axes", part: Table) -> None:
    channels, values = part.column("channels"), part.column("x trend")
    low, high = part.column("low"), part.column("high")
    axes.vlines(channels, low, high, color="#BBBBBB", linewidth=1)
    for label, colour, marker, chosen in (
        ("other counts", "#888888", ".", [c % 4 != 0 for c in channels]),
        ("multiples of 4", "#009E73", "^", [c % 8 == 4 for c in channels]),
        ("multiples of 8", "#0072B2", "s", [c % 16 == 8 for c in channels]),
        ("multiples of 16", "#D55E00", "D", [c % 16 == 0 for c in channels]),
    ):
        x = [c for c, keep in zip(channels, chosen, strict=True) if keep]
        y = [v for v, keep in zip(values, chosen, strict=True) if keep]
        axes.plot(x, y, marker, color=colour, markersize=5, label=label)
    axes.set_xticks([c for c in channels if c % 16 == 0])
    axes.axhline(1, color="black", linewidth=0.6)
    bottom, top = min(0.9, min(values) * 0.97), max(1.15, max(values) * 1.03)
    axes.set_yscale("log")
    axes.set_ylim(bottom, top)
    possible = next(ticks for least, ticks in TICKS if top / bottom > least)
    ticks = [tick for tick in possible if bottom <= tick <= top]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(axis="x", alpha=0.3)
