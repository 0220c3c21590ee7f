"""Sparse 1x1 convolutions (Elsen et al. 2019, "Fast Sparse ConvNets"): below which density they beat the dense one.

Four layers in a row, without bias and activation, as products of matrices on the CPU: those that NumPy's and PyTorch's
users have, against the dense convolution of the runtimes and the dense product, all in one race.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import nn

from swiftlet.errors import BadInput
from swiftlet.gate import ParityError
from swiftlet.runtime.base import Array, Program
from swiftlet.runtime.measurement import Measurement, resample
from swiftlet.study.bench import Bench, Case, Timing, ratio
from swiftlet.study.chart import COLOURS, MARKERS, legend, plain_log
from swiftlet.study.finding import Cell, Effect, Finding, Table, judge
from swiftlet.study.series import inverse
from swiftlet.study.timed.gemm import Products
from swiftlet.study.timed.sparse_products import chain, dense, layers, usable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LAYERS = 4
SHAPES = ((256, 14), (64, 28), (512, 7))  # channels in and out, side
DENSITIES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
JUDGED, ASKED = "anywhere", 0.1  # 90 % zeros
DENSE, MM = "dense", "torch.mm"
TOLERANCE = 1e-4  # of the largest value: float32 sums in another order

PUBLISHED = Table(
    title="What others report",
    columns=("source", "zeros %", "chip", "whole networks, x as fast as dense"),
    rows=(
        ("Fast Sparse ConvNets (arXiv:1911.09723)", "70 to 95, anywhere", "Snapdragon 835", "1.3 to 2.4"),
        ("XNNPACK in TensorFlow Lite (Google, 2021)", "not said", "phones", "1.2 to 2.4"),
        ("SparseByteNN (arXiv:2310.19509)", "30, by kernel", "Qualcomm 855", "1.27"),
    ),
    source="abstracts and announcement. All with kernels written for this, which the first says are ahead of MKL's; "
    "kernels before were for more than 99 % zeros. PyTorch calls MKL's",
)


class Crossing(NamedTuple):
    """Below which density sparse is faster, with its 95 % interval: 0 if at none that was tried, 1 if at all."""

    middle: float
    low: float
    high: float

    def __str__(self) -> str:
        middle, low, high = map(_percent, self)
        return f"{middle} (95 % {low} to {high})"


def run(bench: Bench) -> Finding:
    """Time of every product at every density; the verdict is about zeros anywhere, 256 channels, 14 x 14."""
    cpu = tuple(name for name in bench.runtimes if "cuda" not in name)
    if not cpu:
        raise BadInput(f"study sparse: compares on the CPU; {', '.join(bench.runtimes)} runs elsewhere")
    bench = replace(bench, runtimes=cpu)
    rows: list[tuple[Cell, ...]] = []
    crossings: dict[tuple[int, int], dict[str, Crossing]] = {}
    shapes = SHAPES[:1] if bench.quick else SHAPES
    for done, (c, side) in enumerate(shapes):
        times, exact = _race(bench, c, side, f"racing, shape {done + 1} of {len(shapes)}")
        whole = min((each for each in times if each.label == DENSE), key=lambda each: times[each].p50_ms)
        for timing, measured in times.items():
            pattern, density = exact.get(timing.label, (DENSE, 1.0))
            rows.append(
                (c, side, pattern, timing.runtime, density, measured.p50_ms / LAYERS, *ratio(times, timing, whole))
            )
        crossings[c, side] = {
            pattern: crossing(
                {density: [times[t] for t in times if t.label == label] for label, density in of_pattern.items()},
                times[whole],
            )
            for pattern, of_pattern in _by_pattern(exact).items()
        }
    table = Table(
        title="A sparse layer against the fastest dense one",
        columns=("channels", "side", "weights", "product", "density", "ms", "x time", "low", "high"),
        rows=tuple(rows),
        source=f"{bench.place()}; a {LAYERS}th of {LAYERS} layers in a row, without bias and activation; x time with "
        "its 95 % interval. scipy computes in one thread whatever is asked for",
    )
    (c, side), *_ = shapes
    judged = crossings[c, side][JUDGED]
    others = [f"{pattern} {found}" for pattern, found in crossings[c, side].items() if pattern != JUDGED]
    at_asked = _fastest(table.where(channels=c, side=side, weights=JUDGED), ASKED)
    return Finding(
        study="sparse",
        title="Sparse 1x1 convolutions against dense ones",
        claim="With 90 % of its weights zero, wherever they are, a 1x1 convolution is faster than the dense one (Fast "
        "Sparse ConvNets).",
        verdict=judge(judged.low, judged.high, at_least=ASKED),
        sentence=f"At {c} channels, {side} x {side}, weights with zeros anywhere are faster than the fastest dense "
        f"layer below a density of {judged}; in {', in '.join(others)}.",
        effect=Effect("time", "Set nine in ten weights to zero, and compute with a sparse product.", *at_asked),
        measured=(table, _crossing_table(crossings)),
        published=(PUBLISHED,),
        notes=(
            f'"Holds" means that the density of equal times lies above {ASKED:g} with its interval. It is found '
            "between the densities that were timed, on logarithmic axes, with the faster product at each.",
            "Bias and ReLU are left out: a convolution computes them on the way, a sparse product would need a pass of "
            "its own. Where the zeros are was drawn by lot; networks learn which weights are worth keeping.",
            "2:4 is a pattern that GPUs have units for (in PyTorch torch.sparse.to_sparse_semi_structured). For a CPU "
            "PyTorch has no kernel for it, so it is timed as CSR, which gains nothing by knowing the pattern.",
            "Kernels made for such weights (XNNPACK's) were not timed: they run inside TensorFlow Lite only, in whole "
            "networks whose file keeps the weights sparse.",
        ),
    )


def draw(finding: Finding, figure: "Figure") -> None:
    """Time against the fastest dense layer, over the density; one panel a size."""
    table = finding.measured[0]
    shapes = list(dict.fromkeys(zip(table.column("channels"), table.column("side"), strict=True)))
    figure.set_size_inches(4 * len(shapes) + 3, 5)
    panels = figure.subplots(1, len(shapes), sharey=True, squeeze=False)[0]
    for axes, (c, side) in zip(panels, shapes, strict=True):
        here = table.where(channels=c, side=side)
        keys = dict.fromkeys(zip(here.column("weights"), here.column("product"), strict=True))
        for place, (pattern, product) in enumerate(key for key in keys if key[0] != DENSE):
            mine = here.where(weights=pattern, product=product)
            middle, low, high = (np.array(mine.column(name)) for name in ("x time", "low", "high"))
            axes.errorbar(
                mine.column("density"),
                middle,
                yerr=[middle - low, high - middle],
                color=COLOURS[place % len(COLOURS)],
                marker=MARKERS[place % len(MARKERS)],
                linewidth=1,
                capsize=2,
                label=f"{pattern}, {product}",
            )
        axes.axhline(1, color="#888888", linewidth=1, zorder=0)
        axes.axvline(ASKED, color="#dddddd", linewidth=1, zorder=0)
        plain_log(axes, "x", DENSITIES)
        plain_log(axes, "y")
        axes.set(xlabel="density", title=f"{c} channels, {side} x {side}")
        axes.grid(axis="y", alpha=0.3)
    panels[0].set_ylabel("time, against the fastest dense layer")
    legend(figure, *panels)


def crossing(products: Mapping[float, Sequence[Measurement]], whole: Measurement) -> Crossing:
    """By density, the times of one or more products of one race: at which density the fastest of them takes as long as
    `whole`. The interval is a bootstrap over rounds, as race.compare's."""
    densities = sorted(products)
    logs = [[np.log(each.rounds_ms) - np.log(whole.rounds_ms) for each in products[d]] for d in densities]
    middle = break_even(densities, np.array([min(np.median(each) for each in of_density) for of_density in logs]))
    rounds = resample(len(whole.rounds_ms), 0)
    drawn = np.stack([np.min([np.median(each[rounds], axis=1) for each in of_density], axis=0) for of_density in logs])
    low, high = np.quantile([break_even(densities, sample) for sample in drawn.T], (0.025, 0.975))
    return Crossing(middle, float(low), float(high))


