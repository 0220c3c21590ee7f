"""Milliseconds beside multiply-adds, layer by layer: where a file loses its time on this machine."""

import re
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swiftlet.errors import BadInput
from swiftlet.progress import Progress
from swiftlet.runtime.ceilings import Ceilings, ceilings
from swiftlet.runtime.denormals import flushed_denormals
from swiftlet.runtime.machine import disturbance, machine, moment, others
from swiftlet.runtime.operations import PROFILERS, Operation, operations
from swiftlet.runtime.roofline import layer_bound
from swiftlet.timing.entrants import Entry, admit, zeros

if TYPE_CHECKING:
    import onnx

    from swiftlet.cost.tally import Count, LayerCost

MULTIPLY = re.compile("conv|gemm|matmul|fullyconnected", re.IGNORECASE)
SUFFIXES = re.compile(r"(_nchwc)?(_token_\d+)?$|/WithoutBiases(/\w+)?$")  # what ONNX Runtime and OpenVINO add to a name


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTime:
    """A layer of the file with the time of the operation that computes it, fused neighbours included.

    share: of the time of all operations; gflops: 2 x MACs / ms; bound_ms: what it would take at the ceiling, by which
    of compute, cache and memory (see roofline.py); waste_ms: time above that.
    """

    name: str
    op: str
    macs: int
    ms: float
    share: float
    gflops: float
    bound_ms: float
    binds: str
    waste_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTimes:
    """rows: by waste, largest first. own: the runtime's own operations (reordering, quantizing), which no layer of
    the file stands for. unjoined: layers with MACs for which no operation could be named; fused: how many layers
    without MACs have no operation of their own. total_ms: of all operations, more than a run without the profiler."""

    entry: Entry
    rows: tuple[LayerTime, ...]
    own: tuple[Operation, ...]
    unjoined: tuple[str, ...]
    fused: int
    total_ms: float
    joined_macs: int
    macs: int
    notes: tuple[str, ...]
    ceilings: Ceilings

    def to_json(self) -> dict[str, Any]:
        return {
            "file": str(self.entry.file),
            "runtime": self.entry.runtime,
            "threads": self.entry.threads,
            "precision": self.entry.precision,
            "layers": [asdict(row) for row in self.rows],
            "own": [asdict(operation) for operation in self.own],
            "unjoined": list(self.unjoined),
            "fused": self.fused,
            "total_ms": self.total_ms,
            "joined_macs": self.joined_macs,
            "macs": self.macs,
            "notes": list(self.notes),
            "machine": str(machine()),
            "ceilings": self.ceilings.to_json(),
        }


def time_layers(
    file: Path, runtime: str = "onnxruntime", threads: int = 1, *, batch: int = 1, progress: Progress | None = None
) -> LayerTimes:
    """Profile one file on one runtime and join the times with its counted layers, by name.

    Raises BadInput for a runtime that gives no times per layer, or other numbers than the reference; BadFile,
    MissingExtra.
    """
    from swiftlet.cost.count import count_onnx
    from swiftlet.cost.screen import read_onnx

    if runtime not in PROFILERS:
        raise BadInput(f"{runtime} gives no times per layer; those that do: {', '.join(PROFILERS)}")
    if batch < 1:
        raise BadInput(f"time: batch={batch} must be 1 or more")
    show: Progress = progress or (lambda what, done, total: None)
    with flushed_denormals():
        (admitted,), _ = admit([Entry(file, runtime, threads)], batch, show)
        admitted.program.close()
        known = ceilings(threads, progress=lambda done, total: show("measuring ceilings", done, total))
        show("timing layers", 0, 0)
        before = moment()
        found = operations(file, runtime, threads, batch)
        busy = others(before, moment())
    model = read_onnx(file)
    counted = count_onnx(model)
    times, own = join(found, model.graph, counted)
    total = sum(operation.ms for operation in found)
    rows = [
        _row(layer, times[layer.name], total, known, admitted.entry.precision, batch)
        for layer in counted.layers
        if layer.name in times
    ]
    return LayerTimes(
        entry=admitted.entry,
        rows=tuple(sorted(rows, key=lambda row: -row.waste_ms)),
        own=tuple(own),
        unjoined=tuple(layer.name for layer in counted.layers if layer.macs and layer.name not in times),
        fused=sum(not layer.macs and layer.name not in times for layer in counted.layers),
        total_ms=total,
        joined_macs=sum(row.macs for row in rows),
        macs=batch * sum(layer.macs for layer in counted.layers),
        notes=(*zeros(file), *disturbance(busy)),
        ceilings=known,
    )


