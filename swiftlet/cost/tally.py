"""What counting gives: layers, totals, and the rule they follow, whichever way they were counted."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from swiftlet.budget import Cost

RULE = (
    "For one image. MACs: multiply-adds of convolutions, linear layers, matrix products and attention, padding taps "
    "included, biases not; FLOPs = 2 x MACs. elementwise: one per output element of everything else that computes "
    "(activation, addition, pooling, softmax, resize), two for a normalisation; copies and views are free. params: "
    "learned numbers, shared ones once. memory_access: bytes each operation reads (activations and parameters) and "
    "writes. peak_activation: largest sum of live activations, element-wise operations in place. Modules count as "
    "float32, files in their own types."
)


@dataclass(frozen=True, slots=True)
class LayerCost:
    """One executed operation. name: module path, or the ONNX node; output: shape of the first output at batch 1."""

    name: str
    op: str
    params: int
    macs: int
    elementwise: int
    memory_access_bytes: int
    output: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Count:
    """A Cost, the operations that it is the sum of in execution order, and what no rule covers.

    uncovered names operations whose computation counts as 0 because no rule knows them, as in "aten.foo x3"; their
    memory is counted. rule is the convention, to be printed beside the numbers.
    """

    cost: Cost
    layers: tuple[LayerCost, ...]
    elementwise: int
    uncovered: tuple[str, ...]
    rule: str = RULE


def summary(layers: Sequence[LayerCost], uncovered: Counter[str], *, params: int, peak: int, size: int) -> Count:
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
    names = tuple(f"{op} x{times}" for op, times in sorted(uncovered.items()))
    return Count(cost, tuple(layers), sum(layer.elementwise for layer in layers), names)
