"""What a separable convolution is made of (Xception, sections 1.2, 4.7 and 5, figure 10).

Depthwise or pointwise first; nothing, ReLU or ELU between the two; and between Inception and Xception: how many
segments the spatial convolution behind a 1x1 has, from one, a plain convolution, to as many as channels.
"""

import math
import statistics
from functools import partial
from typing import TYPE_CHECKING

from torch import nn

from swiftlet.layers.conv_bn import conv_bn
from swiftlet.layers.init import init_weights
from swiftlet.study.chart import COLOURS, MARKERS
from swiftlet.study.finding import Effect, Finding, Table
from swiftlet.study.trained.claims import comparisons, draw_comparisons
from swiftlet.study.trial import Arm, Figures, Lesson
from swiftlet.study.trials import Lab, Trials, average, gain, judge_gain
from swiftlet.train.loop import accuracy
from swiftlet.zoo.xception import Block, separable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE = 24
# channels: of the stem, of two strided blocks, of the last convolution. By segments, so that all have as many MACs
CHANNELS = {"all": (16, 32, 64, 128), 4: (8, 20, 36, 72), 1: (8, 10, 21, 40)}
MIDDLE = 2  # blocks of three convolutions that keep the shape; the paper has eight
ORDERS = ("depthwise first", "pointwise first")
BETWEEN: dict[str, type[nn.Module] | None] = {"none": None, "ReLU": nn.ReLU, "ELU": nn.ELU}
LOOKS, SEEN, PICTURES = 6, "accuracy so far", 1000
SEGMENTS = {1: "1 segment", 4: "4 segments"}

PUBLISHED = Table(
    title="Xception, sections 1.2, 4.7 and 5",
    columns=("what the paper says",),
    rows=(
        ("figure 10: without an activation between depthwise and pointwise, faster and better than with ReLU or ELU",),
        ("for Inception modules, where the 1x1 comes first, others had found the opposite",),
        ("which of the two comes first is unimportant, since they are stacked",),
        ("segments: a spectrum from plain to separable convolutions; Inception has three or four; not tried",),
    ),
    source="figure 10 shows curves on ImageNet over the steps; the paper prints no numbers",
)


def run(lab: Lab) -> Finding:
    """Two orders by three activations, two numbers of segments; the verdict is about figure 10, the final accuracy."""
    first, second = (
        {_label(order, act): partial(network, order=order, act=act) for act in BETWEEN} for order in ORDERS
    )
    arms = [Arm(label, build, measure=so_far, looks=LOOKS) for label, build in first.items()]
    arms += [Arm(label, build) for label, build in second.items()]
    arms += [Arm(label, partial(network, order=ORDERS[1], segments=count)) for count, label in SEGMENTS.items()]
    trials = lab.trials(arms, side=SIDE)
    over = {act: trials.gain(_label(ORDERS[0]), over=_label(ORDERS[0], act)) for act in ("ReLU", "ELU")}
    better = min(over, key=lambda act: over[act].mean)
    sooner = {act: gain(_whole(trials, act), _whole(trials, "none")) for act in over}
    order = gain(*(average(*(trials.of(_label(order, act)) for act in BETWEEN)) for order in ORDERS[::-1]))
    segments = {
        f"one per channel over {label}": trials.gain(_label(ORDERS[1]), over=label) for label in SEGMENTS.values()
    }
    compared = comparisons(
        {
            f"none over {better}": over[better],
            **{f"none over {act}": over[act] for act in over if act != better},
            **{f"none over {act}, mean of the course": sooner[act] for act in over},
            **{
                f"none over {act}, pointwise first": trials.gain(_label(ORDERS[1]), over=_label(ORDERS[1], act))
                for act in over
            },
            "depthwise first over pointwise first": order,
            **segments,
        }
    )
    return Finding(
        study="xception-order",
        title="Separable convolutions: order, activation between, segments",
        claim="No activation between depthwise and pointwise is more accurate than ReLU or ELU (Xception, figure 10).",
        verdict=judge_gain(over[better]),
        sentence=f"On {trials.data}, a small Xception without activation between depthwise and pointwise is "
        f"{over['ReLU']} points above the one with ReLU and {over['ELU']} above the one with ELU. Depthwise first is "
        f"{order} points above pointwise first; at equal MACs, "
        f"{', '.join(f'{name} {gained}' for name, gained in segments.items())}.",
        effect=Effect(
            "accuracy", "Put no activation between a depthwise convolution and its pointwise one.", *over[better]
        ),
        measured=(trials.table("Order, activation, segments", over=_label(ORDERS[0])), compared, _course(trials)),
        published=(PUBLISHED,),
        notes=(
            trials.note,
            "The verdict is against the better one of ReLU and ELU. The mean of the course is that of the accuracy at "
            f"{LOOKS} moments of the training, and tells who learns faster.",
            "Networks with few segments are narrower, so that they have about as many MACs as the others with the "
            "pointwise first. These have 4 % more than those with the depthwise first, since the 3x3 sees the channels "
            "that come out.",
        ),
    )