def break_even(densities: Sequence[float], logs: Array) -> float:
    """Where the logarithm of the ratio first rises above 0, on a logarithmic axis; 0 and 1 as in Crossing."""
    if logs[0] > 0:
        return 0.0
    for i in range(1, len(logs)):
        if logs[i] > 0:
            share = logs[i - 1] / (logs[i - 1] - logs[i])
            return float(densities[i - 1] * (densities[i] / densities[i - 1]) ** share)
    return 1.0


def _race(bench: Bench, c: int, side: int, what: str) -> tuple[dict[Timing, Measurement], dict[str, tuple[str, float]]]:
    """All times, and pattern and exact density of each label."""
    programs: dict[Timing, Program] = {}
    exact: dict[str, tuple[str, float]] = {}
    several = (DENSITIES[0], ASKED, DENSITIES[-1]) if bench.quick else DENSITIES
    for pattern, products in usable().items():
        for asked in (0.5,) if pattern == "2:4" else several:
            weights = layers(pattern, c, asked, LAYERS, seed=bench.seed)
            density = float(np.mean([np.count_nonzero(weight) / weight.size for weight in weights]))
            label = f"{pattern} {density:.3f}"
            if label in exact:  # so few blocks that this density and the one before are the same
                continue
            exact[label] = pattern, density
            for name, product in products.items():
                layer_by_layer = chain([product(weight) for weight in weights])
                program = Products(label, layer_by_layer, (c, side, side), bench.threads)
                check(program, weights, c, side)
                programs[Timing(label, name)] = program
    whole = layers(JUDGED, c, 1.0, LAYERS, seed=bench.seed)
    of_whole = chain([dense(weight) for weight in whole])
    programs[Timing(DENSE, MM)] = Products(DENSE, of_whole, (c, side, side), bench.threads)
    convolutions = nn.Sequential(*(nn.Conv2d(c, c, 1, bias=False) for _ in whole))
    for layer, weight in zip(convolutions, whole, strict=True):
        layer.weight.data = torch.from_numpy(weight)[:, :, None, None]
    return bench.times([Case(DENSE, convolutions, (c, side, side))], programs=programs, what=what), exact


