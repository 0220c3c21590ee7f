"""Thin, shallow, or few pixels (MobileNet V1, sections 3.3 and 3.4, tables 5 to 7): where to save, at equal cost.

The network with fewer pixels is the reference. Thin and shallow ones get the width at which they cost what it costs,
once in multiply-adds and once in measured time.
"""

from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F

from swiftlet.layers.channels import make_divisible
from swiftlet.study.bench import Bench
from swiftlet.study.chart import Line, dodged, legend
from swiftlet.study.finding import Effect, Finding, Table
from swiftlet.study.trained.equal import BOTH, Network, match, price_table
from swiftlet.study.trial import Arm
from swiftlet.study.trials import Lab, judge_gain
from swiftlet.zoo import create_model
from swiftlet.zoo.scale import scale_width

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE, FEW = 32, 24
WIDTH = 0.25  # of the whole network and of the one with few pixels
MULTIPLE = 4  # of channels: in between, depthwise convolutions take several times as long (study staircase)
WIDTHS = {"thin": (0.1, 0.22), "shallow": (0.2, 0.32)}  # lowest and highest
STEP = 0.004
WHOLE, PIXELS = "whole", f"{FEW} pixels"

PUBLISHED = Table(
    title="MobileNet V1, tables 5 to 7",
    columns=("network", "million MACs", "ImageNet top-1", "points over whole"),
    rows=(
        ("whole", 569, 70.6, None),
        ("thin, width 0.75", 325, 68.4, -2.2),
        ("shallow, without five layers of 512", 307, 65.3, -5.3),
        ("160 pixels for 224", 290, 67.2, -3.4),
    ),
    source="one network each; no times are printed",
)


def run(bench: Bench, lab: Lab) -> Finding:
    """The verdict is about thin against shallow at equal MACs."""
    few = Network(PIXELS, partial(network, WIDTH), FEW)
    whole = Network(WHOLE, few.build, SIDE)
    kinds = {
        shape: [
            Network(f"{shape}, width {width:g}", partial(network, width, shallow=shape == "shallow"), SIDE)
            for width in (widths(shape)[::12] if lab.quick else widths(shape))
        ]
        for shape in WIDTHS
    }
    matched = match(bench, lab, few, kinds, [whole])
    arms = [Arm(WHOLE, whole.build), Arm(PIXELS, partial(with_fewer_pixels, WIDTH, FEW))]
    arms += [Arm(each.label, each.build) for kind in kinds.values() for each in kind if each.label in matched.prices]
    best = matched.labels
    trials = lab.trials(arms, side=SIDE)
    gains = {by: trials.gain(best["thin"][by], over=best["shallow"][by]) for by in BOTH}
    pixels = trials.gain(PIXELS, over=best["thin"]["MACs"])
    return Finding(
        study="thin-or-shallow",
        title="Thin, shallow or few pixels",
        claim="At equal MACs a thinner MobileNet V1 is more accurate than a shallower one (68.4 against 65.3 %).",
        verdict=judge_gain(gains["MACs"]),
        sentence=f"On {trials.data}, at equal MACs the thin network is {gains['MACs']} points above the shallow one, "
        f"at equal ms on {bench.runtimes[0]} {gains['ms']}; the one that sees {FEW} instead of {SIDE} pixels is "
        f"{pixels} above the thin one at equal MACs.",
        effect=Effect("accuracy", "Make a network thinner rather than shallower.", *gains["MACs"]),
        measured=(trials.table("Accuracy", over=WHOLE), price_table(bench, matched, PIXELS)),
        published=(PUBLISHED,),
        notes=(
            f"The shallow network lacks the five layers of 512 channels, and is so much wider that it costs the same. "
            f"The paper's has the width of the whole one, and 6 % fewer MACs than its thin one. The whole network "
            f"has width {WIDTH:g} and a first convolution of stride 1; all channels are multiples of {MULTIPLE}.",
            f"The network that sees {FEW} pixels makes them itself, with a linear, antialiased filter, from the views "
            f"of {SIDE} that all others see. That is neither counted nor timed: smaller pictures would come so.",
            *matched.notes,
            trials.note,
        ),
    )


def draw(finding: Finding, figure: "Figure") -> None:
    """Points lost against the whole network, at equal MACs beside the paper's, and at equal time."""
    accuracies, costs = finding.measured
    shapes = ("thin", "shallow", "fewer pixels")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, by in zip(panels, BOTH, strict=True):
        labels = [
            next(label for label, equal, *_ in costs.rows if str(label).startswith(shape) and by in str(equal))
            for shape in shapes[:2]
        ]
        rows = [accuracies.where(arm=label).rows[0] for label in (*labels, PIXELS)]
        middle, low, high = ([float(str(row[place])) for row in rows] for place in (3, 4, 5))
        published = PUBLISHED.column("points over whole")[1:] if by == "MACs" else []
        dodged(axes, shapes, [Line("here", middle, low, high), Line("published (ImageNet)", published)])
        axes.axhline(0, color="#888888", linewidth=1, zorder=0)
        axes.set_title(f"equal {by}")
    panels[0].set_ylabel("points over the whole network")
    legend(figure, *panels)


class FewerPixels(nn.Module):
    """(B, 3, H, W) -> what the network gives for the same pictures of side x side pixels."""

    def __init__(self, network: nn.Module, side: int) -> None:
        super().__init__()
        self.network, self.side = network, side

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, H, W)
        x = F.interpolate(x, size=(self.side, self.side), mode="bilinear", antialias=True)
        y: Tensor = self.network(x)
        return y


def widths(shape: str) -> list[float]:
    """From which the one that fits is chosen."""
    low, high = WIDTHS[shape]
    return [round(low + i * STEP, 4) for i in range(round((high - low) / STEP) + 1)]


def network(width: float, *, num_classes: int, shallow: bool = False) -> nn.Module:
    """MobileNet V1 with a first convolution of stride 1, all channels multiples of MULTIPLE."""
    full = create_model("mobilenet_v1", shallow=shallow, stem_stride=1, num_classes=num_classes)
    return scale_width(full, width, rounding=partial(make_divisible, divisor=MULTIPLE))


def with_fewer_pixels(width: float, side: int, *, num_classes: int) -> nn.Module:
    """The same, which makes its pictures smaller first."""
    return FewerPixels(network(width, num_classes=num_classes), side)
