"""Channels that die: zero behind their ReLU6 on every validation picture, while a network trains.

MobileNet V1 is said to let channels die, the more so in low precision, and MobileNet V2 to prevent that by the reuse of
features: sums around its blocks, and narrow layers without an activation. Here both are trained with and without sums,
in float32 and in bfloat16.
"""

import statistics
from dataclasses import replace
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from swiftlet.study.chart import Line, dodged, legend
from swiftlet.study.finding import Finding, Table
from swiftlet.study.trained.claims import Claim, claims_table, together
from swiftlet.study.trial import RECIPE, Arm, Figures, Lesson
from swiftlet.study.trials import Lab, Trials, average, gain
from swiftlet.train.engine import DEFAULT, Engine
from swiftlet.zoo import create_model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE = 32
WIDTHS = {"V1": 0.25, "V2": 0.35}
SUMS = {"no sums": False, "sums": True}
ENGINES = {"float32": DEFAULT, "bfloat16": Engine(bfloat16=True)}
HARSH = replace(RECIPE, name="dead features", lr=0.4, clip=0.0, decayed="all")
LOOKS, SHARE = 6, 0.2  # moments of the training; of the validation pictures
BATCH = 256
BLOCKS = ("blocks.", "stages.")  # where V1 and V2 have theirs

PUBLISHED = Table(
    title="Dead features",
    columns=("what is said",),
    rows=(
        ("depthwise kernels of MobileNet V1 often end up empty, more of them in low precision;",),
        ("linear bottlenecks and the reuse of features let MobileNet V2 degenerate less",),
    ),
    source="practitioners' notes on MobileNet V2; figures are not available here",
)


def run(lab: Lab) -> Finding:
    """Two networks, with and without sums, in two precisions; the verdict asks that sums help in both networks."""
    arms = [
        Arm(label(net, sums, precision), partial(network, net, summed), HARSH, dead, LOOKS, engine=engine)
        for net in WIDTHS
        for precision, engine in ENGINES.items()
        for sums, summed in SUMS.items()
    ]
    trials = lab.trials(arms, side=SIDE)
    mean = partial(mean_dead, trials)
    alive = {net: gain(mean(net, "sums"), mean(net, "no sums")) for net in WIDTHS}
    more = gain(*(_differences(mean(precision, "no sums"), mean(precision, "sums")) for precision in ENGINES))
    found = {
        **{f"sums keep channels alive, {net}": gained for net, gained in alive.items()},
        "sums keep more alive in bfloat16 than in float32": more,
        "more die in bfloat16 than in float32": gain(mean("float32"), mean("bfloat16")),
        "fewer die in V2 than in V1, both without sums": gain(mean("V2", "no sums"), mean("V1", "no sums")),
        "fewer die in V2 as it is than in V1 as it is": gain(mean("V2", "sums"), mean("V1", "no sums")),
    }
    claims = [Claim(said, "points", gained, 0.0) for said, gained in found.items()]
    ends = {net: statistics.mean(mean(net, "no sums", "float32")) for net in WIDTHS}
    first = label("V1", "no sums", "float32")
    return Finding(
        study="dead-features",
        title="Dead channels, with and without sums",
        claim="The reuse of features by sums keeps channels from dying.",
        verdict=together([claim.verdict for claim in claims[: len(WIDTHS)]]),
        sentence=f"On {trials.data}, without sums and in float32, {ends['V1']:.1f} % of the channels of MobileNet V1 "
        f"{WIDTHS['V1']:g} are dead at the end, and {ends['V2']:.1f} % of those of V2 {WIDTHS['V2']:g}. Over both "
        f"precisions, sums keep {alive['V1']} points of the channels alive in V1 and {alive['V2']} in V2; over both "
        f"networks, {more} points more in bfloat16 than in float32.",
        measured=(
            _courses(trials),
            trials.table("Dead at the end", over=first, figure="dead"),
            trials.table("Accuracy", over=first),
            claims_table(claims, "points: per cent of the channels, seed by seed; the verdict is about the first two"),
        ),
        published=(PUBLISHED,),
        notes=(
            trials.note,
            f"Dead: zero at every position of {SHARE:.0%} of the validation pictures, looked at in float32, behind a "
            "ReLU6 of a block. V1 has its authors' ReLU6 here; its sums are of equal shapes, behind the ReLU6.",
            f"At the other studies' rate, {RECIPE.lr:g}, or with clipped gradients, hardly a channel dies. So the rate "
            f"is {HARSH.lr:g} here, nothing is clipped, and all parameters decay. That can also keep a network from "
            "learning: read the dead channels beside the accuracies.",
            "float16 is not tried: the trainer computes in float32 or bfloat16.",
        ),
    )


