"""Width and resolution multipliers of MobileNet V1 (section 3.3 and 3.4, tables 6 and 7): does time follow the MACs?

Computation falls with about alpha^2 and rho^2. The exponents of time come from a regression of its logarithm on those
of alpha and rho over the whole grid.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from swiftlet.study.bench import Bench, Case, Timing, counted
from swiftlet.study.chunks import race_in_chunks
from swiftlet.study.finding import Effect, Finding, Table, Verdict
from swiftlet.zoo import create_model

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ALPHAS = (0.25, 0.5, 0.75, 1.0)
SIDES = (128, 160, 192, 224)
NEAR = 0.1  # an exponent of at least 2 - NEAR is "about 2"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "D", "v", "P", "^", "s")

PUBLISHED = Table(
    title="MobileNet V1, tables 6 and 7",
    columns=("alpha", "side", "million MACs", "million params", "ImageNet top-1"),
    rows=(
        (1.0, 224, 569, 4.2, 70.6), (0.75, 224, 325, 2.6, 68.4), (0.5, 224, 149, 1.3, 63.7), (0.25, 224, 41, 0.5, 50.6),
        (1.0, 192, 418, 4.2, 69.1), (1.0, 160, 290, 4.2, 67.2), (1.0, 128, 186, 4.2, 64.4),
    ),
    source="counts and accuracies; the paper prints no times",
)  # fmt: skip


class Exponents(NamedTuple):
    """Of alpha and of rho, each with its 95 % interval; spread: the residuals' standard deviation, a share of time."""

    alpha: tuple[float, float, float]
    rho: tuple[float, float, float]
    spread: float


def run(bench: Bench) -> Finding:
    """The grid on every runtime; the verdict is about the first one."""
    alphas, sides = (ALPHAS[1:4:2], SIDES[::3]) if bench.quick else (ALPHAS, SIDES)
    grid = [(alpha, side) for alpha in alphas for side in sides]
    cases = [lambda a=alpha, s=side: make_case(a, s) for alpha, side in grid]
    times = race_in_chunks(bench, cases, make_case(1.0, 224), size=8, what="the grid")
    macs = {cell: counted(make_case(*cell)).cost.macs or 0 for cell in grid}
    rows = []
    for runtime in bench.runtimes:
        for alpha, side in grid:
            time = times[Timing(label(alpha, side), runtime)]
            share = macs[alpha, side] / macs[1.0, 224]
            rows.append((runtime, alpha, side, macs[alpha, side], share, *time))
    fits = {name: exponents(grid, [row[5] for row in rows if row[0] == name]) for name in bench.runtimes}
    fits["MACs"] = exponents(grid, [macs[cell] for cell in grid])
    main = bench.runtimes[0]
    verdict, sentence = answer(main, fits[main], fits["MACs"])
    return Finding(
        study="multipliers",
        title="MobileNet V1: width and resolution multipliers",
        claim="Computation, and with it time, falls with about the square of the width and of the resolution.",
        verdict=verdict,
        sentence=sentence,
        effect=Effect("time", "Halve the width to save time.", *(2**power for power in fits[main].alpha)),
        measured=(
            Table(
                title="Exponents",
                columns=("of", "alpha", "alpha low", "alpha high", "rho", "rho low", "rho high", "residuals, %"),
                rows=tuple((name, *fit.alpha, *fit.rho, 100 * fit.spread) for name, fit in fits.items()),
                source="least squares on logarithms over the grid; the 95 % intervals hold what a power law misses",
            ),
            Table(
                title="The grid",
                columns=("runtime", "alpha", "side", "MACs", "MACs against 1.0, 224", "ms", "x time", "low", "high"),
                rows=tuple(rows),
                source=f"{bench.place()}; x time: against alpha = 1, side 224, 95 % intervals",
            ),
        ),
        published=(PUBLISHED,),
        notes=(
            "The MACs' own exponent of alpha is below 2: the first layer and the depthwise ones grow with alpha, not "
            "with its square.",
            "The cases run in races of eight, each with alpha = 1, side 224, to which all times are linked.",
        ),
    )


