"""Ghost modules (Han et al. 2020, arXiv:1911.11907, section 4.1.1, tables 3 to 5): how many ghosts, and made how.

A residual network for CIFAR of 7 convolutions of 3x3 and total stride 8, plain, thinner, and of Ghost modules.
"""

from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple

from torch import nn

from swiftlet.layers.conv_bn import conv_bn
from swiftlet.layers.ghost import GhostModule
from swiftlet.layers.init import init_weights
from swiftlet.study.chart import Line, dodged, legend
from swiftlet.study.finding import Effect, Finding, Table
from swiftlet.study.trial import Arm
from swiftlet.study.trials import Lab, judge_gain
from swiftlet.zoo.ghost_cifar import GhostBasicBlock

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE = 32
CHANNELS = (16, 32, 64)  # of the three stages, of one block each; the stem, the second and the third halve the sides
THIN = (12, 22, 45)  # plain, at the MACs of the Ghost network
PLAIN, THINNER, GHOST = "plain", "plain, thinner", "s=2, d=3"


class Kind(NamedTuple):
    """How its layers are made: the paper's s and d, and the cheap operation.

    Beside those of GhostModule: "copies" of the primary maps, and "grouped", a 1x1 convolution in groups of GROUP.
    """

    ratio: int = 2
    kernel: Literal[1, 3, 5, 7] = 3
    cheap: Literal["depthwise", "shift", "linear", "copies", "grouped"] = "depthwise"
    channels: tuple[int, int, int] = CHANNELS


GROUP = 4  # primary maps that "grouped" ghosts are made of
ARMS = {
    PLAIN: Kind(ratio=1),
    THINNER: Kind(ratio=1, channels=THIN),
    GHOST: Kind(),
    "s=3, d=3": Kind(ratio=3),
    "s=4, d=3": Kind(ratio=4),
    "s=5, d=3": Kind(ratio=5),
    "s=2, d=1": Kind(kernel=1),
    "s=2, d=5": Kind(kernel=5),
    "s=2, d=7": Kind(kernel=7),
    "copies": Kind(cheap="copies"),
    "shifts": Kind(cheap="shift"),
    "cosines": Kind(cheap="linear"),
    "1x1 in groups": Kind(cheap="grouped"),
}
PANELS = {
    "ratio s, d=3": {"1": PLAIN, "2": GHOST, "3": "s=3, d=3", "4": "s=4, d=3", "5": "s=5, d=3"},
    "kernel d, s=2": {"1": "s=2, d=1", "3": GHOST, "5": "s=2, d=5", "7": "s=2, d=7"},
    "cheap operation, s=2": {
        "learned\n3x3": GHOST,
        "learned\n1x1": "s=2, d=1",
        "1x1 in\ngroups": "1x1 in groups",
        "cosines": "cosines",
        "shifts": "shifts",
        "copies": "copies",
        "thinner,\nplain": THINNER,
    },
}

PUBLISHED = (
    Table(
        title="GhostNet, tables 3 and 4: Ghost-VGG-16",
        columns=("s", "d", "million MACs", "CIFAR-10 accuracy %", "points over plain"),
        rows=(
            (1, None, 313, 93.6, None),
            (2, 3, 158, 93.7, 0.1),
            (3, 3, 107, 93.4, -0.2),
            (4, 3, 80, 93.0, -0.6),
            (5, 3, 65, 92.9, -0.7),
            (2, 1, 157, 93.5, -0.1),
            (2, 5, 160, 93.4, -0.2),
            (2, 7, 163, 93.1, -0.5),
        ),
        source="CIFAR-10, one network each",
    ),
    Table(
        title="GhostNet, table 5: ResNet-56",
        columns=("network", "million MACs", "CIFAR-10 accuracy %"),
        rows=(("ResNet-56", 125, 93.0), ("Ghost-ResNet-56, s=2", 63, 92.7), ("AMC-ResNet-56", 63, 91.9),
              ("CP-ResNet-56", 63, 92.0)),
        source="CIFAR-10; AMC and CP are pruned; a plain network of 63 million MACs is not among them",
    ),
)  # fmt: skip


