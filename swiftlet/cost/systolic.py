"""Cycles of a network on two int8 chips that are not at hand, by arithmetic: a systolic array and a vector processor.

The array holds rows x columns weights; positions of the map stream through, one a cycle (weight-stationary). Rows are
what an output sums over (input channels x kernel), columns are output channels. A convolution needs

    folds = ceil(c_in k k / rows) ceil(c_out / columns)

fillings of the array, each of which takes 2 rows + columns + positions - 2 cycles: `rows` to load the weights, then
from the first value in to the last one out. This is SCALE-Sim's model (Samajdar et al. 2018, arXiv:1811.02883), whose
simulator counts one cycle less per layer, as it numbers cycles from 0. With `double_buffered` the weights of the next
fold load while one streams, as in the TPU (Jouppi et al. 2017, arXiv:1704.04760, section 2), so that a further fold
costs max(positions, rows) only.

Groups share no inputs. They are laid on the array's diagonal, as many as fit, and multiply zeros elsewhere: of a
depthwise 3x3 convolution 7 groups fit in 64 rows, and 63 of 4,096 multipliers work.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import Literal, NamedTuple

from swiftlet.errors import BadInput

# Vector operations per element. An array applies ReLU and ReLU6 as its results leave it; h-swish is an addition, a
# clamp and a product, its division by 6 part of the scales; a sigmoid is a look-up; pooling counts per input read.
PASSES = {
    "relu": 0, "relu6": 0, "hardsigmoid": 2, "hardswish": 3, "sigmoid": 1, "silu": 2,
    "add": 1, "mul": 1, "pool": 1, "global pool": 1, "move": 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv:
    """An int8 convolution; a linear layer is one of 1x1 on a map of 1x1. kernel and output: (height, width)."""

    name: str
    c_in: int
    c_out: int
    output: tuple[int, int]
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    groups: int = 1

    def __post_init__(self) -> None:
        sizes = (self.c_in, self.c_out, *self.output, *self.kernel, self.stride, self.groups)
        if min(sizes) < 1 or self.c_in % self.groups or self.c_out % self.groups:
            raise BadInput(f"{self}: sizes must be 1 or more, and groups must divide both channel counts")

    @property
    def sums(self) -> int:
        """Products in one output: the rows that a group needs."""
        return self.c_in // self.groups * prod(self.kernel)

    @property
    def positions(self) -> int:
        return prod(self.output)

    @property
    def macs(self) -> int:
        return self.sums * self.c_out * self.positions

    @property
    def weight_bytes(self) -> int:
        return self.sums * self.c_out

    @property
    def map_bytes(self) -> int:
        """What it reads and writes beside its weights."""
        return self.c_in * self.positions * self.stride**2 + self.c_out * self.positions

    @property
    def kind(self) -> str:
        size = "x".join(map(str, self.kernel))
        if self.groups > 1:
            return f"depthwise {size}" if self.groups == self.c_in else f"grouped {size}"
        return size if self.positions > 1 else "on one position"


@dataclass(frozen=True, slots=True, kw_only=True)
class Elementwise:
    """Work for the vector unit: `elements` results, of a pooling the inputs that it reads. op: see PASSES."""

    name: str
    op: str
    elements: int

    def __post_init__(self) -> None:
        if self.op not in PASSES or self.elements < 1:
            raise BadInput(f"{self}: elements must be 1 or more, and op one of {', '.join(PASSES)}")

    @property
    def kind(self) -> str:
        return self.op


Layer = Conv | Elementwise


@dataclass(frozen=True, slots=True, kw_only=True)
class SystolicArray:
    """rows x columns multipliers and a vector unit of `lanes` at their output. buffer_bytes: weights (or maps) that
    stay on the chip; offchip_gbs: 10^9 bytes per second for the others. All are arguments because makers say little:
    64 x 64 at 0.48 GHz is 4 TOPS, which Coral states for the Edge TPU, with 8 MB on chip behind USB or PCIe.
    """

    rows: int = 64
    columns: int = 64
    lanes: int = 64
    clock_ghz: float = 0.48
    buffer_bytes: int = 8_000_000
    offchip_gbs: float = 0.5
    double_buffered: bool = True

    @property
    def macs_per_cycle(self) -> int:
        return self.rows * self.columns

    def folds(self, conv: Conv) -> int:
        """How often the array is filled with weights."""
        outputs = conv.c_out // conv.groups
        together = min(self.rows // conv.sums, self.columns // outputs, conv.groups)
        if together > 1:
            return ceil(conv.groups / together)
        return conv.groups * ceil(conv.sums / self.rows) * ceil(outputs / self.columns)

    def conv_cycles(self, conv: Conv) -> int:
        once = 2 * self.rows + self.columns + conv.positions - 2
        further = max(conv.positions, self.rows) if self.double_buffered else once
        return once + (self.folds(conv) - 1) * further

    def stage_cycles(self, conv: int, vector: int) -> int:
        """The vector unit works on what the array has finished while that goes on."""
        return max(conv, vector)


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorDsp:
    """`lanes` 8-bit multiply-adds per cycle, as in a 1,024-bit vector: a lane per output channel, one product of its
    sum per cycle. The other arguments as for SystolicArray; the clock and memory are round assumptions."""

    lanes: int = 128
    clock_ghz: float = 1.0
    buffer_bytes: int = 1_000_000
    offchip_gbs: float = 10.0

    @property
    def macs_per_cycle(self) -> int:
        return self.lanes

    def conv_cycles(self, conv: Conv) -> int:
        return conv.positions * conv.sums * ceil(conv.c_out / self.lanes)

    def stage_cycles(self, conv: int, vector: int) -> int:
        """The same lanes do both."""
        return conv + vector


Chip = SystolicArray | VectorDsp


class Step(NamedTuple):
    """A layer on a chip. busy: cycles of its unit; memory: cycles of its bytes from off the chip; cycles: what it adds
    to the network's time, 0 if it hides behind others; bound: what it waits for."""

    layer: Layer
    busy: int
    memory: int
    cycles: int
    bound: Literal["array", "vector", "memory", "hidden"]


