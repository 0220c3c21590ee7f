"""Bypass connections (SqueezeNet, section 6, figure 2 and table 3): none, simple, complex; with BatchNorm too."""

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import nn

from swiftlet.layers.init import init_plain
from swiftlet.study.chart import COLOURS
from swiftlet.study.finding import Effect, Finding, Table
from swiftlet.study.trained.claims import comparisons, draw_comparisons
from swiftlet.study.trial import RECIPE, Arm
from swiftlet.study.trial_chart import draw_seeds
from swiftlet.study.trials import Lab, judge_gain
from swiftlet.zoo import create_model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE, WIDTH = 24, 0.25
KINDS = ("none", "simple", "complex")
# without BatchNorm it does not learn at RECIPE's rate, and slowly at lower ones
PLAIN = replace(RECIPE, optimizer="adamw", lr=0.003, square_decay=0.99, weight_decay=0.02)

PUBLISHED = Table(
    title="SqueezeNet, table 3",
    columns=("bypass", "top-1 %", "top-5 %", "model MB"),
    rows=(("none", 57.5, 80.3, 4.8), ("simple", 60.4, 82.5, 4.8), ("complex", 58.8, 82.0, None)),
    source="ImageNet, by a transcription. The size that it prints for complex, 7.7 MB, is not what counting gives: "
    "1.59 M parameters, 6.4 MB",
)


def run(lab: Lab) -> Finding:
    """Three kinds in the paper's network and in one with BatchNorm; the verdict is about simple in the paper's."""
    arms = [Arm(kind, partial(plain, kind), PLAIN) for kind in KINDS]
    arms += [Arm(_normalised(kind), partial(normalised, kind)) for kind in KINDS]
    trials = lab.trials(arms, side=SIDE)
    simple, complex_ = (trials.gain(kind, over="none") for kind in KINDS[1:])
    with_norm = {kind: trials.gain(_normalised(kind), over=_normalised("none")) for kind in KINDS[1:]}
    compared = comparisons(
        {
            "simple over none": simple,
            "complex over none": complex_,
            "simple over complex": trials.gain("simple", over="complex"),
            **{f"{kind} over none, BatchNorm": gain for kind, gain in with_norm.items()},
        }
    )
    return Finding(
        study="bypass",
        title="Bypass around Fire modules",
        claim="A simple bypass makes SqueezeNet more accurate, by 2.9 points on ImageNet.",
        verdict=judge_gain(simple),
        sentence=f"On {trials.data}, the simple bypass gains SqueezeNet 1.0 at width {WIDTH:g} {simple} points and the "
        f"complex one {complex_}; with BatchNorm in its Fire modules {with_norm['simple']} and {with_norm['complex']}.",
        effect=Effect("accuracy", "Add a module's input to its output wherever both have as many channels.", *simple),
        measured=(trials.table("Bypass", over="none"), compared),
        published=(PUBLISHED,),
        notes=(
            trials.note,
            f"SqueezeNet has no BatchNorm. So the first three arms are trained by AdamW at {PLAIN.lr:g}, from initial "
            f"values by fan-in, the others by SGD at {RECIPE.lr:g}. No arm has the printed ReLU behind conv10.",
            "The simple bypass adds no parameter. The complex one adds 1x1 convolutions, so its network is larger.",
        ),
    )


def draw(finding: Finding, figure: "Figure") -> None:
    """Accuracy by bypass, without and with BatchNorm, and the comparisons."""
    table, compared = finding.measured
    left, right = figure.subplots(1, 2)
    places = range(len(KINDS))
    for colour, name, arms in (
        (COLOURS[0], "as printed", KINDS),
        (COLOURS[1], "with BatchNorm", [_normalised(kind) for kind in KINDS]),
    ):
        means = [draw_seeds(table, arm, place, left, colour) for place, arm in zip(places, arms, strict=True)]
        left.plot(places, means, "_", color=colour, markersize=20, label=name)
    left.set(
        xlabel="bypass", xticks=places, xticklabels=KINDS, xlim=(-0.5, 2.5), ylabel="accuracy %, each seed and the mean"
    )
    left.legend(frameon=False)
    left.grid(axis="y", alpha=0.3)
    draw_comparisons(compared, right)


def plain(bypass: str, *, num_classes: int) -> nn.Module:
    """SqueezeNet without BatchNorm, as printed, with initial values for such a network."""
    model = squeezenet(num_classes=num_classes, width=WIDTH, bypass=bypass)
    init_plain(model)
    return model


def normalised(bypass: str, *, num_classes: int) -> nn.Module:
    """The same with BatchNorm before every ReLU."""
    return with_batchnorm(squeezenet(num_classes=num_classes, width=WIDTH, bypass=bypass))


def squeezenet(*, num_classes: int, **arguments: Any) -> nn.Module:
    """SqueezeNet 1.0 for small pictures. conv10 has no ReLU: with one, ten classes are learned more slowly."""
    model = create_model("squeezenet1_0", small_input=True, num_classes=num_classes, **arguments)
    model.act = nn.Identity()
    return model


def with_batchnorm(model: nn.Module) -> nn.Module:
    """In place: BatchNorm between each convolution and its ReLU in conv1 and the Fire modules, instead of a bias."""
    for part in list(model.modules()):
        if isinstance(part, nn.Sequential) and [type(layer) for layer in part] == [nn.Conv2d, nn.ReLU]:
            convolution = part[0]
            assert isinstance(convolution, nn.Conv2d)
            convolution.bias = None
            part.insert(1, nn.BatchNorm2d(convolution.out_channels))
    return model


def _normalised(kind: str) -> str:
    return f"{kind}, BatchNorm"