def check(program: Program, weights: Sequence[Array], c: int, side: int) -> None:
    """Raises ParityError unless the program gives what dense products of these weights give."""
    image = np.random.default_rng(0).standard_normal((1, c, side, side), np.float32)
    wanted = image.reshape(c, -1).astype(np.float64)
    for weight in weights:
        wanted = weight.astype(np.float64) @ wanted
    off, largest = np.abs(program.run(image)[0].reshape(wanted.shape) - wanted).max(), np.abs(wanted).max()
    if not off <= TOLERANCE * largest:
        raise ParityError(f"study sparse: {program.name} is off by {off:.2g}; the dense product reaches {largest:.2g}")


def _by_pattern(exact: Mapping[str, tuple[str, float]]) -> dict[str, dict[str, float]]:
    """Patterns that were timed at several densities: their labels, and the density of each."""
    found: dict[str, dict[str, float]] = {}
    for label, (pattern, density) in exact.items():
        found.setdefault(pattern, {})[label] = density
    return {pattern: labels for pattern, labels in found.items() if len(labels) > 1}


def _crossing_table(crossings: Mapping[tuple[int, int], Mapping[str, Crossing]]) -> Table:
    return Table(
        title="Density of equal times",
        columns=("channels", "side", "weights", "density", "low", "high"),
        rows=tuple((c, side, pattern, *found) for (c, side), of in crossings.items() for pattern, found in of.items()),
        source="below it the fastest product of such weights beats the fastest dense layer; 95 % interval; 0: none "
        "that was tried does, 1: all do",
    )


def _fastest(table: Table, density: float) -> tuple[float, float, float]:
    """How many times the time of the fastest product at about this density the dense layer takes."""
    near = min(table.column("density"), key=lambda each: abs(each - density))
    rows = zip(*(table.where(density=near).column(name) for name in ("x time", "low", "high")), strict=True)
    return inverse(min(rows))


def _percent(density: float) -> str:
    ends = {0.0: f"under {100 * DENSITIES[0]:g} %", 1.0: f"over {100 * DENSITIES[-1]:g} %"}
    return ends.get(density, f"{100 * density:.2g} %")
