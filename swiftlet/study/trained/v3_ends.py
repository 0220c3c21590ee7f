"""The two ends of MobileNet V3 (section 5.1 and figure 5): 16 filters in the stem, and a last stage that pools early.

The original last stage, MobileNet V2's, expands at full resolution and pools at the very end. The efficient one drops
the last bottleneck's depthwise convolution and projection, and has its widest layer behind the pooling. Times are of
MobileNet V3-Large at 224 pixels, accuracies of a narrow one on small pictures.
"""

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from swiftlet.study.bench import Bench, Case
from swiftlet.study.chart import COLOURS, MARKERS
from swiftlet.study.finding import Effect, Finding, Table, ratio_text
from swiftlet.study.series import interval, measure
from swiftlet.study.trained.claims import Claim, claims_table, together
from swiftlet.study.trial import Arm
from swiftlet.study.trials import Gain, Lab
from swiftlet.zoo import create_model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE, WIDTH = 32, 0.35  # of what is trained
TIMED_SIDE, QUICK_SIDE = 224, 64
MARGIN = 0.5  # points: less is no loss
V3, TAIL = "V3", "original tail"
STEMS: dict[str, type[nn.Module]] = {"stem of 32, ReLU": nn.ReLU, "stem of 32, swish": nn.SiLU}

PUBLISHED = Table(
    title="MobileNet V3, section 5.1",
    columns=("change", "ms saved", "M MACs saved", "accuracy"),
    rows=(
        ("efficient last stage", 7, 30, "almost no loss"),
        ("16 filters and h-swish instead of 32 and ReLU or swish", 2, 10, "the same"),
    ),
    source="Large, a Pixel phone, ImageNet; 7 ms are 11 % of the time. An early arXiv version has 10 ms (15 %), 3 ms",
)


def run(bench: Bench, lab: Lab) -> Finding:
    """V3-Large, and the same with one end as it was before; the verdict is about the last stage: faster at no loss."""
    names = (V3, TAIL, *STEMS)
    trials = lab.trials([Arm(name, partial(network, name, width=WIDTH, stem_stride=1)) for name in names], side=SIDE)
    side = QUICK_SIDE if bench.quick else TIMED_SIDE
    cases = [Case(name, network(name, width=1.0, stem_stride=2, num_classes=1000), (3, side, side)) for name in names]
    times = measure(
        bench,
        {"float32": cases},
        title="MobileNet V3-Large",
        case="network",
        source=f"{side} x {side}, 1,000 classes.",
    )
    main = bench.runtimes[0]
    slower = {name: interval(times, runtime=main, series="float32", network=name) for name in (TAIL, *STEMS)}
    gains = {name: trials.gain(V3, over=name) for name in (TAIL, *STEMS)}
    claims = [claim for name in (TAIL, *STEMS) for claim in _claims(name, gains[name], slower[name])]
    return Finding(
        study="v3-ends",
        title="The ends of MobileNet V3",
        claim="The efficient last stage saves MobileNet V3-Large time (11 % on the paper's phone) at almost no loss.",
        verdict=together([claim.verdict for claim in claims[:2]]),
        sentence=f"On {trials.data}, V3-Large {WIDTH:g} is {gains[TAIL]} points above the same with the original last "
        f"stage; V3-Large with that takes {ratio_text(slower[TAIL])} the time on {main} at {side} pixels. "
        + "; ".join(
            f"V3-Large {WIDTH:g} is {gains[name]} points above one with a {name}, which takes "
            f"{ratio_text(slower[name])} the time"
            for name in STEMS
        )
        + ".",
        effect=Effect("time", "Pool before the widest layer of the last stage.", *slower[TAIL]),
        measured=(
            trials.table("Trained", over=V3),
            times,
            claims_table(claims, "points: accuracy, seed by seed; the verdict is about the first two"),
        ),
        published=(PUBLISHED,),
        notes=(
            trials.small,
            f'"At no loss" is made {MARGIN:g} points here: the whole interval of the accuracies\' difference must lie '
            "above minus that. The whole interval of the times' ratio must lie above 1.",
            f"At {SIDE} pixels the last maps are 2 x 2, so that there the original last stage has few MACs more.",
        ),
    )


def draw(finding: Finding, figure: "Figure") -> None:
    """What going back costs, in time and in accuracy, one point for each network; the claim is the upper right."""
    trained, times, _ = finding.measured
    axes = figure.subplots()
    main = times.rows[0][0]
    for place, name in enumerate((TAIL, *STEMS)):
        time = interval(times, runtime=main, network=name)
        points = interval(trained, of=f"points over {V3}", arm=name)
        x, y = time[0], -points[0]  # the other way round: V3 over it
        xerr, yerr = [[x - time[1]], [time[2] - x]], [[points[2] - points[0]], [points[0] - points[1]]]
        shape, colour = MARKERS[place], COLOURS[place]
        axes.errorbar([x], [y], xerr=xerr, yerr=yerr, fmt=shape, color=colour, capsize=3, label=name)
    axes.plot([1], [0], "*", color="black", markersize=12, label=V3)
    axes.axhline(-MARGIN, color="#888888", linewidth=1, linestyle=":", label=f"{MARGIN:g} points of loss")
    axes.axhline(0, color="#888888", linewidth=1, zorder=0)
    axes.axvline(1, color="#888888", linewidth=1, zorder=0)
    axes.set(xlabel=f"time against V3-Large, {main}", ylabel="points of V3 over it, 95 % interval")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)


def network(name: str, *, width: float, stem_stride: Literal[1, 2], num_classes: int) -> nn.Module:
    """MobileNet V3-Large, or with one end as it was before."""
    model: Any = create_model(
        "mobilenet_v3_large",
        width=width,
        stem_stride=stem_stride,
        stem=32 if name in STEMS else 16,
        tail="original" if name == TAIL else "efficient",
        num_classes=num_classes,
    )
    if name in STEMS:
        model.stem[2] = STEMS[name]()
    return model  # type: ignore[no-any-return]


def _claims(name: str, gained: Gain, slower: tuple[float, float, float]) -> list[Claim]:
    return [
        Claim(f"against the {name}: as accurate", "points", gained, -MARGIN),
        Claim(f"against the {name}: faster", "x time", slower, 1.0),
    ]