def draw(finding: Finding, figure: "Figure") -> None:
    """Figure 10 with these networks, and the comparisons."""
    _, compared, course = finding.measured
    left, right = figure.subplots(1, 2, width_ratios=(3, 4))
    for act, colour, marker in zip(BETWEEN, COLOURS, MARKERS, strict=False):
        mine = course.where(between=act)
        left.plot(mine.column("steps %"), mine.column("accuracy %"), f"{marker}-", color=colour, label=act)
    left.set(xlabel="steps %", ylabel="accuracy % so far, mean of the seeds", title=f"{ORDERS[0]}, between the two:")
    left.legend(frameon=False)
    left.grid(alpha=0.3)
    draw_comparisons(compared, right)


def network(*, num_classes: int, order: str, act: str = "none", segments: int | None = None) -> nn.Module:
    """Xception in small: its blocks, two strided and MIDDLE others, with this convolution in place of the separable.

    (B, 3, S, S) -> (B, num_classes). segments: of the spatial convolution when pointwise comes first, None for one per
    channel.
    """
    stem, first, second, last = CHANNELS["all" if segments is None else segments]
    model = nn.Sequential(
        conv_bn(3, stem, 3),
        Block(stem, [first] * 2, 2, leading_relu=False),
        Block(first, [second] * 2, 2, leading_relu=True),
        *(Block(second, [second] * 3, 1, leading_relu=True) for _ in range(MIDDLE)),
        separable(second, last),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(last, num_classes),
    )
    for path, part in list(model.named_modules()):
        if hasattr(part, "depthwise"):
            c_in, c_out = part.depthwise.in_channels, part.pointwise.out_channels
            model.set_submodule(path, _convolution(c_in, c_out, order, BETWEEN[act], segments))
    init_weights(model)
    return model


def so_far(model: nn.Module, lesson: Lesson) -> Figures:
    """Accuracy in % on a part of the validation photos."""
    photos = lesson.pictures("val")
    some = slice(None, None, math.ceil(len(photos.labels) / PICTURES))
    return {SEEN: 100 * accuracy(model, photos.pixels[some], photos.labels[some], lesson.contract)}


def _convolution(c_in: int, c_out: int, order: str, act: type[nn.Module] | None, segments: int | None) -> nn.Sequential:
    """(B, c_in, H, W) -> (B, c_out, H, W): pointwise and spatial in this order, BatchNorm behind them."""
    pointwise = nn.Conv2d(c_in, c_out, 1, bias=False)
    c = c_in if order == ORDERS[0] else c_out
    spatial = nn.Conv2d(c, c, 3, padding=1, groups=segments or c, bias=False)
    before, behind = (spatial, pointwise) if order == ORDERS[0] else (pointwise, spatial)
    between = [] if act is None else [act()]
    return nn.Sequential(before, *between, behind, nn.BatchNorm2d(c_out))


def _label(order: str, act: str = "none") -> str:
    return f"{order}, {act}"


def _whole(trials: Trials, act: str) -> list[float]:
    """The mean of the course, seed by seed."""
    return [statistics.mean(seed) for seed in trials.course(_label(ORDERS[0], act), SEEN, LOOKS)]


def _course(trials: Trials) -> Table:
    return Table(
        title="The course",
        columns=("between", "steps %", "accuracy %"),
        rows=tuple(
            (act, round(100 * k / LOOKS, 1), round(statistics.mean(seeds), 2))
            for act in BETWEEN
            for k, seeds in enumerate(zip(*trials.course(_label(ORDERS[0], act), SEEN, LOOKS), strict=True), 1)
        ),
        source=f"{ORDERS[0]}; mean of the seeds on at most {PICTURES:,} validation photos, weights not averaged",
    )
