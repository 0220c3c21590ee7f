"""ReLU, ReLU6, swish and h-swish, with and without squeeze-and-excitation: accuracy, int8 and time of one network.

MobileNet V3, section 5.2: h-swish is as accurate as swish and cheaper, and in integers it has no sigmoid that every
implementation approximates in its own way. MobileNet V2, section 4: ReLU6 because it is robust in low precision. Here
one activation takes all places of MobileNet V3-Small outside SE, where the paper has ReLU in front and h-swish behind.
"""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, get_args

import numpy as np
from torch import nn

from swiftlet.layers.squeeze_excite import SqueezeExcite
from swiftlet.study.bench import Bench, Case, Precision
from swiftlet.study.chart import COLOURS, Line, dodged
from swiftlet.study.finding import Cell, Effect, Finding, Table, ratio_text
from swiftlet.study.series import interval, measure
from swiftlet.study.timed.activations import PUBLISHED, replaced
from swiftlet.study.trained.claims import Claim, claims_table
from swiftlet.study.trained.int8_accuracy import CALIBRATION, WAYS, in_int8
from swiftlet.study.trial import Arm
from swiftlet.study.trial_chart import draw_seeds
from swiftlet.study.trials import Lab, Trials, average, gain
from swiftlet.zoo import create_model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE, WIDTH = 32, 0.35
# h-swish comes first, since times are taken against the first
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "h-swish": nn.Hardswish,
    "swish": nn.SiLU,
    "ReLU6": nn.ReLU6,
    "ReLU": nn.ReLU,
}
SE = {"SE": True, "no SE": False}
MARGIN = 0.5  # points: h-swish counts as no less accurate above minus that


def run(bench: Bench, lab: Lab) -> Finding:
    """Four activations with and without SE; the verdict is about the accuracy of h-swish against swish."""
    arms = [
        Arm(label(name, se), partial(network, name, excited), measure=in_int8)
        for se, excited in SE.items()
        for name in ACTIVATIONS
    ]
    trials = lab.trials(arms, side=SIDE)
    series = {
        f"{se}, {precision}": [
            Case(name, network(name, excited, num_classes=10), (3, SIDE, SIDE), precision) for name in ACTIVATIONS
        ]
        for precision in get_args(Precision)
        for se, excited in SE.items()
    }
    times = measure(
        bench, series, title="Time", case="activation", source=f"The networks that are trained, {SIDE} x {SIDE}."
    )
    main = bench.runtimes[0]
    cheaper = {
        name: interval(times, runtime=main, series=name, activation="swish")
        for name in series
        if name in times.where(runtime=main).column("series")
    }
    better = gain(_mean(trials, "swish"), _mean(trials, "h-swish"))
    claims = [
        Claim("h-swish is as accurate as swish", "points", better, -MARGIN),
        Claim("h-swish is more accurate than ReLU", "points", gain(_mean(trials, "ReLU"), _mean(trials, "h-swish")), 0),
        *(Claim(f"swish takes longer than h-swish, {name}", "x time", ratio, 1.0) for name, ratio in cheaper.items()),
        *(
            Claim(f"{robust} loses less in {way} than {other}", "points", _saved(trials, way, robust, other), 0.0)
            for way in WAYS
            for robust, other in (("ReLU6", "ReLU"), ("h-swish", "swish"))
        ),
        Claim("SE gains accuracy", "points", _gain_of_se(trials), 0.0),
    ]
    drops = {way: {name: float(np.mean(_drop(trials, way, name))) for name in ACTIVATIONS} for way in WAYS}
    return Finding(
        study="activations-trained",
        title="Activations and squeeze-and-excitation: accuracy, int8, time",
        claim=f"h-swish is as accurate as swish (MobileNet V3; made: within {MARGIN:g} points).",
        verdict=claims[0].verdict,
        sentence=f"On {trials.data}, with and without SE together, h-swish is {better} points above swish in V3-Small "
        f"{WIDTH:g} and {gain(_mean(trials, 'ReLU'), _mean(trials, 'h-swish'))} above ReLU; SE gains "
        f"{_gain_of_se(trials)}. swish takes "
        f"{', '.join(f'{ratio_text(ratio)} with {name}' for name, ratio in cheaper.items())} the time of h-swish on "
        f"{main}. Points lost in int8: {_listed(drops['int8'])}; per tensor {_listed(drops['int8 per tensor'])}.",
        effect=Effect("accuracy", "Take h-swish in place of swish.", *better),
        measured=(
            trials.table("Trained", over=label("h-swish", "SE")),
            _drops(trials),
            times,
            claims_table(claims, "points: averaged over SE and no SE, then seed by seed; times: one race"),
        ),
        published=(PUBLISHED,),
        notes=(
            trials.small,
            f'"As accurate" is made {MARGIN:g} points here: the whole interval must lie above minus that.',
            f"int8: BatchNorm folded, calibrated on {CALIBRATION} training pictures, in exact arithmetic; with a scale "
            "per output channel and ranges of least square error, and with one scale per tensor and full ranges. "
            "That is measured on top of --minutes.",
            "Table 5 of the paper has h-swish only in the deeper half, where it is cheap; the study activations times "
            "that network at full size.",
        ),
    )


