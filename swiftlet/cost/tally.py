"""What counting gives: layers, totals, and the rule they follow, whichever way they were counted."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from swiftlet.budget import LIMITS, Cost
from swiftlet.cost.flow import Field, Flow

RULE = (
    "For one image. MACs: multiply-adds of convolutions, linear layers, matrix products and attention, padding taps "
    "included, biases not; FLOPs = 2 x MACs. elementwise: one per output element of everything else that computes "
    "(activation, addition, pooling, softmax, resize), two for a normalisation; copies and views are free. params: "
    "learned numbers, shared ones once. memory_access: bytes each operation reads (activations and parameters) and "
    "writes. intensity: FLOPs and elementwise per byte of it. peak_activation: largest sum of live activations, "
    "element-wise operations in place. Modules count as float32, files in their own types."
)


@dataclass(frozen=True, slots=True)
class LayerCost:
    """One executed operation. name: module path, or the ONNX node; output: shape of the first output at batch 1.

    memory_access_bytes is what it reads and writes, written_bytes the latter. field is the receptive field of the
    output. int8_bytes is what its parameters take in an int8 file, see Count.
    """

    name: str
    op: str
    params: int
    macs: int
    elementwise: int
    memory_access_bytes: int
    output: tuple[int, ...]
    written_bytes: int
    field: Field
    int8_bytes: int

    @property
    def flops(self) -> int:
        return 2 * self.macs

    @property
    def read_bytes(self) -> int:
        return self.memory_access_bytes - self.written_bytes

    @property
    def intensity(self) -> float:
        """Operations (FLOPs and element-wise ones) per byte moved."""
        return _intensity(self.flops + self.elementwise, self.memory_access_bytes)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"flops": self.flops, "read_bytes": self.read_bytes, "intensity": self.intensity}


@dataclass(frozen=True, slots=True)
class Count:
    """A Cost, the operations that it is the sum of in execution order, and what no rule covers.

    uncovered names operations whose computation counts as 0 because no rule knows them, as in "aten.foo x3", and
    coverage is the share of operations that have one; their memory is counted. rule is the convention, to be printed
    beside the numbers.

    depth is the number of multiplying operations on the longest path, branches the most of them that lie equally
    deep: ShuffleNet V2's fragmentation. gradient_bytes is what data-parallel training reduces per step: 4 bytes for
    each parameter that learns. int8_bytes is the weights of an int8 file: a byte for each weight of an operation that
    multiplies, 8 for each of its output channels (scale and bias), BatchNorm behind it folded in; other parameters as
    float32.
    """

    cost: Cost
    layers: tuple[LayerCost, ...]
    elementwise: int
    uncovered: tuple[str, ...]
    coverage: float
    depth: int
    branches: int
    gradient_bytes: int
    int8_bytes: int
    rule: str = RULE

    @property
    def float32_bytes(self) -> int:
        return 4 * (self.cost.params or 0)

    @property
    def float16_bytes(self) -> int:
        return 2 * (self.cost.params or 0)

    @property
    def written_bytes(self) -> int:
        return sum(layer.written_bytes for layer in self.layers)

    @property
    def intensity(self) -> float:
        """Operations (FLOPs and element-wise ones) per byte moved."""
        return _intensity((self.cost.flops or 0) + self.elementwise, self.cost.memory_access_bytes or 0)

    @property
    def field(self) -> Field | None:
        """The largest receptive field before an operation that sees everything; None if the first one does."""
        local = [layer.field for layer in self.layers if not layer.field.whole]
        return max(local, key=lambda field: field.size, default=None)

    def to_json(self) -> dict[str, Any]:
        totals = {name: getattr(self.cost, name) for name in LIMITS if name != "latency_ms"}
        names = (
            "elementwise", "written_bytes", "intensity", "float32_bytes", "float16_bytes", "int8_bytes",
            "gradient_bytes", "depth", "branches", "coverage", "uncovered", "rule",
        )  # fmt: skip
        totals |= {name: getattr(self, name) for name in names}
        field = None if self.field is None else asdict(self.field)
        return totals | {"field": field, "layers": [layer.to_json() for layer in self.layers]}


def summary(
    layers: Sequence[LayerCost],
    uncovered: Counter[str],
    flow: Flow,
    *,
    params: int,
    learning: int,
    peak: int,
    size: int,
) -> Count:
    """Totals of the layers; params is given because a parameter that no operation reads is stored all the same."""
    macs = sum(layer.macs for layer in layers)
    cost = Cost(
        params=params,
        macs=macs,
        flops=2 * macs,
        memory_access_bytes=sum(layer.memory_access_bytes for layer in layers),
        peak_activation_bytes=peak,
        size_bytes=size,
    )
    unread = params - sum(layer.params for layer in layers)
    return Count(
        cost,
        tuple(layers),
        elementwise=sum(layer.elementwise for layer in layers),
        uncovered=tuple(f"{op} x{times}" for op, times in sorted(uncovered.items())),
        coverage=1 - uncovered.total() / len(layers) if layers else 1.0,
        depth=flow.depth,
        branches=flow.branches,
        gradient_bytes=4 * learning,
        int8_bytes=sum(layer.int8_bytes for layer in layers) + 4 * unread,
    )


def _intensity(operations: int, moved: int) -> float:
    return operations / moved if moved else 0.0
