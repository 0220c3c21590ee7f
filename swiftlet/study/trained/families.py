"""Six families of networks, scaled by one width multiplier to the same multiply-adds and to the same measured time.

scale_width scales every layer to a multiple of 8 channels. All halve their sides four times: the first convolution has
stride 1, since pictures have 32 pixels. MobileNet V2 is the reference in MACs and in time.
"""

import math
from collections.abc import Sequence
from functools import partial
from statistics import fmean, stdev
from typing import TYPE_CHECKING, NamedTuple

from torch import nn

from swiftlet.study.bench import Bench
from swiftlet.study.chart import COLOURS, MARKERS, legend
from swiftlet.study.finding import Effect, Finding, Table
from swiftlet.study.trained.equal import BOTH, By, Network, match, price_table
from swiftlet.study.trial import Arm
from swiftlet.study.trials import Gain, Lab, Trials, gain, judge_gain
from swiftlet.zoo import create_model
from swiftlet.zoo.scale import scale_width

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE, STEP = 32, 1.05
REFERENCE, REFERENCE_WIDTH = "MobileNet V2", 0.25


class Family(NamedTuple):
    """narrowest and widest: of the widths that are tried; newer: whether it belongs to the second half, by the first
    version of its paper."""

    network: str
    year: int
    narrowest: float
    widest: float
    newer: bool

    @property
    def widths(self) -> list[float]:
        """Each wider than the one before by about STEP."""
        n = round(math.log(self.widest / self.narrowest) / math.log(STEP))
        return [round(self.narrowest * (self.widest / self.narrowest) ** (i / max(1, n)), 3) for i in range(n + 1)]


FAMILIES = {
    "ResNet": Family("resnet18", 2015, 0.08, 0.24, False),
    "MobileNet V1": Family("mobilenet_v1", 2017, 0.19, 0.42, False),
    REFERENCE: Family("mobilenet_v2", 2018, REFERENCE_WIDTH, REFERENCE_WIDTH, False),
    "ShuffleNet V2": Family("shufflenet_v2", 2018, 0.2, 0.5, True),
    "MobileNet V3-Small": Family("mobilenet_v3_small", 2019, 0.42, 0.75, True),
    "PP-LCNet": Family("lcnet", 2021, 0.35, 0.7, True),
}

PUBLISHED = Table(
    title="ImageNet, at about 41 to 59 million MACs",
    columns=("family", "year", "width", "million MACs", "ImageNet top-1"),
    rows=(
        ("MobileNet V1", 2017, 0.25, 41, 50.6),
        ("MobileNet V2", 2018, 0.35, 59, 60.3),
        ("ShuffleNet V2", 2018, 0.5, 41, 60.3),
        ("MobileNet V3-Small", 2019, 0.75, 44, 65.4),
        ("GhostNet", 2019, 0.5, 42, 66.2),
        ("PP-LCNet", 2021, 0.5, 45, 63.1),
    ),
    source="224 pixels; the papers, and the READMEs of MobileNet V2 and PP-LCNet; no ResNet so small was published",
)


def run(bench: Bench, lab: Lab) -> Finding:
    """The verdict is about the three newer families against the three older ones at equal MACs."""
    kinds = {
        family: [
            Network(f"{family} {width:g}", partial(build, facts.network, width), SIDE)
            for width in (facts.widths[::12] if lab.quick else facts.widths)
        ]
        for family, facts in FAMILIES.items()
    }
    (reference,) = kinds[REFERENCE]
    matched = match(bench, lab, reference, kinds)
    arms = [each for kind in kinds.values() for each in kind if each.label in matched.prices]
    trials = lab.trials([Arm(each.label, each.build) for each in arms], side=SIDE)
    chosen = {by: {family: labels[by] for family, labels in matched.labels.items()} for by in BOTH}
    newer = {by: _newer(trials, labels) for by, labels in chosen.items()}
    places = {by: _ranking(trials, labels) for by, labels in chosen.items()}
    return Finding(
        study="families",
        title="Families at equal MACs and at equal time",
        claim="At equal MACs newer families are more accurate (50.6 % in 2017, 60.3 % in 2018, 65.4 % in 2019).",
        verdict=judge_gain(newer["MACs"]),
        sentence=f"On {trials.data}, at equal MACs the mean of the three newer families is {newer['MACs']} points "
        f"above that of the three older ones, at equal ms on {bench.runtimes[0]} {newer['ms']}. Best first at equal "
        f"MACs: {', '.join(places['MACs'])}; at equal ms: {', '.join(places['ms'])}.",
        effect=Effect("accuracy", "Of two families take the newer one.", *newer["MACs"]),
        measured=(
            _ranks(trials, chosen, places),
            trials.table("Accuracy", over=reference.label),
            price_table(bench, matched, reference.label),
        ),
        published=(PUBLISHED,),
        notes=(
            "Older: "
            + ", ".join(f"{name} ({facts.year})" for name, facts in FAMILIES.items() if not facts.newer)
            + "; newer: "
            + ", ".join(f"{name} ({facts.year})" for name, facts in FAMILIES.items() if facts.newer)
            + ".",
            "One recipe for all, and equally many steps, which are few. Newer families were made for long training "
            "with recipes of their own. SqueezeNet is left out, since without BatchNorm it learns next to nothing in "
            "so few, and GhostNet, since its halves do not follow this width multiplier. ResNet has the 3x3 stem that "
            "pictures of 32 pixels usually get.",
            *matched.notes,
            trials.note,
        ),
    )