def draw(finding: Finding, figure: "Figure") -> None:
    """Dead channels over the training: a panel for each network."""
    courses = finding.measured[0]
    panels = figure.subplots(1, len(WIDTHS), sharey=True)
    moments = list(dict.fromkeys(courses.column("steps %")))
    for axes, net in zip(panels, WIDTHS, strict=True):
        lines = []
        for precision, sums in product(ENGINES, SUMS):
            here = courses.where(arm=label(net, sums, precision))
            three = (here.column(name) for name in ("dead %", "least", "most"))
            lines.append(Line(f"{sums}, {precision}", *three))
        dodged(axes, [f"{moment:g}" for moment in moments], lines, joined=True)
        axes.set(xlabel="% of the steps", title=f"MobileNet {net} {WIDTHS[net]:g}")
    panels[0].set_ylabel("dead channels %: mean, least and most of the seeds")
    legend(figure, panels[0])


def label(net: str, sums: str, precision: str) -> str:
    return f"{net}, {sums}, {precision}"


def network(net: str, summed: bool, *, num_classes: int) -> nn.Module:
    """MobileNet V1 or V2 for small pictures, both with ReLU6; summed: around every block whose shapes agree."""
    kwargs: dict[str, Any] = {"width": WIDTHS[net], "stem_stride": 1, "num_classes": num_classes}
    if net == "V2":
        return create_model("mobilenet_v2", shortcut="identity" if summed else "none", **kwargs)
    model: Any = create_model("mobilenet_v1", act="relu6", **kwargs)
    if summed:
        model.blocks = nn.Sequential(*(Summed(block) if keeps_shape(block) else block for block in model.blocks))
    return model  # type: ignore[no-any-return]


def keeps_shape(separable: Any) -> bool:
    """Whether one of V1's blocks gives as many channels and positions as it takes."""
    depthwise, pointwise = separable.depthwise[0], separable.pointwise[0]
    return depthwise.stride == (1, 1) and bool(pointwise.in_channels == pointwise.out_channels)


class Summed(nn.Module):
    """(B, C, H, W) -> (B, C, H, W): a block and what it took."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        y: Tensor = self.block(x)
        return x + y


def dead(model: nn.Module, lesson: Lesson) -> Figures:
    """Per cent of the channels behind a ReLU6 in a block that are zero everywhere on a share of the pictures."""
    pixels = lesson.pictures("val", SHARE).pixels
    highest: dict[str, Tensor] = {}

    def watch(path: str) -> Any:
        def seen(module: nn.Module, given: Any, y: Tensor) -> None:
            top = y.amax((0, 2, 3))
            highest[path] = top.maximum(highest.get(path, top))

        return seen

    inside = [(path, m) for path, m in model.named_modules() if isinstance(m, nn.ReLU6) and path.startswith(BLOCKS)]
    hooks = [module.register_forward_hook(watch(path)) for path, module in inside]
    with torch.inference_mode():
        for start in range(0, len(pixels), BATCH):
            model(torch.from_numpy(lesson.contract.normalise(pixels[start : start + BATCH])))
    for hook in hooks:
        hook.remove()
    tops = torch.cat(list(highest.values()))
    return {"dead": 100 * (tops == 0).float().mean().item()}


def mean_dead(trials: Trials, *parts: str) -> list[float]:
    """Per cent that are dead at the end, averaged over all arms whose label has these parts, seed by seed."""
    return average(*(trials.of(arm, "dead") for arm in trials.macs if set(parts) <= set(arm.split(", "))))


def _differences(more: list[float], less: list[float]) -> list[float]:
    return [a - b for a, b in zip(more, less, strict=True)]


def _courses(trials: Trials) -> Table:
    rows = []
    for arm in trials.macs:
        for k, seeds in enumerate(zip(*trials.course(arm, "dead", LOOKS), strict=True), 1):
            seen = (statistics.mean(seeds), min(seeds), max(seeds))
            rows.append((arm, round(100 * k / LOOKS), *(round(x, 2) for x in seen)))
    return Table(
        title="While it trains",
        columns=("arm", "steps %", "dead %", "least", "most"),
        rows=tuple(rows),
        source="mean, least and most of the seeds; of the weights as they are at that step",
    )
