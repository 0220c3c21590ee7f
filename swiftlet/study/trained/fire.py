"""The Fire module's squeeze ratio and share of 3x3, and late pooling (SqueezeNet, sections 3.1 and 5, figure 3)."""

from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from torch import nn

from swiftlet.study.chart import COLOURS
from swiftlet.study.finding import Effect, Finding, Table
from swiftlet.study.trained.bypass import squeezenet, with_batchnorm
from swiftlet.study.trained.claims import comparisons, draw_comparisons
from swiftlet.study.trial import Arm
from swiftlet.study.trial_chart import draw_seeds
from swiftlet.study.trials import Lab, judge_gain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE, WIDTH = 24, 0.125
EARLY_WIDTH = 0.1875  # with early pooling 4 % more MACs than WIDTH with late pooling
RATIOS = {"SR 0.125": 0.125, "SR 0.5": 0.5, "SR 1": 1.0}  # half of the filters are 3x3
SHARES = {"1 % 3x3": 0.01, "SR 0.5": 0.5, "99 % 3x3": 0.99}  # of 3x3, the squeeze ratio is 0.5
LATE, EARLY, EARLY_WIDER = "SR 0.125", "early pooling", "early pooling, wider"

PUBLISHED = Table(
    title="SqueezeNet, figure 3",
    columns=("squeeze ratio", "3x3 %", "top-5 %", "model MB"),
    rows=((0.125, 50, 80.3, 4.8), (0.5, 50, 85.6, 13), (0.75, 50, 86.0, 19)),
    source="ImageNet, by a transcription. Both curves are flat further on: neither a ratio above 0.75 nor more than "
    "50 % of 3x3 gains anything. For late pooling the paper has the rule (section 3.1, strategy 3), and no figure",
)


def run(lab: Lab) -> Finding:
    """Both curves at three points each, and early pooling; the verdict is about late pooling, all else equal."""
    arms = [Arm(label, partial(network, squeeze_ratio=ratio)) for label, ratio in RATIOS.items()]
    arms += [
        Arm(label, partial(network, squeeze_ratio=RATIOS["SR 0.5"], pct_3x3=share))
        for label, share in SHARES.items()
        if label not in RATIOS
    ]
    arms.append(Arm(EARLY, partial(network, pool="early")))
    arms.append(Arm(EARLY_WIDER, partial(network, pool="early", width=EARLY_WIDTH)))
    trials = lab.trials(arms, side=SIDE)
    late, for_its_macs = (trials.gain(LATE, over=early) for early in (EARLY, EARLY_WIDER))
    ratios, shares = (
        {f"{after} over {before}": trials.gain(after, over=before) for before, after in pairwise(curve)}
        for curve in (RATIOS, SHARES)
    )
    compared = comparisons(
        {"late pooling over early": late, "late pooling over early, equal MACs": for_its_macs, **ratios, **shares}
    )
    return Finding(
        study="fire",
        title="Fire modules: squeeze ratio, share of 3x3, late pooling",
        claim="Downsampling late in the network makes it more accurate, all else equal (SqueezeNet).",
        verdict=judge_gain(late),
        sentence=f"On {trials.data}, SqueezeNet 1.0 at width {WIDTH:g} with late pooling is {late} points above the "
        f"same with early pooling, and {for_its_macs} above a wider one with early pooling and as many MACs. "
        f"{'; '.join(f'{name}: {gain}' for name, gain in (ratios | shares).items())}.",
        effect=Effect("accuracy", "Pool late in the network.", *late),
        measured=(trials.table("Fire modules", over=LATE), compared),
        published=(PUBLISHED,),
        notes=(
            trials.note,
            "Late and early pooling have the same parameters; late pooling has more MACs, so it is also compared with "
            "a wider network. Early is where SqueezeNet 1.1 pools: after fire3 and fire5 instead of fire4 and fire8.",
            "At this width 1 % and 99 % of 3x3 are 2.5 % and 97.5 % of all filters: a module keeps one of either kind.",
            "SqueezeNet has no BatchNorm, and a ReLU behind conv10. Here every ReLU has BatchNorm before it, and "
            "conv10 has no ReLU, so that small networks learn within these steps (the study bypass has both kinds).",
        ),
    )


def draw(finding: Finding, figure: "Figure") -> None:
    """Accuracy over the squeeze ratio, over the share of 3x3, and the comparisons."""
    table, compared = finding.measured
    figure.set_size_inches(12, 5)
    *curves, right = figure.subplots(1, 3, width_ratios=(3, 3, 4))
    for axes, curve, what in zip(curves, (RATIOS, SHARES), ("squeeze ratio", "share of 3x3"), strict=True):
        means = [draw_seeds(table, label, value, axes, COLOURS[0]) for label, value in curve.items()]
        axes.plot(list(curve.values()), means, "_-", color=COLOURS[0], markersize=14)
        axes.set(xlabel=what, xticks=list(curve.values()))
        axes.grid(axis="y", alpha=0.3)
    curves[1].sharey(curves[0])
    for colour, label in zip(COLOURS[1:], (EARLY, EARLY_WIDER), strict=False):
        mean = draw_seeds(table, label, RATIOS[LATE], curves[0], colour)
        curves[0].plot([RATIOS[LATE]], [mean], "_", color=colour, markersize=14, label=label)
    curves[0].set_ylabel("accuracy %, each seed and the mean")
    curves[0].legend(frameon=False, fontsize="small", loc="lower right")
    draw_comparisons(compared, right)


def network(*, num_classes: int, width: float = WIDTH, **arguments: Any) -> nn.Module:
    """SqueezeNet with BatchNorm; what is not said is as printed: squeeze ratio 0.125, half of 3x3, late pooling."""
    return with_batchnorm(squeezenet(num_classes=num_classes, width=width, **arguments))
