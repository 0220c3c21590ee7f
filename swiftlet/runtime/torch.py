"""PyTorch as a runtime: it executes the graph of an ONNX file node by node, with its own kernels.

A second opinion on every file that ONNX Runtime executes, and the runtime for those who deploy PyTorch. Quantized files
are computed in float32 between their quantizers, so results agree within one step of the output's scale.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from swiftlet.errors import BadFile
from swiftlet.runtime.base import Array, Program, check_threads
from swiftlet.runtime.onnx_io import Signature, signature
from swiftlet.runtime.torch_ops import OPERATORS

if TYPE_CHECKING:
    import onnx


class TorchRuntime:
    """PyTorch on the CPU."""

    name = "torch"

    def missing(self) -> str | None:
        return None

    def load(self, path: Path | bytes, threads: int) -> Program:
        """Raises BadFile if the screen refuses the file, or it has an operator that is not translated."""
        from swiftlet.cost.screen import screen_onnx

        check_threads(threads)
        file = screen_onnx(path)
        return _Interpreter(file.name, file.model, signature(file), threads)


class _Node(NamedTuple):
    label: str
    operator: Callable[..., Any]
    attributes: dict[str, Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dying: tuple[str, ...]  # not read again: their memory goes back


class _Interpreter(Program):
    def __init__(self, name: str, model: "onnx.ModelProto", io: Signature, threads: int) -> None:
        from onnx import numpy_helper

        self.name, self.input_shape, self.input_dtype = name, io.input_shape, io.input_dtype
        self.output_names, self._input, self._threads = io.output_names, io.input_name, threads
        self._constants = {tensor.name: to_tensor(numpy_helper.to_array(tensor)) for tensor in model.graph.initializer}
        opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
        nodes = [_translate(name, node, opset) for node in model.graph.node]
        with torch.inference_mode(), thread_count(threads):
            self._nodes = _schedule(self._fold(nodes), self.output_names)
        weights = {node.inputs[1] for node in self._nodes if node.label.startswith("Conv ")}
        for weight in weights & self._constants.keys():
            if self._constants[weight].ndim == 4:  # photos arrive as NHWC; convolutions keep that order if weights do
                self._constants[weight] = self._constants[weight].contiguous(memory_format=torch.channels_last)

    def execute(self, batch: Array) -> list[Array]:
        values = dict(self._constants)
        values[self._input] = to_tensor(batch)
        with torch.inference_mode(), thread_count(self._threads):
            for node in self._nodes:
                values.update(zip(node.outputs, self._apply(node, values), strict=False))
                for name in node.dying:
                    values.pop(name, None)
        return [np.ascontiguousarray(values[name].numpy()) for name in self.output_names]

    def close(self) -> None:
        self._nodes, self._constants = [], {}

    def _fold(self, nodes: list[_Node]) -> list[_Node]:
        """Compute once what depends on constants alone, such as dequantized weights."""
        remaining = []
        for node in nodes:
            if all(name in self._constants for name in node.inputs if name):
                self._constants.update(zip(node.outputs, self._apply(node, self._constants), strict=False))
            else:
                remaining.append(node)
        return remaining

    def _apply(self, node: _Node, values: dict[str, Tensor]) -> tuple[Tensor, ...]:
        try:
            result = node.operator(node.attributes, *(values[name] if name else None for name in node.inputs))
        except (RuntimeError, ValueError, TypeError, IndexError, KeyError, NotImplementedError) as error:
            reason = str(error).strip().split("\n")[0]
            raise BadFile(f"{self.name}: {node.label} fails in PyTorch: {reason}") from error
        return (result,) if isinstance(result, Tensor) else tuple(result)


def _translate(file: str, node: "onnx.NodeProto", opset: int) -> _Node:
    from swiftlet.cost.shapes import attributes, label

    if node.op_type not in OPERATORS or node.domain not in ("", "ai.onnx"):
        known = ", ".join(sorted(OPERATORS))
        raise BadFile(f"{file}: the torch runtime has no operator {node.op_type}; use onnxruntime. It has {known}")
    given = attributes(node) | {"opset": opset, "outputs": len(node.output)}
    return _Node(label(node), OPERATORS[node.op_type], given, tuple(node.input), tuple(node.output), ())


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


@contextmanager
def thread_count(threads: int) -> Iterator[None]:
    """PyTorch's thread count is global: set it around a run, and put the caller's back."""
    before = torch.get_num_threads()
    if before == threads:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
