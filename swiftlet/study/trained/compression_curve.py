"""Accuracy against bytes of small networks that are pruned, shared and coded (Iandola et al. 2016, "SqueezeNet", table
2; Han et al. 2016, "Deep Compression").

A SqueezeNet and a MobileNet are trained. From each a network is made for every density: its weights are pruned while it
is trained on, BatchNorm is folded away, what is left shares 2^BITS values in each layer and is trained on once more,
all taught by the trained one. Bytes are those of the files that the paper describes, and of our container (pack/).
"""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import nn

from swiftlet.compress import share, sparsify
from swiftlet.compress.reparameterize import deployed
from swiftlet.pack.writer import pack_tensors
from swiftlet.study.chart import COLOURS, MARKERS, legend, plain_log
from swiftlet.study.finding import Cell, Effect, Finding, Table, Verdict
from swiftlet.study.trained.bypass import squeezenet, with_batchnorm
from swiftlet.study.trained.coded_size import file_bytes
from swiftlet.study.trial import RECIPE, Arm, Figures, Lesson
from swiftlet.study.trials import Gain, Lab, Trials, gain, judge_gain
from swiftlet.train.distill import Teacher
from swiftlet.train.loop import Training
from swiftlet.train.recipe import Recipe
from swiftlet.zoo import create_model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE = 24
DENSITIES = (1.0, 0.5, 0.33, 0.2, 0.1)  # of the weights, in the whole network; at 1 nothing is pruned: the control
BITS = 6  # of a weight, as in the smallest SqueezeNet of the paper
SMALLER, MARGIN = 10.0, 0.5  # times; points that are no loss
STEPS, QUICK_STEPS = 300, 4  # of pruning, and half as many of sharing
UNTIL = 0.6  # of the steps of pruning: the rest heals
PRUNING = replace(RECIPE, name="study, pruning", lr=0.05)
SHARING = replace(RECIPE, name="study, sharing", lr=0.005)  # without BatchNorm, which bears no more (compress/qat.py)
STAGES = ("floats", "pruned", "shared", "Huffman-coded", "container")

PUBLISHED = Table(
    title="SqueezeNet, table 2",
    columns=("network", "what was done", "model MB", "x smaller than AlexNet", "top-1 %", "top-5 %"),
    rows=(
        ("AlexNet", "none", 240, 1, 57.2, 80.3),
        ("AlexNet", "Deep Compression, 5 to 8 bits", 6.9, 35, 57.2, 80.3),
        ("SqueezeNet", "none", 4.8, 50, 57.5, 80.3),
        ("SqueezeNet", "Deep Compression, 8 bits, 33 % of the weights", 0.66, 363, 57.5, 80.3),
        ("SqueezeNet", "Deep Compression, 6 bits, 33 % of the weights", 0.47, 510, 57.5, 80.3),
    ),
    source="ImageNet; 4.8 MB to 0.47 MB are 10.2x",
)


def _squeezenet(*, num_classes: int) -> nn.Module:
    return with_batchnorm(squeezenet(num_classes=num_classes, width=0.25))


NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "SqueezeNet 0.25": _squeezenet,
    "MobileNet V1 0.25": partial(create_model, "mobilenet_v1", width=0.25, stem_stride=1),
}
JUDGED, OTHER = NETWORKS


class Point(NamedTuple):
    """A network at one density: points against the control, and how many times smaller than floats its container is."""

    density: float
    points: Gain
    smaller: float