def draw(finding: Finding, figure: "Figure") -> None:
    """Accuracy, what int8 loses, and the time."""
    trained, drops, times, _ = finding.measured
    figure.set_size_inches(12, 5)
    left, middle, right = figure.subplots(1, 3)
    names = list(ACTIVATIONS)
    for place, se in enumerate(SE):
        x = [i + 0.16 * (place - 0.5) for i in range(len(names))]
        means = [draw_seeds(trained, label(name, se), x[i], left, COLOURS[place]) for i, name in enumerate(names)]
        left.plot(x, means, "_", color=COLOURS[place], markersize=14, label=se)
    left.set_xticks(range(len(names)), names)
    left.set(xlim=(-0.6, len(names) - 0.4), ylabel="accuracy %, float, each seed and the mean")
    left.grid(axis="y", alpha=0.3)
    lines = []
    for way in WAYS:
        for se in SE:
            here = [drops.where(arm=label(name, se), way=way) for name in names]
            columns = ([row.column(what)[0] for row in here] for what in ("points lost", "low", "high"))
            lines.append(Line(f"{way}, {se}", *columns))
    dodged(middle, names, lines)
    middle.axhline(0, color="#888888", linewidth=1, zorder=0)
    middle.set_ylabel("points lost in int8, 95 % interval")
    main = times.rows[0][0]
    races = list(dict.fromkeys(times.where(runtime=main).column("series")))
    ms = [Line(race, times.where(runtime=main, series=race).column("ms")) for race in races]
    dodged(right, names, ms)
    right.set_ylim(bottom=0)
    right.set_ylabel(f"ms, {main}")
    for axes in (left, middle, right):
        axes.legend(frameon=False, fontsize="small")


def label(name: str, se: str) -> str:
    return f"{name}, {se}"


def network(name: str, excited: bool, *, num_classes: int) -> nn.Module:
    """MobileNet V3-Small for small pictures, one activation in all places outside SE; with SE or without."""
    model = create_model("mobilenet_v3_small", width=WIDTH, stem_stride=1, num_classes=num_classes)
    if not excited:
        replaced(model, SqueezeExcite, nn.Identity)
    for path, module in list(model.named_modules()):
        if type(module) in (nn.ReLU, nn.Hardswish) and ".se." not in path:
            model.set_submodule(path, ACTIVATIONS[name]())
    return model


def _mean(trials: Trials, name: str, figure: str = "accuracy") -> list[float]:
    """Of one activation, with and without SE, seed by seed."""
    return average(*(trials.of(label(name, se), figure) for se in SE))


def _gain_of_se(trials: Trials) -> tuple[float, float, float]:
    with_se, without = (average(*(trials.of(label(name, se)) for name in ACTIVATIONS)) for se in SE)
    return gain(without, with_se)


def _drop(trials: Trials, way: str, name: str) -> list[float]:
    """Points that it loses on the way to int8, seed by seed."""
    return [a - b for a, b in zip(_mean(trials, name), _mean(trials, name, way), strict=True)]


def _saved(trials: Trials, way: str, robust: str, other: str) -> tuple[float, float, float]:
    """Points that `robust` loses less than `other`."""
    return gain(_drop(trials, way, robust), _drop(trials, way, other))


def _drops(trials: Trials) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for way in WAYS:
        for arm in trials.macs:
            lost = gain(trials.of(arm, way), trials.of(arm))
            rows.append((arm, way, *(round(x, 2) for x in lost)))
    return Table(
        title="What int8 loses",
        columns=("arm", "way", "points lost", "low", "high"),
        rows=tuple(rows),
        source=f"float against int8 on the same {trials.pictures[1]:,} validation photos, seed by seed",
    )


def _listed(drops: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {points:+.2f}" for name, points in drops.items())
