"""The graph of an ONNX file as an nn.Module, which PyTorch can run, compile, export and convert like any other."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from swiftlet.errors import BadFile
from swiftlet.runtime.base import Array, first_line
from swiftlet.runtime.torch_ops import OPERATORS, VALUES

if TYPE_CHECKING:
    import onnx

    from swiftlet.cost.screen import Screened

FAILURES = (RuntimeError, ValueError, TypeError, IndexError, KeyError, NotImplementedError)
MULTIPLY = {"Conv", "ConvTranspose", "Gemm", "MatMul"}


class _Node(NamedTuple):
    label: str
    kind: str
    operator: Callable[..., Any]
    attributes: dict[str, Any]
    inputs: tuple[str | None, ...]
    outputs: tuple[str, ...]
    dying: tuple[str, ...]  # not read again: their memory goes back


class Graph(nn.Module):
    """Input as the file says -> tuple of outputs in the file's order, executed node by node.

    What depends on constants alone is computed once, here. fixed_sizes: the batch is as `file` has it, 1 if that is
    free, so that sizes are constants too, as an export needs. Raises BadFile, with the node, if an operator is not
    translated or fails.
    """

    def __init__(self, file: "Screened", *, fixed_sizes: bool = False) -> None:
        from onnx import numpy_helper

        from swiftlet.cost.shapes import real_inputs

        super().__init__()
        self.name = file.name
        graph = file.model.graph
        self._names: dict[str, str] = {}  # of the file -> of a buffer: those may hold no dots
        self._fixed: dict[str | None, Any] = {None: None}  # absent inputs, and values that are no tensors
        arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        if fixed_sizes:
            arrays |= {name: np.asarray(known.value) for name, known in file.known.items() if known.value is not None}
        try:
            constants = {self._key(name): to_tensor(array) for name, array in arrays.items()}
        except TypeError as error:  # bfloat16 and shorter, which NumPy has from a package of its own
            raise BadFile(f"{file.name}: PyTorch cannot read its constants: {first_line(error)}") from error
        self._input = self._key(real_inputs(graph)[0].name)
        self._results = tuple(self._key(value.name) for value in graph.output)
        opset = next(o.version for o in file.model.opset_import if o.domain in ("", "ai.onnx"))
        nodes = [self._translate(node, opset) for node in graph.node]
        with torch.no_grad():
            nodes = self._fold(nodes, constants)
        self._nodes = _schedule([self._with_values(node, constants) for node in nodes], self._results)
        used = {name for node in self._nodes for name in node.inputs} | set(self._results)
        for name, constant in constants.items():
            if name in used:
                self.register_buffer(name, constant)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        values = self._fixed.copy()
        values.update(self._buffers)
        values[self._input] = image
        for node in self._nodes:
            values.update(zip(node.outputs, self._step(node, values), strict=False))
            for name in node.dying:
                values.pop(name, None)
        return tuple(values[name] for name in self._results)

    def channels_last(self) -> "Graph":
        """Photos arrive as NHWC; convolutions keep that order if their weights have it. Changes self."""
        self._each_weight(lambda w: w.contiguous(memory_format=torch.channels_last) if w.ndim == 4 else w, (1,))
        return self

    def contiguous(self) -> "Graph":
        """Pictures in planes (NCHW) from the first transpose on, as PyTorch is used by default. Changes self."""
        transpose = OPERATORS["Transpose"]
        self._nodes = [
            node._replace(operator=lambda a, x: transpose(a, x).contiguous()) if node.kind == "Transpose" else node
            for node in self._nodes
        ]
        return self

    def half_weights(self, dtype: torch.dtype) -> "Graph":
        """Weights of convolutions and products in a shorter type, which autocast would else convert in each run.
        Changes self."""
        self._each_weight(lambda w: w.to(dtype) if w.dtype == torch.float32 else w, (1, 2))
        return self

    def _each_weight(self, change: Callable[[Tensor], Tensor], positions: tuple[int, ...]) -> None:
        multiply = [node for node in self._nodes if node.kind in MULTIPLY]
        weights = {node.inputs[i] for node in multiply for i in positions if i < len(node.inputs)}
        elsewhere = {name for node in self._nodes if node.kind not in MULTIPLY for name in node.inputs}
        for name, constant in self.named_buffers():
            if name in weights - elsewhere:
                setattr(self, name, change(constant))

    def _key(self, name: str) -> str:
        return self._names.setdefault(name, f"t{len(self._names)}")

    def _translate(self, node: "onnx.NodeProto", opset: int) -> _Node:
        from swiftlet.cost.shapes import attributes, label

        if node.op_type not in OPERATORS or node.domain not in ("", "ai.onnx"):
            known = ", ".join(sorted(OPERATORS))
            raise BadFile(f"{self.name}: PyTorch as a runtime has no {node.op_type}; use onnxruntime. It has {known}")
        given = attributes(node) | {"opset": opset, "outputs": len(node.output)}
        inputs = tuple(self._key(name) if name else None for name in node.input)
        outputs = tuple(self._key(name) if name else "unused" for name in node.output)
        return _Node(label(node), node.op_type, OPERATORS[node.op_type], given, inputs, outputs, ())

    def _fold(self, nodes: list[_Node], constants: dict[str, Tensor]) -> list[_Node]:
        """Compute once what depends on constants alone, such as dequantized weights; the nodes that remain."""
        remaining = []
        for node in nodes:
            if all(name in constants for name in node.outputs):
                continue
            if all(name in constants for name in node.inputs if name):
                listed = self._with_values(node, constants)
                results = self._step(listed, {**self._fixed, **constants})  # type: ignore[dict-item]
                constants.update(zip(node.outputs, results, strict=False))
            else:
                remaining.append(node)
        return remaining

    def _with_values(self, node: _Node, constants: dict[str, Tensor]) -> _Node:
        """Inputs that are sizes, axes or bounds become Python numbers: here if constant, else in each run."""
        inputs, late = list(node.inputs), []
        if node.kind == "DequantizeLinear":
            self._numbers_for_grid(inputs, constants)
        for i in VALUES.get(node.kind, ()):
            name = inputs[i] if i < len(inputs) else None
            if name in constants:
                inputs[i] = f"{name} as numbers"
                self._fixed[inputs[i]] = constants[name].tolist()
            elif name is not None:
                late.append(i)
        operator = _listing(node.operator, tuple(late)) if late else node.operator
        return node._replace(inputs=tuple(inputs), operator=operator)

    def _numbers_for_grid(self, inputs: list[str | None], constants: dict[str, Tensor]) -> None:
        """One scale and one zero point, as of a picture, become numbers: converters have no unsigned constants."""
        grid = [name for name in inputs[1:] if name is not None]
        one = all(name in constants and constants[name].numel() == 1 for name in grid)
        if one and constants[grid[0]].dtype == torch.float32:
            for i, name in enumerate(grid, 1):
                inputs[i] = f"{name} as a number"
                self._fixed[inputs[i]] = constants[name].item()

    def _step(self, node: _Node, values: dict[str | None, Any]) -> tuple[Tensor, ...]:
        try:
            result = node.operator(node.attributes, *[values[name] for name in node.inputs])
        except FAILURES as error:
            raise BadFile(f"{self.name}: {node.label} fails in PyTorch: {first_line(error)}") from error
        return (result,) if isinstance(result, Tensor) else tuple(result)


def _listing(operator: Callable[..., Any], positions: tuple[int, ...]) -> Callable[..., Any]:
    def listed(a: dict[str, Any], *inputs: Any) -> Any:
        return operator(a, *(x.tolist() if i in positions and x is not None else x for i, x in enumerate(inputs)))

    return listed


def _schedule(nodes: list[_Node], results: tuple[str, ...]) -> list[_Node]:
    """Note for each node which tensors nobody reads after it."""
    seen, schedule = set(results), []
    for node in reversed(nodes):
        names = {name for name in (*node.inputs, *node.outputs) if name}
        schedule.append(node._replace(dying=tuple(names - seen)))
        seen |= names
    return schedule[::-1]


def to_tensor(array: Array) -> Tensor:
    """Without copying where PyTorch allows it."""
    return torch.from_numpy(array if array.flags.writeable else array.copy())