def _row(layer: "LayerCost", ms: float, total: float, known: Ceilings, precision: str, batch: int) -> LayerTime:
    least = layer_bound(layer, known, precision, batch)
    if least is None:
        raise BadInput(f"no ceiling is measured for {precision}, so layers cannot be held against it")
    macs = batch * layer.macs
    return LayerTime(
        name=layer.name,
        op=layer.op,
        macs=macs,
        ms=ms,
        share=ms / total,
        gflops=2e-6 * macs / ms if ms else 0.0,
        bound_ms=least[0],
        binds=least[1],
        waste_ms=max(0.0, ms - least[0]),
    )


def join(
    found: tuple[Operation, ...], graph: "onnx.GraphProto", counted: "Count"
) -> tuple[dict[str, float], list[Operation]]:
    """(milliseconds by name of a counted layer, operations that belong to none).

    A runtime names an operation after a node of the file, after its output, or, if it fused several nodes, after the
    output of the last: from there the one convolution or product that it ends is looked for. What is not certain is
    not joined.
    """
    names = _Names(graph)
    layers = {layer.name for layer in counted.layers}
    nodes = [names.node(operation) for operation in found]
    claimed = {_key(node) for node in nodes if node is not None and MULTIPLY.search(node.op_type)}
    times: dict[str, float] = defaultdict(float)
    own = []
    for operation, node in zip(found, nodes, strict=True):
        if node is not None and MULTIPLY.search(operation.op) and not MULTIPLY.search(node.op_type):
            node = names.product_before(node, claimed)
        if node is not None and _key(node) in layers:
            times[_key(node)] += operation.ms
        else:
            own.append(operation)
    return dict(times), own


class _Names:
    def __init__(self, graph: "onnx.GraphProto") -> None:
        self._nodes = list(graph.node)
        given = [node.name for node in graph.node if node.name]
        self._by_name = {node.name: node for node in graph.node if given.count(node.name) == 1}
        self._writer = {name: node for node in graph.node for name in node.output if name}

    def node(self, operation: Operation) -> "onnx.NodeProto | None":
        for name in (operation.name, SUFFIXES.sub("", operation.name)):
            node: onnx.NodeProto | None = self._by_name.get(name) or self._writer.get(name)
            if node is not None:
                return node
        kind, _, number = operation.name.rpartition("_")  # ONNX Runtime's name for a node that has none
        if kind == operation.op and number.isdigit() and int(number) < len(self._nodes):
            node = self._nodes[int(number)]
            return node if node.op_type == kind and not node.name else None
        return None

    def product_before(self, node: "onnx.NodeProto", claimed: set[str]) -> "onnx.NodeProto | None":
        """The one product not claimed by another operation from which only element-wise nodes lead to `node`."""
        reached: dict[str, onnx.NodeProto] = {}
        left = [node]
        while left:
            for name in left.pop().input:
                writer = self._writer.get(name)
                if writer is None or (_key(writer) in claimed and MULTIPLY.search(writer.op_type)):
                    continue
                if MULTIPLY.search(writer.op_type):
                    reached[_key(writer)] = writer
                elif writer.op_type in FUSED:
                    left.append(writer)
        return next(iter(reached.values())) if len(reached) == 1 else None


FUSED = {"Add", "BatchNormalization", "Clip", "HardSigmoid", "HardSwish", "LeakyRelu", "Mul", "Relu", "Sigmoid", "Tanh"}


def _key(node: "onnx.NodeProto") -> str:
    """The name under which count.py lists a node."""
    return str(node.name or node.output[0])