def answer(main: str, time: Exponents, macs: Exponents) -> tuple[Verdict, str]:
    """Whether both exponents of time are about 2: "cannot tell" while an interval contains 2 - NEAR."""
    lows, highs = (time.alpha[1], time.rho[1]), (time.alpha[2], time.rho[2])
    holds, fails = min(lows) > 2 - NEAR, min(highs) < 2 - NEAR
    sentence = (
        f"On {main}, time goes with alpha to the power of {_text(time.alpha)} and rho to the power of "
        f"{_text(time.rho)}; MACs with {macs.alpha[0]:.2f} and {macs.rho[0]:.2f}."
    )
    return "holds" if holds else "fails" if fails else "cannot tell", sentence


def exponents(grid: Sequence[tuple[float, int]], values: Sequence[float]) -> Exponents:
    """Of `values` over (alpha, side)."""
    from scipy import stats

    columns = np.array([[1.0, np.log(alpha), np.log(side / 224)] for alpha, side in grid])
    y = np.log(np.array(values, np.float64))
    weights = np.linalg.lstsq(columns, y)[0]
    free = len(y) - 3
    spread = float(np.sqrt(((y - columns @ weights) ** 2).sum() / free))
    errors = spread * np.sqrt(np.diag(np.linalg.inv(columns.T @ columns)))
    halves = float(stats.t.ppf(0.975, free)) * errors
    both = [(float(weights[i]), float(weights[i] - halves[i]), float(weights[i] + halves[i])) for i in (1, 2)]
    return Exponents(both[0], both[1], spread)


def make_case(alpha: float, side: int) -> Case:
    return Case(label(alpha, side), create_model("mobilenet_v1", width=alpha), (3, side, side))


def label(alpha: float, side: int) -> str:
    return f"{alpha:g} at {side}"


def _text(value: tuple[float, float, float]) -> str:
    return "{:.2f} (95 % {:.2f} to {:.2f})".format(*value)


def draw(finding: Finding, figure: "Figure") -> None:
    """Time and MACs against each multiplier, the other one full, on logarithmic axes."""
    _, grid = finding.measured
    left, right = figure.subplots(1, 2, sharey=True)
    figure.set_size_inches(10, 5)
    for axes, column, other, scale in ((left, "alpha", {"side": 224}, 1.0), (right, "side", {"alpha": 1.0}, 224.0)):
        part = grid.where(**other)
        ticks = sorted(set(part.column(column)))
        _power(axes, ticks, scale)
        for place, runtime in enumerate(dict.fromkeys(part.column("runtime"))):
            here = part.where(runtime=runtime)
            values, low, high = here.column("x time"), here.column("low"), here.column("high")
            spread = [_differences(values, low), _differences(high, values)]
            style = {"color": COLOURS[place % 6], "marker": MARKERS[place % 6]}
            axes.errorbar(here.column(column), values, yerr=spread, capsize=3, label=f"time, {runtime}", **style)
        shares = part.where(runtime=runtime).column("MACs against 1.0, 224")
        axes.plot(ticks, shares, color="#444444", marker="x", linestyle=":", label="MACs")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    shown = (0.05, 0.1, 0.2, 0.5, 1.0)
    left.set_yticks(shown, [f"{value:g}" for value in shown])
    left.set(xlabel="alpha, width (side 224)", ylabel="share of alpha = 1 at side 224")
    right.set(xlabel="side in pixels, 224 rho (alpha 1)")
    left.legend(frameon=False)


def _power(axes: "Axes", ticks: Sequence[float], scale: float) -> None:
    axes.plot(ticks, [(tick / scale) ** 2 for tick in ticks], color="#AAAAAA", linestyle="--", label="square")


def _differences(a: Sequence[Any], b: Sequence[Any]) -> list[float]:
    return [x - y for x, y in zip(a, b, strict=True)]
