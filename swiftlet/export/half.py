"""Half precision in files: weights that are stored so and computed with in float32, or arithmetic in float16."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from swiftlet.compress.half import LEAST, Half, half_type
from swiftlet.cost.screen import screen_onnx
from swiftlet.cost.shapes import SHAPERS, label, real_inputs
from swiftlet.errors import BadInput, NothingToDo

TYPES = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}


def half_weights(file: Path | bytes, kind: Half = "float16") -> bytes:
    """The same ONNX file with its float32 constants stored as `kind`, each with a Cast to float32, which runtimes
    compute once, when they load the file. Arithmetic and time stay those of float32.

    Constants of fewer than 64 values, scales of integers and arguments that make shapes stay. The result computes what
    the file of to_half(network) does. Raises BadFile; BadInput for values that float16 cannot hold, by name, and for
    bfloat16 below opset 13; NothingToDo if no constant is worth it.
    """
    half_type("half_weights", kind)
    screened = screen_onnx(file)
    model, taken = onnx.ModelProto.FromString(screened.data), set(screened.known)
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    if kind == "bfloat16" and opset < 13:
        raise BadInput(f"half_weights: {screened.name} has opset {opset}, and bfloat16 needs 13; use float16")
    kept = _kept(model.graph)
    casts: list[onnx.NodeProto] = []
    for tensor in _floats(model.graph, kept, LEAST):
        name = tensor.name
        tensor.CopyFrom(_stored(tensor, kind, f"{name}.{kind}"))
        if tensor.name in taken:
            raise BadInput(f"half_weights: {screened.name} has a tensor {tensor.name!r} already")
        casts.append(helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
    if not casts:
        raise NothingToDo(f"half_weights: {screened.name} has no float32 constant of {LEAST} values or more")
    _write(model, [*casts, *model.graph.node])
    return bytes(model.SerializeToString(deterministic=True))


def half_compute(file: Path | bytes) -> bytes:
    """The same ONNX file with its arithmetic in float16; inputs and outputs keep their types.

    For runtimes that have float16, as on GPUs. ONNX Runtime on an x86 CPU computes each layer in float32 between
    two casts, which takes longer than the file of half_weights(); for bfloat16 it has no convolution at all. Results
    beyond 65504 become infinite, see compress.half.overflows. Raises BadFile; BadInput for a quantized file, for one
    with float Constant nodes, and for constants that float16 cannot hold, by name.
    """
    screened = screen_onnx(file)
    model, known = onnx.ModelProto.FromString(screened.data), screened.known
    graph = model.graph
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DynamicQuantizeLinear") or "Integer" in node.op_type:
            raise BadInput(f"half_compute: {screened.name} computes with integers; give it the float32 file")
        if node.op_type in ("Constant", "ConstantOfShape") and known[node.output[0]].dtype == TensorProto.FLOAT:
            raise BadInput(f"half_compute: {label(node)} makes floats; store them as an initializer")
    for tensor in _floats(graph, _kept(graph), 1):
        tensor.CopyFrom(_stored(tensor, "float16", tensor.name))

    nodes: list[onnx.NodeProto] = []
    renamed: dict[str, str] = {}  # what is float32 -> its copy in float16

    def cast(source: str, target: str, to: int) -> None:
        nodes.append(helper.make_node("Cast", [source], [target], to=to))

    for value in real_inputs(graph):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            renamed[value.name] = f"{value.name}.float16"
            cast(value.name, renamed[value.name], TensorProto.FLOAT16)
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        nodes.append(node)
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
        if node.op_type == "DequantizeLinear":  # gives float16 since opset 19 only
            renamed[node.output[0]] = f"{node.output[0]}.float16"
            cast(node.output[0], renamed[node.output[0]], TensorProto.FLOAT16)
    for value in graph.output:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT and value.name not in renamed:
            inner = f"{value.name}.float16"
            for node in nodes:
                node.input[:] = [inner if name == value.name else name for name in node.input]
                node.output[:] = [inner if name == value.name else name for name in node.output]
            cast(inner, value.name, TensorProto.FLOAT)
    _write(model, nodes)
    result = bytes(model.SerializeToString(deterministic=True))
    screen_onnx(result)  # a node that does not take float16 is named here
    return result


def _kept(graph: onnx.GraphProto) -> set[str]:
    """What must stay float32: scales of integers, and arguments that make shapes."""
    kept: set[str] = set()
    for node in graph.node:
        integer = node.op_type.startswith("QLinear") or node.op_type in ("QuantizeLinear", "DequantizeLinear")
        positions = range(len(node.input)) if integer else SHAPERS.get(node.op_type, ())
        kept.update(node.input[i] for i in positions if i < len(node.input))
    return kept


def _floats(graph: onnx.GraphProto, kept: set[str], least: int) -> Iterator[onnx.TensorProto]:
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in kept and np.prod(tensor.dims) >= least:
            yield tensor


def _stored(tensor: onnx.TensorProto, kind: Half, name: str) -> onnx.TensorProto:
    """Rounded to nearest. Raises BadInput for values beyond the largest."""
    values = torch.tensor(numpy_helper.to_array(tensor))
    rounded = values.to(half_type("half", kind))
    if (rounded.isinf() & values.isfinite()).any():
        raise BadInput(f"constant {tensor.name!r} reaches {values.abs().max().item():.6g}, beyond the largest value of "
                       "float16, 65504; use bfloat16")  # fmt: skip
    raw = rounded.view(torch.int16).numpy().tobytes()
    return TensorProto(name=name, dims=tensor.dims, data_type=TYPES[kind], raw_data=raw)


def _write(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
    """In place. Files before IR 4 list constants among the inputs, of which some are none any more."""
    inputs = real_inputs(model.graph)
    made = {name for node in nodes for name in node.output}
    model.ir_version = max(model.ir_version, 4)
    kept = [value for value in inputs if value.name not in made]
    del model.graph.input[:], model.graph.node[:]
    model.graph.input.extend(kept)
    model.graph.node.extend(nodes)