def simulate(layers: Sequence[Layer], chip: Chip) -> tuple[Step, ...]:
    """The layers in order. Weights stay on the chip until it is full; maps leave it if they do not fit.

    Element-wise layers form one stage with the convolution before them. A global pooling ends its stage, since what
    follows needs all of its result: that is why squeeze-and-excitation stands in the way of everything.
    """
    steps: list[Step] = []
    kept = 0
    conv = vector = memory = charged = 0
    for layer in layers:
        if isinstance(layer, Conv):
            conv, vector, charged = chip.conv_cycles(layer), 0, 0
            kept += layer.weight_bytes
            travels = layer.weight_bytes if kept > chip.buffer_bytes else 0
            travels += layer.map_bytes if layer.map_bytes > chip.buffer_bytes else 0
            busy, moved = conv, ceil(travels / chip.offchip_gbs * chip.clock_ghz)
            memory = moved
        else:
            busy, moved = PASSES[layer.op] * ceil(layer.elements / chip.lanes), 0
            vector += busy
        total = max(chip.stage_cycles(conv, vector), memory)
        added, charged = total - charged, total
        steps.append(Step(layer, busy, moved, added, _bound(layer, added, busy, moved)))
        if layer.kind == "global pool":
            conv = vector = memory = charged = 0
    return tuple(steps)


def _bound(layer: Layer, added: int, busy: int, memory: int) -> Literal["array", "vector", "memory", "hidden"]:
    if added == 0:
        return "hidden"
    if memory > busy:
        return "memory"
    return "array" if isinstance(layer, Conv) else "vector"


def utilisation(steps: Sequence[Step], chip: Chip) -> float:
    """Multiply-adds done per multiply-add that the chip could have done in that time; 0 without convolutions."""
    cycles = sum(step.cycles for step in steps)
    return sum(step.layer.macs for step in steps if isinstance(step.layer, Conv)) / (chip.macs_per_cycle * cycles)


def milliseconds(steps: Sequence[Step], chip: Chip) -> float:
    return sum(step.cycles for step in steps) / chip.clock_ghz / 1e6
