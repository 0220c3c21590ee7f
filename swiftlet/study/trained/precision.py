"""Accuracy against bytes, from 32 bits to 2 (Han et al. 2016, "Deep Compression", sections 3 and 5.2 and table 6).

Two small networks are trained; each is then converted in every way that there is, without further training, and at few
bits with it. Bytes are those of the file that would be delivered, and of its container (docs/pack.md).
"""

import copy
import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, get_args

from torch import nn

from swiftlet.compress.half import Half, to_half
from swiftlet.compress.quantize import quantize
from swiftlet.compress.reparameterize import deployed
from swiftlet.compress.share import finished, share
from swiftlet.compress.weight_only import weight_only
from swiftlet.export.half import half_weights
from swiftlet.export.onnx import export_onnx
from swiftlet.pack.onnx import pack_onnx
from swiftlet.quantizing import Calibration, trained
from swiftlet.study.chart import COLOURS, MARKERS, Line, dodged, legend, plain_log
from swiftlet.study.finding import Cell, Effect, Finding, Table
from swiftlet.study.trial import RECIPE, Arm, Figures, Lesson
from swiftlet.study.trials import Gain, Lab, Trials, gain, judge_gain
from swiftlet.train.loop import Training
from swiftlet.zoo import create_model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE = 32
NETWORKS = {
    "MobileNet V1 0.25": partial(create_model, "mobilenet_v1", width=0.25, stem_stride=1),
    "ResNet-20 0.5": partial(create_model, "resnet20", width=0.5),
}
JUDGED, OTHER = NETWORKS
FLOAT, INTEGER, FURTHER = "float32", "int8", "float32, further"
BITS = (8, 6, 5, 4, 3, 2)  # of weights, on even steps
SHARED_BITS = (8, 5, 4, 2)  # by k-means, as in the paper
TRAINED_BITS = (4, 2)
CALIBRATED = 256  # pictures
STEPS, QUICK_STEPS = 200, 2
FOLDED = replace(RECIPE, name="study, folded", lr=0.005)  # without BatchNorm a twentieth of the rate (compress/qat.py)
MARGIN = 0.5  # points that count as no loss

PUBLISHED = Table(
    title="Deep Compression, table 6: AlexNet",
    columns=("bits of convolutions", "bits of fully connected layers", "top-1 error %", "top-5 error %"),
    rows=((32, 32, 42.78, 19.73), (8, 5, 42.78, 19.70), (8, 4, 42.79, 19.73), (4, 2, 44.77, 22.33)),
    source="ImageNet; pruned, weights shared by k-means in each layer and trained on; activations stay float",
)


def run(lab: Lab) -> Finding:
    """The verdict is about int8, weights and activations, of the MobileNet against its float file."""
    look = partial(measure, QUICK_STEPS if lab.quick else STEPS)
    trials = lab.trials([Arm(name, build, measure=look) for name, build in NETWORKS.items()], side=SIDE)
    judged, other = (lost(trials, name, INTEGER) for name in NETWORKS)
    smaller = _smaller(trials, JUDGED, INTEGER)
    return Finding(
        study="precision",
        title="Accuracy against bytes, from 32 bits to 2",
        claim="Weights and activations of 8 bits lose less than half a point.",
        verdict=judge_gain(judged, at_least=-MARGIN),
        sentence=f"On {trials.data}, int8 changes {JUDGED} by {judged} points and {OTHER} by {other}. {cliff(trials)}.",
        effect=Effect("size", "Deliver int8 instead of float32.", *smaller),
        measured=tuple(_table(trials, name) for name in NETWORKS),
        published=(PUBLISHED,),
        notes=(
            trials.small,
            f'"Holds" means: the whole interval lies above -{MARGIN:g} points.',
            "Weights of n bits: one grid of even steps for each output channel. Shared: 2^n values in each layer, by "
            "k-means, which the paper then trains on. Arithmetic of both is in float32.",
            f"int8 rounds activations as well, calibrated on {CALIBRATED} training pictures. Trained: {STEPS} steps "
            "with n-bit weights and 8-bit activations, on top of --minutes; the float network got as many.",
            "Accuracies are of the networks that compute as the files do (tests hold files and networks together).",
        ),
    )


def draw(finding: Finding, figure: "Figure") -> None:
    """Points against float32 of each precision, and accuracy over the bytes of the container."""
    figure.set_size_inches(11, 5.5)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    tables = {table.title: table for table in finding.measured}
    names = [name for name in tables[JUDGED].column("precision") if name != FLOAT]
    lines = []
    for title, table in tables.items():
        rows = [table.where(precision=name) for name in names]
        lines.append(Line(title, *([row.column(what)[0] for row in rows] for what in ("points", "low", "high"))))
    dodged(left, names, lines)
    left.tick_params(axis="x", rotation=90)
    left.axhline(0, color="#888888", linewidth=1, zorder=0)
    left.set_ylabel("points against float32, 95 % interval")
    for place, (title, table) in enumerate(tables.items()):
        look = {"color": COLOURS[place], "marker": MARKERS[place], "label": title}
        right.plot(table.column("packed KB"), table.column("accuracy %"), linestyle="none", **look)
        for name in (FLOAT, INTEGER, *map(weights, (4, 2)), *map(after, TRAINED_BITS)):
            row = table.where(precision=name)
            at = row.column("packed KB")[0], row.column("accuracy %")[0]
            crowded = name in (weights(4), after(4))  # by int8 on their right
            away, side = ((-4, -2), "right") if crowded else ((4, 3), "left")
            right.annotate(name, at, textcoords="offset points", xytext=away, ha=side, fontsize="x-small")
    plain_log(right, "x")
    right.margins(x=0.2)
    right.set(xlabel="KB of the container", ylabel="accuracy %")
    right.grid(alpha=0.3)
    legend(figure, left)