def draw(finding: Finding, figure: "Figure") -> None:
    """The two rankings, each family a line between its accuracies."""
    ranks = finding.measured[0]
    figure.set_size_inches(9, 6)
    axes = figure.subplots()
    for place, row in enumerate(ranks.rows):
        family, year, macs, macs_half, time, time_half = (row[i] for i in (0, 1, 3, 4, 7, 8))
        middle, half = [float(str(macs)), float(str(time))], [float(str(macs_half)), float(str(time_half))]
        across = [0.02 * (place - 2.5), 1 + 0.02 * (place - 2.5)]
        axes.errorbar(
            across, middle, yerr=half, color=COLOURS[place], marker=MARKERS[place], capsize=3, label=f"{family}, {year}"
        )
    axes.set_xticks([0, 1], ["equal MACs", "equal ms"])
    axes.set_xlim(-0.3, 1.3)
    axes.set_ylabel("accuracy %, mean of the seeds and their standard deviation")
    axes.grid(axis="y", alpha=0.3)
    legend(figure, axes)


def build(name: str, width: float, *, num_classes: int) -> nn.Module:
    """A network of the zoo of this width, and of total stride 16."""
    if name == "resnet18":
        full = create_model(name, small_input=True, num_classes=num_classes)
        full.stem_pool = nn.MaxPool2d(3, 2, padding=1)  # without it, as for CIFAR, the total stride would be 8
    elif name == "shufflenet_v2":
        full = create_model(name, num_classes=num_classes)
        first = next(module for module in full.modules() if isinstance(module, nn.Conv2d))
        first.stride = (1, 1)  # the pooling stays, likewise
    else:
        full = create_model(name, stem_stride=1, num_classes=num_classes)
    return scale_width(full, width)


def _newer(trials: Trials, labels: dict[str, str]) -> Gain:
    """Mean accuracy of the newer families over that of the older ones, seed by seed."""

    def mean(newer: bool) -> list[float]:
        seeds = [trials.of(labels[family]) for family, facts in FAMILIES.items() if facts.newer == newer]
        return [fmean(of_all) for of_all in zip(*seeds, strict=True)]

    return gain(mean(False), mean(True))


def _ranking(trials: Trials, labels: dict[str, str]) -> Sequence[str]:
    return sorted(labels, key=lambda family: -fmean(trials.of(labels[family])))


def _ranks(trials: Trials, chosen: dict[By, dict[str, str]], places: dict[By, Sequence[str]]) -> Table:
    """Each family's place, accuracy and spread among the seeds in both."""
    rows = []
    for family, facts in FAMILIES.items():
        cells: list[str | float] = []
        for by, labels in chosen.items():
            seeds = trials.of(labels[family])
            cells += [places[by].index(family) + 1, round(fmean(seeds), 2), round(stdev(seeds), 2)]
            cells.append(labels[family].removeprefix(f"{family} "))
        rows.append((family, facts.year, *cells))
    return Table(
        title="Places",
        columns=(
            "family", "year",
            "place, equal MACs", "% at equal MACs", "SD", "width, equal MACs",
            "place, equal ms", "% at equal ms", "SD of ms", "width, equal ms",
        ),
        rows=tuple(rows),
        source="mean of the seeds and their standard deviation",
    )  # fmt: skip
