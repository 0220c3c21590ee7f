"""Blocks that differ in one decision, for the study of accelerators."""

from itertools import product

from torch import nn

from swiftlet.cost.systolic import Conv, Layer, SystolicArray, milliseconds, simulate
from swiftlet.layers.squeeze_excite import SqueezeExcite
from swiftlet.study.bench import Case, Precision
from swiftlet.study.finding import Table

CHANNELS, EXPANSION, SIDE, TWICE = 64, 6, 28, 2
# change -> (the block that has it, the block that has not)
CHANGES = {
    "depthwise instead of dense 3x3": ("inverted", "fused"),
    "65 channels instead of 64": ("65 channels", "inverted"),
    "5x5 instead of 3x3": ("5x5", "inverted"),
    "h-swish instead of ReLU": ("h-swish", "inverted"),
    "squeeze-and-excitation": ("SE", "inverted"),
}


def blocks() -> dict[str, tuple[nn.Module, tuple[int, int, int]]]:
    """Name -> module and the shape of its input."""
    made = {
        "fused": _block(fused=True),
        "inverted": _block(),
        "65 channels": _block(channels=CHANNELS + 1),
        "5x5": _block(kernel=5),
        "h-swish": _block(act=nn.Hardswish),
        "SE": _block(se=True),
    }
    return {name: (module, (CHANNELS + (name == "65 channels"), SIDE, SIDE)) for name, module in made.items()}


def block_case(name: str, precision: Precision) -> Case:
    module, input = blocks()[name]
    return Case(name, module, input, precision)


def _block(
    *,
    channels: int = CHANNELS,
    kernel: int = 3,
    act: type[nn.Module] = nn.ReLU,
    se: bool = False,
    fused: bool = False,
) -> nn.Sequential:
    """Inverted bottlenecks one behind the other (MobileNet V2), or fused ones (MobileDets), without BatchNorm."""
    wide = channels * EXPANSION
    pad = kernel // 2
    layers: list[nn.Module] = []
    for _ in range(TWICE):
        if fused:
            layers += [nn.Conv2d(channels, wide, kernel, padding=pad), act()]
        else:
            layers += [nn.Conv2d(channels, wide, 1), act()]
            layers += [nn.Conv2d(wide, wide, kernel, padding=pad, groups=wide), act()]
        layers += [SqueezeExcite(wide, wide // 4)] if se else []
        layers += [nn.Conv2d(wide, channels, 1)]
    return nn.Sequential(*layers)


def fused_against_inverted(chip: SystolicArray) -> Table:
    """Where the model has the fused block faster although it has more MACs, for 3x3 and expansions up to 8."""
    rows: list[tuple[int, int, int, float, float]] = []
    for channels, expansion, side in product((16, 24, 32, 40, 64, 96, 128), (4, 8), (7, 14, 28, 56)):
        wide = channels * expansion
        inverted = [
            _conv(channels, wide, side),
            _conv(wide, wide, side, kernel=3, groups=wide),
            _conv(wide, channels, side),
        ]
        fused = [_conv(channels, wide, side, kernel=3), _conv(wide, channels, side)]
        times = [milliseconds(simulate(block, chip), chip) for block in (fused, inverted)]
        macs = [sum(layer.macs for layer in block if isinstance(layer, Conv)) for block in (fused, inverted)]
        rows.append((channels, expansion, side, macs[0] / macs[1], times[1] / times[0]))
    rows.sort(key=lambda row: -row[4])
    return Table(
        title="Fused against inverted bottleneck, by model",
        columns=("channels", "expansion", "side", "x MACs of the fused", "x time of the inverted"),
        rows=tuple(rows),
        source="3x3; above 1 in the last column the fused block is the faster one",
    )


def _conv(c_in: int, c_out: int, side: int, *, kernel: int = 1, groups: int = 1) -> Layer:
    return Conv(
        name="block", c_in=c_in, c_out=c_out, kernel=(kernel, kernel), groups=groups, output=(side, side)
    )  # fmt: skip
