"""The least time that a file can take on this machine, and the rate above which a time is impossible.

Two bounds, the larger one binds:

compute = 2 x MACs / rate, with the measured rate of the precision that the program computes in.
memory  = bytes / bandwidth, with only those bytes that must come through memory in every run, however clever the
          engine: what the weights (each read once) have above the last-level cache, and what a layer with weights
          reads and writes of activations above the cache, since no fusion can avoid it. In a cache as large as the
          network this is nothing, and nothing binds but arithmetic. Where the size of the cache is unknown, the
          weights count once and activations not at all.

A rate is impossible if even the fewest multiplications that an engine can do exceed the ceiling. Winograd's F(6x6,
3x3), the largest in use, does a 3x3 convolution of stride 1 with 64 multiplications for 36 outputs instead of 324.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from swiftlet.runtime.ceilings import Ceilings

if TYPE_CHECKING:
    import onnx

    from swiftlet.cost.shapes import Known
    from swiftlet.cost.tally import Count, LayerCost

WINOGRAD = 324 / 64
TOLERANCE = 1.1  # a ceiling is measured, and the clock may run higher a minute later


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one picture costs, from the file. winograd_macs: those of 3x3 convolutions that Winograd can shorten;
    weight_bytes: of all constants as stored; activations: bytes read and written by each layer with weights."""

    macs: int
    winograd_macs: int
    weight_bytes: int
    activations: tuple[int, ...]
    count: "Count"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """ms: the least time of a run; binds: "compute" or "memory"; macs and memory_bytes: of the run."""

    ms: float
    binds: str
    macs: int
    memory_bytes: int

    def share(self, measured_ms: float) -> float:
        """The bound as a share of the time that was taken: 1 is the roofline."""
        return self.ms / measured_ms


def work_of(file: Path | bytes) -> Work:
    """Count a file. Raises BadFile."""
    from swiftlet.cost.count import count_onnx
    from swiftlet.cost.screen import screen_onnx

    screened = screen_onnx(file)
    counted = count_onnx(screened.model)
    graph = screened.model.graph
    short = {node.name or node.output[0] for node in graph.node if _winograd(node, screened.known)}
    return Work(
        macs=sum(layer.macs for layer in counted.layers),
        winograd_macs=sum(layer.macs for layer in counted.layers if layer.name in short),
        weight_bytes=sum(screened.known[tensor.name].nbytes for tensor in graph.initializer),
        activations=tuple(activation_bytes(layer) for layer in counted.layers if layer.macs),
        count=counted,
    )


def _winograd(node: "onnx.NodeProto", known: "dict[str, Known]") -> bool:
    from swiftlet.cost.shapes import attributes

    if node.op_type not in ("Conv", "QLinearConv"):
        return False
    weight = known[node.input[1 if node.op_type == "Conv" else 3]].shape
    given = attributes(node)
    ones = (given.get("group", 1), *given.get("strides", ()), *given.get("dilations", ()))
    return tuple(weight[2:]) == (3, 3) and all(value == 1 for value in ones)


def activation_bytes(layer: "LayerCost") -> int:
    """What a layer reads and writes besides its parameters, which take 4 bytes at most: never too much."""
    return max(0, layer.memory_access_bytes - 4 * layer.params)


def bound(work: Work, ceilings: Ceilings, precision: str, batch: int = 1) -> Bound | None:
    """The least time of a run; None if the precision has no measured ceiling."""
    rate = ceilings.rate(precision)
    if rate is None:
        return None
    cache = ceilings.cache_bytes
    moved = work.weight_bytes
    if cache is not None:
        moved = max(0, moved - cache) + sum(max(0, batch * size - cache) for size in work.activations)
    compute = 2e-6 * work.macs * batch / rate
    memory = 1e-6 * moved / ceilings.memory_gbs
    binds = "compute" if compute >= memory else "memory"
    return Bound(ms=max(compute, memory), binds=binds, macs=work.macs * batch, memory_bytes=moved)


def layer_bound(layer: "LayerCost", ceilings: Ceilings, precision: str, batch: int = 1) -> tuple[float, str] | None:
    """(ms, what binds) of one layer by itself: its bytes pass the cores' own caches at best, memory if it is larger
    than the last-level cache. An engine that fuses a layer with its neighbour can be faster than that."""
    rate = ceilings.rate(precision)
    if rate is None:
        return None
    size = layer.memory_access_bytes + (batch - 1) * activation_bytes(layer)
    cache = ceilings.cache_bytes
    far = cache is not None and size > cache
    moved = 1e-6 * size / (ceilings.memory_gbs if far else ceilings.cache_gbs)
    compute = 2e-6 * layer.macs * batch / rate
    return (compute, "compute") if compute >= moved else (moved, "memory" if far else "cache")


def impossible(work: Work, ceilings: Ceilings, precision: str, measured_ms: float, batch: int = 1) -> str | None:
    """Why this time cannot be that of the whole network, or None."""
    rate = ceilings.rate(precision)
    if rate is None:
        return None
    fewest = work.macs - work.winograd_macs + work.winograd_macs / WINOGRAD
    least_ms = 2e-6 * fewest * batch / (rate * TOLERANCE)
    if measured_ms >= least_ms:
        return None
    reached = 2e-6 * work.macs * batch / measured_ms
    return (
        f"impossible: {measured_ms:.3g} ms would be {reached:.0f} GFLOP/s, where this machine reaches {rate:.0f} in "
        f"{precision} ({least_ms:.3g} ms at least, Winograd allowed for); the engine has left out work, "
        "as it may if weights are zero"
    )
