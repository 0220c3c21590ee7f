"""What ReLU loses in few dimensions (MobileNet V2, section 3.2, figure 1 and appendix A). Nothing is timed.

A spiral in the plane is mapped by a random matrix T to n dimensions, through ReLU, and back by T's pseudo-inverse. A
point is lost when fewer than two units are active there: then its neighbours have the same code in some direction, and
no decoder whatever tells them apart. Each unit is active on half of the plane, so the share to expect is (n + 1) / 2^n.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from swiftlet.runtime.measurement import resample
from swiftlet.study.bench import Bench
from swiftlet.study.finding import Finding, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DIMENSIONS = (2, 3, 5, 8, 10, 15, 20, 30)
DRAWN = (2, 3, 5, 15, 30)  # the paper's
POINTS = 240
DRAWS = 400  # of T
SPREAD = 4.0  # standard deviation of the units before their activation; ReLU does not mind, ReLU6 clips at 1.5 of them

Array = np.ndarray[Any, np.dtype[np.float64]]
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "linear": lambda x: x,
    "ReLU": lambda x: np.maximum(x, 0),
    "ReLU6": lambda x: np.clip(x, 0, 6),
}
COLOURS = {"linear": "#444444", "ReLU": "#0072B2", "ReLU6": "#D55E00"}

PUBLISHED = Table(
    title="MobileNet V2, figure 1",
    columns=("n", "what the paper says"),
    rows=(
        ("2, 3", "information is lost: parts of the spiral collapse into each other"),
        ("15 to 30", "the transformation is highly non-convex, but the information is kept"),
    ),
    source="drawn there for one T each; the paper gives no numbers",
)


def run(bench: Bench) -> Finding:
    """Losses over many T for each n; the verdict asks for a loss at n = 3 and for none at n = 15 and 30."""
    generator = np.random.default_rng(bench.seed)
    points = spiral(POINTS)
    draws = 40 if bench.quick else DRAWS
    rows, lost_at = [], {}
    for n in DIMENSIONS:
        matrices = generator.standard_normal((draws, n, 2))
        for name in ACTIVATIONS:
            losses = np.array([loss(points, matrix, name) for matrix in matrices])
            means = [interval(column, bench.seed) for column in losses.T]
            rows.append((name, n, means[0][0], *(value for mean in means[1:] for value in mean), (n + 1) / 2**n))
            lost_at[name, n] = means[1]
    three, fifteen, thirty = (lost_at["ReLU", n] for n in (3, 15, 30))
    collapses, keeps = three[1] > 0.2, max(fifteen[2], thirty[2]) < 0.02
    unclear = three[1] <= 0.2 < three[2] or min(fifteen[1], thirty[1]) < 0.02 <= max(fifteen[2], thirty[2])
    return Finding(
        study="relu-collapse",
        title="ReLU destroys what lies in few dimensions",
        claim="A non-linearity loses information in a narrow layer and keeps it in a wide one, so that bottlenecks "
        "should be linear (MobileNet V2).",
        verdict="holds" if collapses and keeps else "cannot tell" if unclear else "fails",
        sentence=f"Behind ReLU, {percent(three)} of the points are beyond recovery with 3 dimensions, "
        f"{percent(fifteen)} with 15 and {percent(thirty)} with 30.",
        measured=(
            Table(
                title="Losses",
                columns=(
                    "activation", "n", "zero code", "lost", "lost low", "lost high",
                    "error by T's inverse", "inverse low", "inverse high",
                    "error of best linear map", "linear low", "linear high", "lost, expected of ReLU",
                ),
                rows=tuple(rows),
                source=f"shares and relative errors, means over {draws} T of normal numbers with 95 % intervals; "
                f"{POINTS} points; units have standard deviation {SPREAD:g}",
            ),
            _spirals(points, generator),
        ),
        published=(PUBLISHED,),
        notes=(
            "Lost: fewer than two units let changes through. That is a local matter; which distant points share a code "
            "is a stricter question, and the share of those is smaller.",
            "T's inverse halves what ReLU lets through, so its error stays above one half however large n is: the "
            "figure's way back is not a good decoder. The best linear map shows what a next layer could read.",
            "T is random: training can choose a better one, and a bias moves the boundary of every unit.",
        ),
    )  # fmt: skip


def spiral(points: int) -> Array:
    """(points, 2): two turns around the origin, equally spaced along it, with variance 1 in all directions together."""
    angle = 4 * np.pi * np.sqrt(np.linspace(0.01, 1, points))
    curve = np.stack([angle * np.cos(angle), angle * np.sin(angle)], axis=1)
    return np.asarray(curve / np.sqrt((curve**2).mean()) * (SPREAD / np.sqrt(2)))


def loss(points: Array, matrix: Array, activation: str) -> tuple[float, float, float, float]:
    """Shares of points with a code of zeros and of lost ones, and two relative errors (see Table "Losses").

    points (N, 2), matrix (n, 2). An error is the root of the squared distances' sum over the squared lengths' sum.
    """
    before = points @ matrix.T
    code = ACTIVATIONS[activation](before)
    passing = (
        before != 0 if activation == "linear" else (code > 0) & (before < (6 if activation == "ReLU6" else np.inf))
    )
    size = np.linalg.norm(points)
    inverse = np.linalg.norm(code @ np.linalg.pinv(matrix).T - points) / size
    bordered = np.hstack([code, np.ones((len(code), 1))])
    best = bordered @ np.linalg.lstsq(bordered, points)[0]
    return (
        float((code == 0).all(axis=1).mean()),
        float((passing.sum(axis=1) < 2).mean()),
        float(inverse),
        float(np.linalg.norm(best - points) / size),
    )


def interval(values: Array, seed: int) -> tuple[float, float, float]:
    """The mean and its 95 % bootstrap interval over draws."""
    means = values[resample(len(values), seed)].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(values.mean()), float(low), float(high)


def percent(share: tuple[float, float, float]) -> str:
    if not any(share):
        return "none"
    middle, low, high = (100 * value for value in share)
    return f"{middle:.2g} % (95 % {low:.2g} to {high:.2g})"


def _spirals(points: Array, generator: np.random.Generator) -> Table:
    columns, values = ["x", "y"], [*points.T]
    for n in DRAWN:
        matrix = generator.standard_normal((n, 2))
        back = ACTIVATIONS["ReLU"](points @ matrix.T) @ np.linalg.pinv(matrix).T
        columns += [f"x, n = {n}", f"y, n = {n}"]
        values += [*back.T]
    rows = tuple(tuple(round(float(value), 4) for value in row) for row in zip(*values, strict=True))
    return Table(
        title="The spiral and its way back", columns=tuple(columns), rows=rows, source="one T for each n; ReLU"
    )


def draw(finding: Finding, figure: "Figure") -> None:
    """The spirals above, the losses below."""
    losses, curves = finding.measured
    figure.set_size_inches(11, 6.5)
    above, below = figure.subfigures(2, 1, height_ratios=(1, 1.5), squeeze=False)[:, 0]
    names = [("the spiral", "x", "y"), *((f"n = {n}", f"x, n = {n}", f"y, n = {n}") for n in DRAWN)]
    order = range(len(curves.rows))
    for axes, (title, x, y) in zip(above.subplots(1, len(names)), names, strict=True):
        axes.scatter(curves.column(x), curves.column(y), c=order, cmap="viridis", s=7)
        axes.set_title(title, fontsize="medium")
        axes.set_aspect("equal", adjustable="datalim")
        axes.set(xticks=[], yticks=[])
    left, middle, right = below.subplots(1, 3)
    _curve(left, losses, "lost", "lost low", "lost high", "points beyond recovery")
    relu = losses.where(activation="ReLU")
    left.plot(relu.column("n"), relu.column("lost, expected of ReLU"), "k:", label="ReLU, expected")
    left.legend(fontsize="small")
    _curve(middle, losses, "error of best linear map", "linear low", "linear high", "error of the best linear decoder")
    _curve(right, losses, "error by T's inverse", "inverse low", "inverse high", "error by T's pseudo-inverse")
    below.supxlabel("n, dimensions before the activation", fontsize="medium")


def _curve(axes: "Axes", table: Table, column: str, low: str, high: str, title: str) -> None:
    for name, colour in COLOURS.items():
        part = table.where(activation=name)
        n = part.column("n")
        axes.fill_between(n, part.column(low), part.column(high), color=colour, alpha=0.25, linewidth=0)
        axes.plot(n, part.column(column), marker="o", markersize=4, color=colour, label=name)
    axes.set_title(title, fontsize="medium")
    axes.set_xscale("log")
    axes.set_xticks(DIMENSIONS, [str(n) for n in DIMENSIONS])
    axes.minorticks_off()
    axes.set_ylim(-0.03, max(1.0, 1.05 * max(table.column(column))))
    axes.grid(alpha=0.3)