def run(lab: Lab) -> Finding:
    """The verdict is about s=2, d=3 against the plain network that is thinned to the same MACs."""
    trials = lab.trials([Arm(label, partial(network, label)) for label in ARMS], side=SIDE)
    over_thinner, over_plain = trials.gain(GHOST, over=THINNER), trials.gain(GHOST, over=PLAIN)
    over_copies = trials.gain(GHOST, over="copies")
    share = trials.macs[GHOST] / trials.macs[PLAIN]
    return Finding(
        study="ghost",
        title="Ghost modules: how many ghosts, and made how",
        claim="With Ghost modules (s=2, d=3) half of the MACs are saved at almost no loss, so they beat a network that "
        "is thinned to the same MACs.",
        verdict=judge_gain(over_thinner),
        sentence=f"On {trials.data}, the Ghost network is {over_thinner} points above the plain one of the same MACs, "
        f"and {over_plain} above the plain one of all channels at {share:.2f}x its MACs; learned ghosts are "
        f"{over_copies} above copies.",
        effect=Effect(
            "accuracy", "Make half of the maps of the others by cheap filters rather than have fewer.", *over_thinner
        ),
        measured=(
            trials.table("Against the plain network", over=PLAIN),
            trials.table("Against the thinner plain network", over=THINNER),
        ),
        published=PUBLISHED,
        notes=(
            "The paper compares with the plain network and with pruned ones. The question for who chooses a network is "
            "what the same MACs would give without ghosts, so the verdict is about that.",
            "d=1 is an affine map of each primary map, since BatchNorm follows. Cosines and shifts are filters of 3x3 "
            "that are not learned; copies cost nothing and say nothing new. Where s does not divide the channels some "
            "ghosts are made in vain.",
            trials.note,
        ),
    )


def draw(finding: Finding, figure: "Figure") -> None:
    """Points over the plain network: by s, by d, by the cheap operation; the paper's beside."""
    table, vgg = finding.measured[0], finding.published[0]
    figure.set_size_inches(12, 5)
    panels = figure.subplots(1, 3, sharey=True, width_ratios=(5, 4, 7))
    for axes, (title, arms) in zip(panels, PANELS.items(), strict=True):
        rows = [table.where(arm=label).rows[0] for label in arms.values()]
        middle, low, high = (
            [0.0 if row[place] is None else float(str(row[place])) for row in rows] for place in (3, 4, 5)
        )
        theirs: list[float | None] = []
        if title.startswith("ratio"):
            theirs = [0.0, *(vgg.where(s=s, d=3).column("points over plain")[0] for s in (2, 3, 4, 5))]
        elif title.startswith("kernel"):
            theirs = [vgg.where(s=2, d=d).column("points over plain")[0] for d in (1, 3, 5, 7)]
        dodged(axes, list(arms), [Line("here", middle, low, high), Line("Ghost-VGG-16, published", theirs)])
        axes.axhline(0, color="#888888", linewidth=1, zorder=0)
        axes.set_title(title)
    panels[0].set_ylabel("points over the plain network")
    panels[2].tick_params(axis="x", labelsize="small")
    legend(figure, *panels)


def network(label: str, *, num_classes: int) -> nn.Module:
    """(B, 3, H, W) -> (B, num_classes) logits: the arm of that name."""
    kind = ARMS[label]
    cheap = kind.cheap if kind.cheap in ("shift", "linear") else "depthwise"
    ghost = partial(GhostModule, primary_kernel=3, ratio=kind.ratio, kernel=kind.kernel, cheap=cheap)
    stem, c, blocks = ghost(3, kind.channels[0], stride=2), kind.channels[0], []
    for c_out in kind.channels:
        blocks.append(GhostBasicBlock(ghost, c, c_out, 1 if c_out == c else 2))
        c = c_out
    model = nn.Sequential(
        OrderedDict(
            stem=stem,
            blocks=nn.Sequential(*blocks),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            classifier=nn.Linear(c, num_classes),
        )
    )
    if kind.cheap in ("copies", "grouped"):
        for module in [module for module in model.modules() if isinstance(module, GhostModule)]:
            module.cheap = nn.Sequential() if kind.cheap == "copies" else _grouped(module)
    init_weights(model)
    return model


def _grouped(module: GhostModule) -> nn.Sequential:
    """As many ghosts as before, each made of GROUP primary maps by a 1x1 convolution."""
    primary = module.primary[0]
    assert isinstance(module.primary, nn.Sequential) and isinstance(primary, nn.Conv2d)
    act = nn.ReLU if len(module.primary) > 2 else None
    return conv_bn(primary.out_channels, primary.out_channels, 1, groups=primary.out_channels // GROUP, act=act)