def measure(steps: int, model: nn.Module, lesson: Lesson) -> Figures:
    """For each precision its accuracy, and the kilobytes of its file and of that file packed."""
    plain, _ = deployed(model)
    on = Calibration(lesson.sample(CALIBRATED), lesson.contract)
    found: Figures = {}

    def note(name: str, network: nn.Module, file: bytes | None = None) -> None:
        file = export_onnx(network, lesson.contract) if file is None else file
        found[f"{name} accuracy"] = lesson.percent(network)
        found[f"{name} KB"], found[f"{name} packed KB"] = len(file) / 1000, len(pack_onnx(file)) / 1000

    def teach(network: nn.Module) -> None:
        train = lesson.pictures("train")
        training = Training(network.requires_grad_(), train, lesson.contract, FOLDED, steps=steps, seed=0)
        training.run()
        network.load_state_dict(training.delivered())
        network.eval()

    float_file = export_onnx(plain, lesson.contract)
    note(FLOAT, plain, float_file)
    for kind in get_args(Half):
        note(kind, to_half(plain, kind)[0], half_weights(float_file, kind))
    note(INTEGER, quantize(plain, on.images, **on.grid)[0])
    for bits in BITS:
        note(weights(bits), weight_only(plain, bits=bits)[0])
    for bits in SHARED_BITS:
        note(shared(bits), finished(share(plain, bits)[0])[0])
    further = copy.deepcopy(plain)
    teach(further)
    note(FURTHER, further)
    for bits in TRAINED_BITS:
        note(after(bits), trained(plain, on, teach, bits=bits)[0])
    return found


def precisions() -> tuple[str, ...]:
    """In the order of `measure`."""
    return (
        FLOAT,
        *get_args(Half),
        INTEGER,
        *map(weights, BITS),
        *map(shared, SHARED_BITS),
        FURTHER,
        *map(after, TRAINED_BITS),
    )


def weights(bits: int) -> str:
    return f"weights {bits} bits"


def shared(bits: int) -> str:
    return f"shared {bits} bits"


def after(bits: int) -> str:
    return f"trained {bits} bits"


def lost(trials: Trials, network: str, precision: str) -> Gain:
    """Points against the float file; of what was trained on, against the float network that was trained on as well."""
    reference = FURTHER if precision in map(after, TRAINED_BITS) else FLOAT
    return gain(trials.of(network, f"{reference} accuracy"), trials.of(network, f"{precision} accuracy"))


def cliff(trials: Trials) -> str:
    """Down to how many bits of a weight less than MARGIN points are lost in the mean, without and with training."""
    told = []
    for network in NETWORKS:
        safe = _safe([lost(trials, network, weights(bits)).mean for bits in BITS])
        two, taught = (lost(trials, network, name(2)).mean for name in (weights, after))
        told.append(f"{network} {safe} (at 2 bits {two:+.1f}, trained {taught:+.1f})")
    return f"Weights alone stay within {MARGIN:g} points: {'; '.join(told)}"


def _safe(means: Sequence[float]) -> str:
    """means: of BITS, from many bits to few."""
    kept = 0
    while kept < len(BITS) and means[kept] > -MARGIN:
        kept += 1
    return f"down to {BITS[kept - 1]} bits" if kept else f"not even at {BITS[0]} bits"


def _smaller(trials: Trials, network: str, precision: str) -> tuple[float, float, float]:
    """How many times the bytes of its container the float network takes."""
    logs = [[math.log(size) for size in trials.of(network, f"{name} packed KB")] for name in (precision, FLOAT)]
    middle, low, high = gain(*logs)
    return math.exp(middle), math.exp(low), math.exp(high)


def _table(trials: Trials, network: str) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for name in precisions():
        seeds, size, packed = (trials.of(network, f"{name} {what}") for what in ("accuracy", "KB", "packed KB"))
        against = (None, None, None) if name == FLOAT else tuple(round(x, 2) for x in lost(trials, network, name))
        shown = ", ".join(f"{seed:.2f}" for seed in seeds)
        sizes = (round(statistics.mean(each), 1) for each in (size, packed))
        rows.append((name, round(statistics.mean(seeds), 2), *against, *sizes, shown))
    return Table(
        title=network,
        columns=("precision", "accuracy %", "points", "low", "high", "KB", "packed KB", "each seed %"),
        rows=tuple(rows),
        source=f"{trials.data}: {trials.pictures[1]:,} validation photos, {trials.steps:,} steps on "
        f"{trials.pictures[0]:,} others; points against {FLOAT}, of what was trained on against {FURTHER}, seed by "
        "seed, with 95 % intervals by Student's t; KB: the ONNX file, and its container, means of the seeds",
    )
