"""What activations and squeeze-and-excitation cost (MobileNet V3, section 5.2 and table 5): float and int8.

Alone; in inverted bottlenecks; and in MobileNet V3-Large with its h-swish or its SE replaced.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, get_args

from torch import nn

from swiftlet.layers.channels import make_divisible
from swiftlet.layers.inverted_residual import InvertedResidual
from swiftlet.layers.squeeze_excite import SqueezeExcite
from swiftlet.study.bench import Bench, Case, Precision
from swiftlet.study.chart import Line, dodged, legend, times_line
from swiftlet.study.finding import Effect, Finding, Table, judge, ratio_text
from swiftlet.study.series import interval, inverse, measure
from swiftlet.zoo import create_model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "ReLU": nn.ReLU,
    "ReLU6": nn.ReLU6,
    "h-swish": nn.Hardswish,
    "swish": nn.SiLU,
}
SE = "ReLU and SE"
TIMES = 8  # of an activation in a row, alone
BLOCKS = 4  # in a row
NO_SE = "h-swish, no SE"

PUBLISHED = Table(
    title="MobileNet V3, table 5",
    columns=("network", "ms", "top-1 %"),
    rows=(
        ("V3-Large", 51.4, 75.2),
        ("h-swish all ReLU", 50.5, 74.5),
        ("h-swish from 16 channels", 53.5, 75.4),
        ("h-swish from 112 channels", 51.0, 75.0),
    ),
    source="Pixel 1",
)


def run(bench: Bench) -> Finding:
    """Each activation against ReLU in three settings; the verdict is about h-swish in MobileNet V3-Large, float."""
    channels, block_side, side = (24, 7, 32) if bench.quick else (240, 14, 224)
    size = "small" if bench.quick else "large"
    network = f"MobileNet V3-{size.title()}"
    wide = (channels, 2 * block_side, 2 * block_side)
    blocks = [(name, act, False) for name, act in ACTIVATIONS.items()] + [(SE, nn.ReLU, True)]
    series = {"alone, float32": [Case(name, _row(act), wide) for name, act in ACTIVATIONS.items()]}
    for precision in get_args(Precision):
        series[f"block, {precision}"] = [
            Case(name, _blocks(channels // 6, act, se), (channels // 6, block_side, block_side), precision)
            for name, act, se in blocks
        ]
        series[f"network, {precision}"] = [
            Case(name, _network(name, size), (3, side, side), precision)
            for name in (("ReLU", "h-swish") if bench.quick else (*ACTIVATIONS, NO_SE))
        ]
    source = (
        f"alone: {TIMES} in a row on {channels} x {wide[1]} x {wide[2]}; block: {BLOCKS} inverted bottlenecks "
        f"{channels // 6} -> {channels} -> {channels // 6}, {block_side} x {block_side}; network: {network}, "
        f"{side} x {side}, with this in place of its h-swish."
    )
    table = measure(bench, series, title="Here", case="activation", source=source)
    main = bench.runtimes[0]
    here = table.where(runtime=main, activation="h-swish")
    costs = {
        precision: interval(here, series=f"network, {precision}")
        for precision in get_args(Precision)
        if f"network, {precision}" in here.column("series")
    }
    relu = inverse(costs["float32"])
    return Finding(
        study="activations",
        title="Activations and squeeze-and-excitation: what they cost",
        claim="Written well, h-swish costs next to nothing: 51.4 ms against 50.5 with ReLU in MobileNet V3-Large.",
        verdict=judge(relu[1], relu[2], at_least=0.95),
        sentence=f"On {main}, with its h-swish {network} takes the time of one with ReLU in their place "
        f"{' and '.join(f'{ratio_text(cost)} in {precision}' for precision, cost in costs.items())}.",
        effect=Effect("time", "Use h-swish where ReLU was: it is nearly free.", *relu),
        measured=(table,),
        published=(PUBLISHED,),
        notes=(
            '"Holds" means: with ReLU in place of h-swish the network keeps at least 0.95 of its time, the whole '
            "interval above that.",
            "Alone is float32 only: an int8 file takes its types from the convolutions around. In the block the cost "
            "of int8 shows: what has no integer kernel is computed in float between two conversions.",
            "ONNX files of opset 13 have no h-swish: it is HardSigmoid and a product. Runtimes that compute int8 files "
            "in floats have no int8 rows.",
        ),
    )


def draw(finding: Finding, figure: "Figure") -> None:
    """Time against ReLU: alone, in blocks, in the network, with the published network beside."""
    (table,) = finding.measured
    figure.set_size_inches(11, 5)
    panels = figure.subplots(1, 3, width_ratios=(4, 5, 5))
    for axes, setting in zip(panels, ("alone", "block", "network"), strict=True):
        lines: list[Line] = []
        names: list[str] = []
        for precision in get_args(Precision):
            here = table.where(series=f"{setting}, {precision}")
            names = names or list(dict.fromkeys(here.column("activation")))
            for runtime in dict.fromkeys(table.column("runtime")):
                mine = here.where(runtime=runtime)
                lines.append(times_line(mine, f"{runtime}, {precision}"))
        if setting == "network":
            ms = PUBLISHED.column("ms")
            lines.append(
                Line("Pixel 1, published", [{"ReLU": 1, "h-swish": ms[0] / ms[1]}.get(name) for name in names])
            )
        dodged(axes, [name.replace(" ", "\n") for name in names], lines)
        axes.axhline(1, color="#888888", linewidth=1, zorder=0)
        axes.set_title({"alone": "alone", "block": "inverted bottleneck", "network": "MobileNet V3"}[setting])
    panels[0].set_ylabel("time, against ReLU")
    legend(figure, panels[2])


def _row(act: type[nn.Module]) -> nn.Module:
    return nn.Sequential(*(act() for _ in range(TIMES)))


def _blocks(c: int, act: type[nn.Module], se: bool) -> nn.Module:
    wide = 6 * c

    def block() -> nn.Module:
        return InvertedResidual(c, wide, c, act=act, se=SqueezeExcite(wide, make_divisible(wide / 4)) if se else None)

    return nn.Sequential(*(block() for _ in range(BLOCKS)))


def _network(name: str, size: str) -> nn.Module:
    """MobileNet V3 with its h-swish replaced by this activation, or without its SE."""
    network = create_model(f"mobilenet_v3_{size}")
    if name == NO_SE:
        return replaced(network, SqueezeExcite, nn.Identity)
    return replaced(network, nn.Hardswish, ACTIVATIONS[name])


def replaced(network: nn.Module, kind: type[nn.Module], by: Callable[[], nn.Module]) -> nn.Module:
    """In place: every module of this kind is a new `by()`."""
    for path, module in list(network.named_modules()):
        if type(module) is kind:
            network.set_submodule(path, by())
    return network