def run(lab: Lab) -> Finding:
    """The verdict is about the densest SqueezeNet that is SMALLER times as small: whether it loses no MARGIN points."""
    look = partial(measure, QUICK_STEPS if lab.quick else STEPS)
    trials = lab.trials([Arm(name, build, measure=look) for name, build in NETWORKS.items()], side=SIDE)
    curves = {name: [point(trials, name, density) for density in DENSITIES] for name in NETWORKS}
    best = {name: lossless(curve) for name, curve in curves.items()}
    verdict, at = judged(curves[JUDGED])
    size = _ratio(trials, JUDGED, at.density)
    told = "; ".join(f"{name} {_told(found)}" for name, found in best.items())
    return Finding(
        study="compression-curve",
        title="Pruned, shared and coded: accuracy against bytes",
        claim=f"Deep Compression makes SqueezeNet {SMALLER:g} times smaller without a loss of accuracy (SqueezeNet).",
        verdict=verdict,
        sentence=f"On {trials.data}, {JUDGED} with {100 * at.density:g} % of its weights, in {BITS} bits each, is a "
        f"container {at.smaller:.1f}x smaller than its floats, at {at.points} points. Less than {MARGIN:g} points in "
        f"the mean are lost down to: {told}.",
        effect=Effect("size", f"Prune to {100 * at.density:g} %, share {BITS} bits and entropy-code.", *size),
        measured=tuple(_table(trials, name, curves[name]) for name in NETWORKS),
        published=(PUBLISHED,),
        notes=(
            trials.small,
            f'"Holds" means: at the largest density that is {SMALLER:g}x smaller, the whole interval lies above '
            f"-{MARGIN:g} points. Points are against the network that was trained on as long, without pruning and "
            "sharing. Where no density is that small, the verdict is about bytes, and the sentence about the smallest.",
            f"Pruning takes {STEPS} steps, sharing {STEPS // 2}, on top of --minutes; weights are ranked in the whole "
            "network at once (LAMP), so layers keep different shares.",
            "SqueezeNet has BatchNorm here until its weights are shared. The first layer and biases are shared too, in "
            f"{BITS} bits; all bytes count: codebooks, gaps, tables, names.",
        ),
    )


