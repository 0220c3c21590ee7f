"""The expansion factor t of inverted bottlenecks (MobileNet V2, section 4): 1 to 10, at equal MACs.

The paper compares curves of accuracy over MACs. So here a wider network has a smaller t: thin layers are scaled until
the MACs agree. They are not rounded to multiples of 8, which at these widths would shift the MACs by up to 17 %.
"""

from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING

from torch import nn

from swiftlet.layers.conv_bn import conv_bn
from swiftlet.layers.init import init_weights
from swiftlet.layers.inverted_residual import InvertedResidual
from swiftlet.study.chart import COLOURS, Line, dodged
from swiftlet.study.finding import Effect, Finding, Table, Verdict
from swiftlet.study.trained.claims import together
from swiftlet.study.trial import Arm
from swiftlet.study.trial_chart import draw_seeds
from swiftlet.study.trials import Gain, Lab
from swiftlet.zoo.mobilenet_v2 import ROWS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE = 32
WIDTHS = {1: 0.98, 2: 0.64, 4: 0.479, 6: 0.40, 8: 0.352, 10: 0.313}  # by t, for 5.0 million MACs
PAPERS, ALIKE = 6, (8, 10)  # t of the paper's networks; others that it finds nearly as good
MARGIN = 1.0  # points: what is nearer is nearly identical
LAST = 1280

PUBLISHED = Table(
    title="MobileNet V2, section 4",
    columns=("what the paper says",),
    rows=(
        ("t between 5 and 10 gives nearly identical performance curves;",),
        ("smaller networks do better with slightly smaller t, larger ones with slightly larger t",),
    ),
    source="ImageNet; the paper shows neither these curves nor their numbers",
)


def run(lab: Lab) -> Finding:
    """Six networks; the verdict is about t = 8 and 10 against 6, the others stand beside it."""
    arms = [Arm(label(t), partial(network, t)) for t in WIDTHS]
    trials = lab.trials(arms, side=SIDE)
    over_papers = {t: trials.gain(label(t), over=label(PAPERS)) for t in WIDTHS if t != PAPERS}
    alike = {t: over_papers[t] for t in ALIKE}
    without = trials.gain(label(PAPERS), over=label(1))
    return Finding(
        study="expansion",
        title="Expansion factors at equal MACs",
        claim="Expansion factors between 5 and 10 give nearly identical performance curves (MobileNet V2).",
        verdict=together([nearly_identical(gain) for gain in alike.values()]),
        sentence=f"On {trials.data}, at equal MACs, "
        f"{' and '.join(f't = {t} is {gain} points above t = {PAPERS}' for t, gain in alike.items())}; beyond that "
        f"range, {', '.join(f't = {t} is {over_papers[t]}' for t in WIDTHS if t < PAPERS)} above it.",
        effect=Effect("accuracy", f"Expand {PAPERS} times rather than not at all.", *without),
        measured=(trials.table("Expansion factors", over=label(PAPERS)),),
        published=(PUBLISHED,),
        notes=(
            trials.small,
            f'"Nearly identical" is made {MARGIN:g} point here: the claim holds if the whole intervals of t = 8 and 10 '
            f"against t = 6 lie within it on both sides, and fails if one of them lies beyond it.",
            "Smaller networks than the paper's: by its own words a slightly smaller t should suit them.",
            "At t = 1 there is no expanding convolution: that network has 36 convolutions, the others 52, and what it "
            "gains in so few steps may come from being less deep.",
        ),
    )


def draw(finding: Finding, figure: "Figure") -> None:
    """Accuracy over t, and what each t gains over the paper's; grey: what the paper, and what we, call alike."""
    (table,) = finding.measured
    left, right = figure.subplots(1, 2)
    means = [draw_seeds(table, label(t), t, left, COLOURS[0]) for t in WIDTHS]
    left.plot(list(WIDTHS), means, "_-", color=COLOURS[0], markersize=14)
    left.axvspan(5, 10, color="#eeeeee", zorder=0)
    left.set(xlabel="t, at equal MACs", ylabel="accuracy %, each seed and the mean", xticks=list(WIDTHS))
    left.grid(axis="y", alpha=0.3)
    others = [t for t in WIDTHS if t != PAPERS]
    gains = [table.where(arm=label(t)) for t in others]
    points, low, high = (
        [row.column(name)[0] for row in gains] for name in (f"points over {label(PAPERS)}", "low", "high")
    )
    dodged(right, [label(t) for t in others], [Line("here", points, low, high)])
    right.axhline(0, color="#888888", linewidth=1, zorder=0)
    right.axhspan(-MARGIN, MARGIN, color="#eeeeee", zorder=0)
    right.set_ylabel(f"points over {label(PAPERS)}, 95 % interval")


def nearly_identical(gain: Gain) -> Verdict:
    """Holds if the whole interval is nearer to 0 than MARGIN, fails if it lies beyond."""
    if max(abs(gain.low), abs(gain.high)) < MARGIN:
        return "holds"
    return "fails" if gain.low > MARGIN or gain.high < -MARGIN else "cannot tell"


def label(t: int) -> str:
    return f"t = {t}"


def network(t: int, *, num_classes: int) -> nn.Module:
    """MobileNet V2 for small pictures, its thin layers scaled so that this t has as many MACs as the others.

    As in the paper the first block does not expand, and the last convolution has 1280 channels.
    """
    c = _scaled(32, t)
    parts = OrderedDict[str, nn.Module](stem=conv_bn(3, c, 3, act=nn.ReLU6))
    blocks: list[nn.Module] = []
    for row, (_, channels, n, stride) in enumerate(ROWS):
        for i in range(n):
            c_out = _scaled(channels, t)
            blocks.append(InvertedResidual(c, c * (t if row else 1), c_out, stride=1 if i else stride))
            c = c_out
    parts["blocks"] = nn.Sequential(*blocks)
    parts["head"] = conv_bn(c, LAST, 1, act=nn.ReLU6)
    parts |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "classifier": nn.Linear(LAST, num_classes)}
    model = nn.Sequential(parts)
    init_weights(model)
    return model


def _scaled(channels: int, t: int) -> int:
    return max(4, round(channels * WIDTHS[t]))
