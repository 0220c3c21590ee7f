"""1x1 convolution as a matrix product, 3x3 convolution through im2col (MobileNet V1, section 3.2).

The rate of arithmetic of a 1x1 and of a 3x3 convolution, beside that of the bare matrix product of the same size, and
of a 3x3 convolution written out as copying (im2col, in PyTorch unfold) and a product.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from swiftlet.runtime.base import Array, Program
from swiftlet.runtime.torch import thread_count
from swiftlet.study.bench import Bench, Case, Timing, ratio
from swiftlet.study.chart import Line, dodged, legend
from swiftlet.study.finding import Cell, Effect, Finding, Table, judge, ratio_text
from swiftlet.study.series import interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LAYERS = 4  # of a convolution in a row, so that what a runtime does at the edges of a file weighs less
SHAPES = ((256, 28), (64, 56), (128, 28), (256, 14), (512, 14), (512, 7))  # channels in and out, side
QUICK = ((32, 14),)
CONV1, CONV3 = "1x1 convolution", "3x3 convolution"
PRODUCT1, PRODUCT3 = "product of the 1x1", "product of the 3x3"
MM = "torch.mm"
UNFOLD, IM2COL = "unfold", "unfold and product"

PUBLISHED = Table(
    title="MobileNet V1, section 3.2",
    columns=("1x1 convolutions, % of time", "% of MACs", "% of params"),
    rows=((95, 94.86, 74.59),),
    source="Caffe on a CPU: a 1x1 convolution is a matrix product as it stands, others need im2col first",
)


def run(bench: Bench) -> Finding:
    """GFLOP/s of each way at each shape; the verdict compares 1x1 with 3x3 at 256 channels, 28 x 28."""
    shapes = QUICK if bench.quick else SHAPES
    tables = _, against, copying = _measure(bench, shapes)
    main, (c, side) = bench.runtimes[0], shapes[0]
    faster = interval(against, of="x rate", runtime=main, channels=c, side=side)
    share = interval(copying, of="% of time", channels=c, side=side)
    return Finding(
        study="gemm",
        title="1x1 convolution is a matrix product; is it the faster kind?",
        claim="A 1x1 convolution needs no im2col, so it does its MACs faster than a 3x3 one.",
        verdict=judge(faster[1], faster[2], at_least=1.0),
        sentence=f"On {main}, at {c} channels, {side} x {side}, 1x1 reaches {ratio_text(faster)} the rate of 3x3. "
        "Written out in PyTorch on the CPU, im2col takes {:.0f} % (95 % {:.0f} to {:.0f}) of a 3x3's time.".format(
            *share
        ),
        effect=Effect("time", "Put the multiply-adds into 1x1 convolutions rather than 3x3.", *faster),
        measured=tables,
        published=(PUBLISHED,),
        notes=(
            "A 3x3 convolution does nine times the work on the same data, so it waits less for memory; and runtimes "
            "of today copy in small blocks or not at all instead of writing im2col out.",
            "Runtimes that compute 3x3 by Winograd's method do fewer multiplications than are counted here, so their "
            "rate may exceed the machine's.",
        ),
    )


def draw(finding: Finding, figure: "Figure") -> None:
    """GFLOP/s of every way at every shape, and the share of im2col."""
    rates, _, copying = finding.measured
    figure.set_size_inches(9, 7)
    top, bottom = figure.subplots(2, 1, height_ratios=(5, 2), sharex=True)
    shapes = list(dict.fromkeys(zip(rates.column("channels"), rates.column("side"), strict=True)))
    names = [f"{c} channels\n{side} x {side}" for c, side in shapes]
    keys = dict.fromkeys(zip(rates.column("operation"), rates.column("runtime"), strict=True))
    lines = []
    for operation, runtime in sorted(keys, key=lambda key: (key[1] == MM, key)):
        speeds = rates.where(operation=operation, runtime=runtime).column("GFLOP/s")
        lines.append(Line(f"{operation}, {runtime}", speeds, speeds, speeds))
    dodged(top, names, lines)
    top.set(ylabel="GFLOP/s")
    top.set_ylim(bottom=0)
    share = Line("im2col", copying.column("% of time"), copying.column("low"), copying.column("high"))
    dodged(bottom, names, [share])
    bottom.set(title="im2col in a 3x3 convolution that is written out", ylabel="% of its time")
    bottom.set_ylim(bottom=0)
    legend(figure, top)


class Products(Program):
    """What runs in PyTorch beside the runtimes: a function of (B, ...) to one tensor."""

    def __init__(self, name: str, function: Callable[[Tensor], Tensor], shape: tuple[int, ...], threads: int) -> None:
        self.name, self.input_shape, self.input_dtype = name, (None, *shape), np.dtype(np.float32)
        self.output_names, self.precision = ("y",), "float32"
        self._function, self._threads = function, threads

    def execute(self, batch: Array) -> list[Array]:
        with torch.inference_mode(), thread_count(self._threads):
            return [self._function(torch.from_numpy(batch)).numpy()]


def _measure(bench: Bench, shapes: Sequence[tuple[int, int]]) -> tuple[Table, Table, Table]:
    """Rates of all ways, rate of 1x1 against 3x3, share of im2col."""
    rates: list[tuple[Cell, ...]] = []
    against: list[tuple[Cell, ...]] = []
    copying: list[tuple[Cell, ...]] = []
    for done, (c, side) in enumerate(shapes):
        times = bench.times(
            [_case(CONV1, 1, c, side), _case(CONV3, 3, c, side)],
            programs=_programs(c, side, bench.threads),
            what=f"racing, shape {done + 1} of {len(shapes)}",
        )
        macs = {kernel: bench.batch * (c * kernel * side) ** 2 for kernel in (1, 3)}
        kernels = {CONV1: 1, PRODUCT1: 1, CONV3: 3, PRODUCT3: 3, IM2COL: 3}
        for timing, measured in times.items():
            if timing.label in kernels:
                count = macs[kernels[timing.label]]
                ms = measured.p50_ms / (LAYERS if timing.label in (CONV1, CONV3) else 1)
                rates.append((timing.runtime, c, side, timing.label, count, ms, 2e-6 * count / ms))
        for runtime in bench.runtimes:
            longer = ratio(times, Timing(CONV3, runtime), Timing(CONV1, runtime))
            against.append((runtime, c, side, *(each * macs[1] / macs[3] for each in longer)))
        copied, both = Timing(UNFOLD, MM), Timing(IM2COL, MM)
        share = [100 * each for each in ratio(times, copied, both)]
        copying.append((c, side, times[copied].p50_ms, times[both].p50_ms, *share))
    place = bench.place() + "."
    return (
        Table(
            title="Rate of arithmetic",
            columns=("runtime", "channels", "side", "operation", "MACs", "ms", "GFLOP/s"),
            rows=tuple(rates),
            source=f"{place} Convolutions: a {LAYERS}th of {LAYERS} in a row, with ReLU; products: PyTorch on the CPU.",
        ),
        Table(
            title="How many times the rate of 3x3 does 1x1 reach?",
            columns=("runtime", "channels", "side", "x rate", "low", "high"),
            rows=tuple(against),
            source=f"{place} 95 % intervals.",
        ),
        Table(
            title="What im2col costs a 3x3 convolution that is written out",
            columns=("channels", "side", "ms unfold", "ms unfold and product", "% of time", "low", "high"),
            rows=tuple(copying),
            source=f"{place} PyTorch's unfold, then torch.mm, on the CPU; 95 % intervals.",
        ),
    )


def _programs(c: int, side: int, threads: int) -> dict[Timing, Program]:
    one, nine = torch.randn(c, c), torch.randn(c, 9 * c)  # weights (channels out, products per output)

    def product(weight: Tensor) -> Callable[[Tensor], Tensor]:
        def multiply(columns: Tensor) -> Tensor:  # (B, products per output, pixels)
            results = [torch.mm(weight, picture) for picture in columns]
            return results[0] if len(results) == 1 else torch.stack(results)

        return multiply

    def unfold(image: Tensor) -> Tensor:  # (B, c, side, side) -> (B, 9 * c, side * side)
        return F.unfold(image, 3, padding=1)

    image, columns = (c, side, side), side * side
    programs = (
        Products(PRODUCT1, product(one), (c, columns), threads),
        Products(PRODUCT3, product(nine), (9 * c, columns), threads),
        Products(UNFOLD, unfold, image, threads),
        Products(IM2COL, lambda x: product(nine)(unfold(x)), image, threads),
    )
    return {Timing(program.name, MM): program for program in programs}


def _case(label: str, kernel: int, c: int, side: int) -> Case:
    layers: list[nn.Module] = []
    for _ in range(LAYERS):
        layers += [nn.Conv2d(c, c, kernel, padding=kernel // 2), nn.ReLU()]
    return Case(label, nn.Sequential(*layers), (c, side, side))