def measure(steps: int, model: nn.Module, lesson: Lesson) -> Figures:
    """For each density the accuracy of the pruned and of the shared network, and bytes after each stage."""
    model.eval()
    found: Figures = {f"{STAGES[0]} bytes": float(sum(t.nbytes for t in _tensors(deployed(model)[0]).values()))}
    for density in DENSITIES:
        if density < 1:
            network = sparsify.masked(model)
            further = sparsify.Gradual(network, 1 - density, scope="lamp", end=UNTIL, every=max(1, steps // 20))
            _taught(network, model, lesson, PRUNING, steps, further)
            pruned = deployed(sparsify.finished(network)[0])[0]
        else:
            network = sparsify.copied(model)
            _taught(network, model, lesson, PRUNING, steps)
            pruned = deployed(network)[0]
            control = sparsify.copied(pruned)
            _taught(control, model, lesson, SHARING, steps // 2)
            found["control accuracy"] = lesson.percent(control)
        sharing, _ = share.share(pruned, {name: BITS for name, _ in pruned.named_parameters()})
        _taught(sharing, model, lesson, SHARING, steps // 2)
        shared, _ = share.finished(sharing)
        found[_name(density, "pruned accuracy")] = lesson.percent(pruned)
        found[_name(density, "shared accuracy")] = lesson.percent(shared)
        before, after = _tensors(pruned), _tensors(shared)
        sizes = file_bytes(before, "pruned"), file_bytes(after, "shared"), file_bytes(after), len(pack_tensors(after))
        found |= {_name(density, f"{stage} bytes"): float(size) for stage, size in zip(STAGES[1:], sizes, strict=True)}
    return found


def point(trials: Trials, network: str, density: float) -> Point:
    """Of the shared network in its container."""
    points = gain(trials.of(network, "control accuracy"), trials.of(network, _name(density, "shared accuracy")))
    return Point(density, points, _ratio(trials, network, density)[0])


def judged(curve: Sequence[Point]) -> tuple[Verdict, Point]:
    """The verdict, and the point that it is about. curve: from dense to sparse."""
    enough = next((each for each in curve if each.smaller >= SMALLER), None)
    if enough is None:
        return "fails", max(curve, key=lambda each: each.smaller)
    return judge_gain(enough.points, at_least=-MARGIN), enough


def lossless(curve: Sequence[Point]) -> Point | None:
    """The smallest that loses less than MARGIN points in the mean."""
    kept = [each for each in curve if each.points.mean > -MARGIN]
    return max(kept, key=lambda each: each.smaller) if kept else None


def draw(finding: Finding, figure: "Figure") -> None:
    """What each stage leaves at the paper's density, and points lost against times smaller."""
    figure.set_size_inches(11, 5)
    left, right = figure.subplots(1, 2)
    for place, table in enumerate(finding.measured):
        look: dict[str, Any] = {"color": COLOURS[place], "marker": MARKERS[place], "label": table.title}
        (paper,) = [row for row in table.rows if row[0] == 33]
        sizes = [float(table.column(f"{stage} KB")[table.rows.index(paper)]) for stage in STAGES]
        left.plot(STAGES, sizes, **look)
        points, low, high = (table.column(name) for name in ("points", "low", "high"))
        spread = [[p - a for p, a in zip(points, low, strict=True)], [b - p for p, b in zip(points, high, strict=True)]]
        right.errorbar(table.column("x smaller"), points, yerr=spread, capsize=2, **look)
        for density, x, y in zip(table.column("density %"), table.column("x smaller"), points, strict=True):
            right.annotate(f"{density:g} %", (x, y), textcoords="offset points", xytext=(4, 4), fontsize="x-small")
    right.plot([10.2], [0], "x", color="black", label="SqueezeNet, published")
    right.axhline(0, color="#888888", linewidth=1, zorder=0)
    right.axhline(-MARGIN, color="#888888", linewidth=1, linestyle=":", zorder=0)
    plain_log(left, "y")
    plain_log(right, "x")
    left.set(ylabel="KB, with 33 % of the weights", xlabel="after the stage")
    left.tick_params(axis="x", rotation=20)
    right.set(xlabel="times smaller than floats; numbers are densities", ylabel="points against the control, 95 %")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    legend(figure, right)


def _taught(
    network: nn.Module,
    parent: nn.Module,
    lesson: Lesson,
    recipe: Recipe,
    steps: int,
    hook: sparsify.Gradual | None = None,
) -> None:
    """In place, by the network that it came from."""
    teacher = Teacher(sparsify.copied(parent), lesson.contract)
    pictures = lesson.pictures("train")
    network.requires_grad_()
    training = Training(network, pictures, lesson.contract, recipe, steps=steps, seed=0, teacher=teacher)
    training.run(progress=hook)
    network.load_state_dict(training.delivered())
    network.eval()


def _tensors(model: nn.Module) -> dict[str, npt.NDArray[np.float32]]:
    return {name: tensor.contiguous().numpy() for name, tensor in model.state_dict().items()}


def _name(density: float, what: str) -> str:
    return f"{density:g} {what}"


def _ratio(trials: Trials, network: str, density: float) -> tuple[float, float, float]:
    """How many times the bytes of its container the floats take: geometric mean over the seeds, and its interval."""
    names = (_name(density, f"{STAGES[-1]} bytes"), f"{STAGES[0]} bytes")
    logs = [[math.log(size) for size in trials.of(network, name)] for name in names]
    middle, low, high = gain(*logs)
    return math.exp(middle), math.exp(low), math.exp(high)


def _told(found: Point | None) -> str:
    if found is None:
        return "none"
    return f"{100 * found.density:g} % of the weights, {found.smaller:.1f}x smaller ({found.points.mean:+.2f})"


def _table(trials: Trials, network: str, curve: Sequence[Point]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for density, points, smaller in curve:
        accuracies = (
            statistics.mean(trials.of(network, _name(density, f"{stage} accuracy"))) for stage in ("pruned", "shared")
        )
        sizes = (
            statistics.mean(trials.of(network, f"{STAGES[0]} bytes" if i == 0 else _name(density, f"{stage} bytes")))
            for i, stage in enumerate(STAGES)
        )
        shown = ", ".join(f"{seed:.2f}" for seed in trials.of(network, _name(density, "shared accuracy")))
        rows.append(
            (
                round(100 * density),
                *(round(each, 2) for each in (*accuracies, *points)),
                *(round(size / 1000, 1) for size in sizes),
                round(smaller, 2),
                shown,
            )
        )
    control, dense = (statistics.mean(trials.of(network, name)) for name in ("control accuracy", "accuracy"))
    return Table(
        title=network,
        columns=(
            "density %", "pruned: accuracy %", "shared: accuracy %", "points", "low", "high",
            *(f"{stage} KB" for stage in STAGES), "x smaller", "each seed %",
        ),
        rows=tuple(rows),
        source=f"{trials.data}: {trials.pictures[1]:,} validation photos, {trials.steps:,} steps on "
        f"{trials.pictures[0]:,} others, which gave {dense:.2f} %; points of the shared network against the control, "
        f"{control:.2f} %, seed by seed, with 95 % intervals by Student's t; floats without BatchNorm; pruned: floats "
        "and gaps; shared: codes, gaps, codebooks; Huffman-coded: counted, with its tables; container: `swiftlet "
        "pack`'s; x smaller: floats over container",
    )  # fmt: skip
