"""A screened ONNX file as an importer asks about it: who makes a tensor, who reads it, its shape, its numbers."""

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, numpy_helper

from swiftlet.cost.screen import Screened
from swiftlet.cost.shapes import attributes, label, real_inputs
from swiftlet.errors import BadFile

Array = npt.NDArray[Any]
VIEWS = {"Flatten", "Reshape", "Squeeze", "Unsqueeze"}


class Node(NamedTuple):
    """A node of the file; its inputs are the tensors that count, past any that only pass a value on."""

    op: str
    name: str
    label: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


class Step(NamedTuple):
    """The first layer takes all the inputs, each other layer what the one before it gives; none: the input itself."""

    inputs: tuple[str, ...]
    layers: tuple[Callable[..., Any], ...]


class FileGraph:
    """The nodes that compute something, in the file's order. Shapes are those of one picture."""

    def __init__(self, file: Screened) -> None:
        graph = file.model.graph
        self.opset = next(o.version for o in file.model.opset_import if o.domain in ("", "ai.onnx"))
        self.inputs = tuple(value.name for value in real_inputs(graph))
        self._known = file.known
        self._stored = {tensor.name: tensor for tensor in graph.initializer}
        self.nodes: list[Node] = []
        same: dict[str, str] = {}  # what a node passes on -> what it was given
        for proto in graph.node:
            inputs = tuple(same.get(name, name) for name in proto.input)
            op = proto.op_type if proto.domain in ("", "ai.onnx") else f"{proto.domain}.{proto.op_type}"
            node = Node(op, proto.name, label(proto), inputs, tuple(proto.output), attributes(proto))
            if self._passes_on(node):
                same[node.outputs[0]] = inputs[0]
            else:
                self.nodes.append(node)
        self.outputs = tuple(same.get(value.name, value.name) for value in graph.output)
        self.sources = {name: node for node in self.nodes for name in node.outputs}
        self._reads = Counter(name for node in self.nodes for name in node.inputs)
        self._reader = {name: node for node in self.nodes for name in node.inputs}

    def _passes_on(self, node: Node) -> bool:
        if node.op == "Dropout":
            training = self.constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
            if training is not None and training.any():
                raise BadFile(f"{node.label} is in training mode; export the network in eval mode")
            return True
        same_type = node.op == "Cast" and self.dtype(node.inputs[0]) == node.attributes["to"]
        return node.op == "Identity" or same_type

    def dtype(self, tensor: str) -> int:
        return self._known[tensor].dtype

    def shape(self, tensor: str) -> tuple[int, ...]:
        return self._known[tensor].shape

    def source(self, tensor: str, op: str) -> Node | None:
        """The node that makes the tensor, if it is an `op`."""
        node = self.sources.get(tensor)
        return node if node is not None and node.op == op else None

    def only_reader(self, tensor: str) -> Node | None:
        """The node that alone reads the tensor."""
        return self._reader[tensor] if self.read_once(tensor) else None

    def read_once(self, tensor: str) -> bool:
        return self._reads[tensor] == 1 and tensor not in self.outputs

    def constant(self, tensor: str) -> Array | None:
        """The numbers of a tensor that do not depend on the picture; None if they do, or are computed in many steps."""
        node = self.source(tensor, "Transpose")
        if node is None:
            return self._literal(tensor)
        given = self._literal(node.inputs[0])
        return None if given is None else given.transpose(node.attributes.get("perm"))

    def _literal(self, tensor: str) -> Array | None:
        if tensor in self._stored:
            return numpy_helper.to_array(self._stored[tensor])
        node = self.source(tensor, "Constant")
        if node is not None and "value" in node.attributes:
            return numpy_helper.to_array(node.attributes["value"])
        known = self._known.get(tensor)
        return None if known is None else known.value

    def number(self, tensor: str) -> float | None:
        """The value of a constant that is a single number, in whatever shape."""
        value = self.constant(tensor)
        return float(value.reshape(-1)[0]) if value is not None and value.size == 1 else None

    def weights(self, node: Node, position: int) -> Array:
        """A constant input as float32 numbers. Raises BadFile if it is anything else."""
        value = self.constant(node.inputs[position])
        if value is None:
            raise BadFile(
                f"{node.label} takes its weights from {node.inputs[position]!r}, which is computed while the network "
                "runs; fold the constants first, as onnxslim or torch.onnx.export do"
            )
        if value.dtype != np.float32:
            raise BadFile(f"{node.label} has {value.dtype} weights; give the float32 file")
        if not np.isfinite(value).all():
            raise BadFile(f"{node.label}: {node.inputs[position]!r} holds numbers that are not finite")
        return value

    def vector(self, node: Node, position: int, size: int) -> Array:
        """A constant input of one number per channel."""
        value = self.weights(node, position).reshape(-1)
        if value.size not in (1, size):
            raise BadFile(f"{node.label}: {node.inputs[position]!r} has {value.size} numbers for {size} channels")
        return np.broadcast_to(value, size)

    def affine(self, node: Node) -> tuple[str, Array, Array] | None:
        """(x, a, b) if the node computes a * x + b with constants of one number, or one per channel; else None."""
        if node.op not in ("Add", "Sub", "Mul", "Div"):
            return None
        left, right = (self.constant(name) for name in node.inputs)
        if (left is None) == (right is None):
            return None
        x = node.inputs[0] if left is None else node.inputs[1]
        value = self._per_channel(right if left is None else left, self.shape(x))
        if value is None or self.dtype(node.outputs[0]) != TensorProto.FLOAT:
            return None
        one, zero = np.ones(1), np.zeros(1)
        if node.op == "Add":
            return x, one, value
        if node.op == "Mul":
            return x, value, zero
        if node.op == "Sub":
            return (x, one, -value) if left is None else (x, -one, value)
        return (x, 1 / value, zero) if left is None and value.all() else None

    def _per_channel(self, value: Array | None, shape: tuple[int, ...]) -> Array | None:
        """As one float64 number, or as many as there are channels, if that is how it acts on a tensor of `shape`."""
        if value is None or value.ndim > len(shape) or len(shape) < 2:
            return None
        full = (1,) * (len(shape) - value.ndim) + value.shape
        if value.size != 1 and full != (1, shape[1], *[1] * (len(shape) - 2)):
            return None
        return value.astype(np.float64).reshape(-1)

    def unviewed(self, tensor: str) -> str:
        """The tensor that has the same numbers in the same order, as far back as there is one."""
        while (node := self.sources.get(tensor)) is not None and self._is_view(node):
            tensor = node.inputs[0]
        return tensor

    def _is_view(self, node: Node) -> bool:
        if node.op != "Transpose":
            return node.op in VIEWS
        shape = self.shape(node.inputs[0])
        perm = node.attributes.get("perm", range(len(shape))[::-1])
        moved = [axis for axis in perm if axis == 0 or shape[axis] > 1]  # the batch may be more than 1
        return moved == sorted(moved)
