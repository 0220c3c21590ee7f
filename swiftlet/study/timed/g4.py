"""G4: element-wise operations are not negligible (ShuffleNet V2, section 2.4 and table 4).

Ten bottleneck units, 1x1 - 3x3 depthwise - 1x1 at one width, with and without ReLU and shortcut; and the element-wise
operations alone, where nothing can absorb them.
"""

from typing import TYPE_CHECKING

from torch import Tensor, nn

from swiftlet.study.bench import Bench, Case
from swiftlet.study.chart import Line, dodged, legend, times_line
from swiftlet.study.finding import Effect, Finding, Table, judge, ratio_text
from swiftlet.study.series import interval, measure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNITS = 10
NONE, ALL = "no ReLU, no shortcut", "ReLU, shortcut"
UNIT_KINDS = {NONE: (False, False), "shortcut": (False, True), "ReLU": (True, False), ALL: (True, True)}
ALONE = ("ReLU alone", "AddTensor alone", "AddBias alone")

PUBLISHED = Table(
    title="ShuffleNet V2, table 4",
    columns=("ReLU", "shortcut", "GPU c=32", "GPU c=64", "GPU c=128", "ARM c=32", "ARM c=64", "ARM c=128"),
    rows=(
        ("yes", "yes", 2427, 2066, 1436, 56.7, 16.9, 5.0),
        ("yes", "no", 2647, 2256, 1735, 61.9, 18.8, 5.2),
        ("no", "yes", 2672, 2121, 1458, 57.3, 18.2, 5.1),
        ("no", "no", 2842, 2376, 1782, 66.3, 20.2, 5.4),
    ),
    source="GTX 1080 Ti in batches/s, Snapdragon 810 with one thread in images/s; 56 x 56; higher is better",
)


def run(bench: Bench) -> Finding:
    """Milliseconds of each unit and each operation; the verdict is about the units with both."""
    widths = (32,) if bench.quick else (128, 64, 32)
    sides = (14,) if bench.quick else (56, 28)
    series = {f"c={width}, {side} x {side}": _cases(width, side) for side in sides for width in widths}
    source = f"{UNITS} units 1x1 - 3x3 depthwise - 1x1; alone: {UNITS} of that operation on tensors of the same shape."
    table = measure(bench, series, title="Here", case="unit", source=source)
    main, name = bench.runtimes[0], next(iter(series))
    slower, add = (interval(table, runtime=main, series=name, unit=unit) for unit in (ALL, "AddTensor alone"))
    return Finding(
        study="g4",
        title="G4: what ReLU, shortcut and other element-wise operations cost",
        claim="Operations that are hardly counted, ReLU and the sum of tensors, take a noticeable part of the time.",
        verdict=judge(slower[1], slower[2], at_least=1.05),
        sentence=f"On {main}, at {name}, units with ReLU and shortcut take {ratio_text(slower)} the time of units "
        f"without. A sum of two tensors that no convolution absorbs takes {ratio_text(add)} of a bare unit.",
        effect=Effect("time", "Spare ReLU, shortcuts and other element-wise operations.", *slower),
        measured=(table,),
        published=(PUBLISHED,),
        notes=(
            "In the units, runtimes may compute ReLU and the sum inside the convolution before (ONNX Runtime does, "
            "PyTorch's eager mode does not). Alone, they cannot.",
            "AddTensor alone: the input is added again and again. AddBias alone: one number per channel, the input's "
            "mean, is added again and again; finding the mean once is in its time.",
            "The paper does not say which 3x3 it means. A dense one would be 5.7 G MACs for ten units at c = 128 and "
            "56 x 56; the printed ARM speeds fit only something of a fifth of that, such as a depthwise one (1.06 G; "
            "table 1's first row has 1.03 G and nearly the same speed).",
            '"Holds" means that the whole interval lies above 1.05.',
        ),
    )


def draw(finding: Finding, figure: "Figure") -> None:
    """Time against the bare unit: units beside the published ones, and operations alone."""
    (table,) = finding.measured
    here = table.where(series=table.column("series")[0])
    lines, alone = [], []
    for runtime in dict.fromkeys(here.column("runtime")):
        mine = here.where(runtime=runtime)
        units = times_line(mine, runtime)
        cut = len(UNIT_KINDS)
        lines.append(Line(runtime, units.middle[:cut], units.low[:cut], units.high[:cut]))
        alone.append(Line(runtime, units.middle[cut:], units.low[cut:], units.high[cut:]))
    for device, column in (("GPU", "GPU c=128"), ("ARM", "ARM c=128")):
        speeds = dict(zip(UNIT_KINDS, reversed(PUBLISHED.column(column)), strict=True))
        lines.append(Line(f"{device}, published", [speeds[NONE] / speed for speed in speeds.values()]))
    left, right = figure.subplots(1, 2, width_ratios=(4, 3))
    dodged(left, [kind.replace(", ", ",\n") for kind in UNIT_KINDS], lines)
    left.axhline(1, color="#888888", linewidth=1, zorder=0)
    left.set(title=f"ten units, {here.column('series')[0]}", ylabel="time, against units with neither")
    dodged(right, [name.replace(" ", "\n") for name in ALONE], alone)
    right.set(title="ten operations alone", ylabel="time, against ten units with neither")
    right.set_ylim(bottom=0)
    legend(figure, left)


class Unit(nn.Module):
    """(B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, channels: int, relu: bool, shortcut: bool) -> None:
        super().__init__()
        act = nn.ReLU if relu else nn.Identity
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 1), act(),
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels), act(),
            nn.Conv2d(channels, channels, 1),
        )  # fmt: skip
        self.act, self.shortcut = act(), shortcut

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return self.act(x + y if self.shortcut else y)  # type: ignore[no-any-return]


class AddTensors(nn.Module):
    """The input is added to itself UNITS times, so every sum reads two tensors and writes one."""

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for _ in range(UNITS):
            y = y + x
        return y


class AddBiases(nn.Module):
    """One number per channel is added UNITS times."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        bias = self.mean(x)  # (B, C, 1, 1)
        y = x
        for _ in range(UNITS):
            y = y + bias
        return y


def _cases(width: int, side: int) -> list[Case]:
    modules: dict[str, nn.Module] = {
        name: nn.Sequential(*(Unit(width, *kind) for _ in range(UNITS))) for name, kind in UNIT_KINDS.items()
    }
    relus = nn.Sequential(*(nn.ReLU() for _ in range(UNITS)))
    modules |= dict(zip(ALONE, (relus, AddTensors(), AddBiases()), strict=True))
    return [Case(name, module, (width, side, side)) for name, module in modules.items()]
