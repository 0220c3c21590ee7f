"""The shape of every tensor of an ONNX graph, worked out node by node without making any of them.

Batch is 1. What exporters compute at run time from shapes (Shape, Gather, Concat, ... feeding Reshape) is evaluated
here, as long as it stays small, so that each size is known before the file runs. A file can declare a small graph that
asks for gigabytes; every size is therefore checked before the next node is looked at, and the arguments that make
shapes must be known and modest before ONNX's own inference sees them.
"""

from collections.abc import Callable, Iterable
from math import prod
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from swiftlet.errors import BadFile

MAX_VALUES = 4096  # elements of a tensor that is evaluated rather than only sized
MAX_ARGUMENT = 2**31  # of an integer that makes a shape: products of two stay below 2^63
MAX_RANK = 16

BYTES: dict[int, int] = {
    TensorProto.FLOAT: 4, TensorProto.DOUBLE: 8, TensorProto.FLOAT16: 2, TensorProto.BFLOAT16: 2, TensorProto.BOOL: 1,
    TensorProto.INT8: 1, TensorProto.UINT8: 1, TensorProto.INT16: 2, TensorProto.UINT16: 2, TensorProto.INT32: 4,
    TensorProto.UINT32: 4, TensorProto.INT64: 8, TensorProto.UINT64: 8,
}  # fmt: skip

# operator -> inputs that decide the size of its output; all of them must be known before the file runs
SHAPERS = {
    "Reshape": (1,), "Expand": (1,), "ConstantOfShape": (0,), "Tile": (1,), "Range": (0, 1, 2), "Resize": (1, 2, 3),
    "Upsample": (1,), "Pad": (1, 3), "OneHot": (1,), "Slice": (1, 2, 3, 4), "Squeeze": (1,), "Unsqueeze": (1,),
    "Split": (1,), "TopK": (1,), "ReduceSum": (1,), "ReduceMean": (1,), "ReduceMax": (1,), "ReduceMin": (1,),
    "ReduceProd": (1,), "ReduceL1": (1,), "ReduceL2": (1,), "ReduceSumSquare": (1,), "ReduceLogSum": (1,),
    "ReduceLogSumExp": (1,),
}  # fmt: skip

# ONNX Runtime's own operators -> the standard one with the same sizes, and which inputs that one takes
CONTRIB = {
    "FusedConv": ("Conv", (0, 1, 2)),
    "FusedGemm": ("Gemm", (0, 1, 2)),
    "QLinearAdd": ("Add", (0, 3)),
    "QLinearMul": ("Mul", (0, 3)),
    "QLinearSigmoid": ("Identity", (0,)),
    "QLinearLeakyRelu": ("Identity", (0,)),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", (0,)),
    "QLinearAveragePool": ("AveragePool", (0,)),
    "Gelu": ("Identity", (0,)),
    "QuickGelu": ("Identity", (0,)),
    "QuantizeLinear": ("QuantizeLinear", (0, 1, 2)),
    "DequantizeLinear": ("DequantizeLinear", (0, 1, 2)),
}


# what NumPy, ONNX and the arithmetic below raise on a node that makes no sense
MALFORMED = (
    RuntimeError, KeyError, ValueError, TypeError, IndexError, OverflowError, AttributeError, ZeroDivisionError,
    onnx.checker.ValidationError, onnx.shape_inference.InferenceError, onnx.defs.SchemaError,
)  # fmt: skip


class Known(NamedTuple):
    """What is known of a tensor before the file runs: ONNX element type, shape, and the values of a small one."""

    dtype: int
    shape: tuple[int, ...]
    value: np.ndarray[Any, Any] | None = None

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * BYTES[self.dtype]


def infer_shapes(model: onnx.ModelProto, *, side: int = 224, max_tensor_bytes: int = 1_000_000_000) -> dict[str, Known]:
    """Tensor name -> Known for every input, initializer and node output of the main graph.

    A free first dimension of an input counts as 1, other free dimensions as `side`. Raises BadFile at the first tensor
    whose size cannot be known, or is above max_tensor_bytes.
    """
    versions = {"" if opset.domain == "ai.onnx" else opset.domain: opset.version for opset in model.opset_import}
    known = {tensor.name: _constant(tensor) for tensor in model.graph.initializer}
    for value in real_inputs(model.graph):
        known[value.name] = _input(value, side)
    for name, tensor in known.items():
        _check_size(name, tensor, max_tensor_bytes)
    for node in model.graph.node:
        for name, tensor in _outputs(node, known, versions).items():
            _check_size(name, tensor, max_tensor_bytes)
            known[name] = tensor
    return known


def real_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """The graph's inputs; files before IR 4 list the weights among them too."""
    weights = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in weights]


def _input(value: onnx.ValueInfoProto, side: int) -> Known:
    tensor = value.type.tensor_type
    if tensor.elem_type not in BYTES or not tensor.HasField("shape"):
        raise BadFile(f"input {value.name!r} has no element type or shape that can be used; declare both")
    free = [1] + [side] * len(tensor.shape.dim)
    shape = tuple(d.dim_value if d.HasField("dim_value") else f for d, f in zip(tensor.shape.dim, free, strict=False))
    return Known(tensor.elem_type, shape)


def _constant(tensor: onnx.TensorProto) -> Known:
    """An initializer, whose length screen.py has compared with its shape."""
    shape = tuple(tensor.dims)
    return Known(tensor.data_type, shape, numpy_helper.to_array(tensor) if prod(shape) <= MAX_VALUES else None)


def _check_size(name: str, tensor: Known, limit: int) -> None:
    if len(tensor.shape) > MAX_RANK or any(size < 0 for size in tensor.shape):
        raise BadFile(f"tensor {name!r} has the shape {tensor.shape[: MAX_RANK + 1]}, which cannot be")
    if tensor.nbytes > limit:
        raise BadFile(f"tensor {name!r} {tensor.shape} takes {tensor.nbytes:,} bytes; the limit is {limit:,}")


def _outputs(node: onnx.NodeProto, known: dict[str, Known], versions: dict[str, int]) -> dict[str, Known]:
    """Known for each named output of one node."""
    inputs = [known.get(name) for name in node.input]
    for position in SHAPERS.get(node.op_type, ()):
        if position < len(node.input) and node.input[position]:
            _check_argument(node, inputs[position])
    try:
        value = _evaluate(node, inputs)
        if value is not None:
            return {node.output[0]: Known(helper.np_dtype_to_tensor_dtype(value.dtype), value.shape, value)}
        types = _infer(_as_standard(node), known, versions[""])
    except MALFORMED as error:
        raise BadFile(f"{label(node)}: {(str(error).strip() or type(error).__name__).splitlines()[0]}") from error
    found = {}
    for name in filter(None, node.output):
        tensor = types[name].tensor_type if name in types else onnx.TypeProto.Tensor()
        fixed = all(dim.HasField("dim_value") for dim in tensor.shape.dim)
        if tensor.elem_type not in BYTES or not tensor.HasField("shape") or not fixed:
            raise BadFile(f"{label(node)}: the size of its output {name!r} cannot be known before the file runs")
        found[name] = Known(tensor.elem_type, tuple(dim.dim_value for dim in tensor.shape.dim))
    return found


def _infer(node: onnx.NodeProto, known: dict[str, Known], version: int) -> dict[str, onnx.TypeProto]:
    """ONNX's own inference of one node's outputs."""
    schema = onnx.defs.get_schema(node.op_type, version, "")
    inputs = {name: known[name] for name in node.input if name}
    types = {name: helper.make_tensor_type_proto(tensor.dtype, tensor.shape) for name, tensor in inputs.items()}
    values = {name: numpy_helper.from_array(t.value) for name, t in inputs.items() if t.value is not None}
    opsets = [onnx.OperatorSetIdProto(domain="", version=version)]
    return onnx.shape_inference.infer_node_outputs(schema, node, types, values, opset_imports=opsets)


def _check_argument(node: onnx.NodeProto, argument: Known | None) -> None:
    """Refuse a shape that is unknown, or whose numbers could overflow ONNX's arithmetic."""
    if argument is None or argument.value is None:
        raise BadFile(f"{label(node)}: its output's size depends on values that are not known before the file runs")
    value = argument.value
    if node.op_type == "Slice" or value.size == 0:
        return  # a slice is never larger than its source; its end is often written as the largest integer
    if len(argument.shape) > 1 or (value.size > 4 * MAX_RANK and node.op_type != "Split"):
        raise BadFile(f"{label(node)}: an argument of shape {argument.shape} where a list of sizes belongs")
    if value.dtype.kind not in "iuf" or not (np.abs(value.astype(np.float64)) <= MAX_ARGUMENT).all():
        raise BadFile(f"{label(node)}: the argument {value.ravel()[:4].tolist()} is too large for a size")


def _as_standard(node: onnx.NodeProto) -> onnx.NodeProto:
    if node.domain in ("", "ai.onnx"):
        return node
    op_type, positions = CONTRIB[node.op_type]
    standard = helper.make_node(op_type, [node.input[i] for i in positions if i < len(node.input)], node.output)
    allowed = onnx.defs.get_schema(op_type).attributes
    standard.attribute.extend(attribute for attribute in node.attribute if attribute.name in allowed)
    return standard


def label(node: onnx.NodeProto) -> str:
    return f"{node.op_type} {node.name or (node.output[0] if node.output else '')!r}"


# --- arithmetic on small constants --------------------------------------------------------------------------------


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Attribute name -> Python value; tensors stay TensorProto."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _evaluate(node: onnx.NodeProto, inputs: list[Known | None]) -> np.ndarray[Any, Any] | None:
    """The value of a node whose inputs are known and whose output is small, or None."""
    if node.op_type == "Constant" and not node.domain:
        return _constant_value(node)
    if node.op_type in ("Shape", "Size") and inputs and inputs[0] is not None:
        shape = np.array(inputs[0].shape, np.int64)
        a = attributes(node)
        return shape[a.get("start", 0) : a.get("end")] if node.op_type == "Shape" else np.array(shape.prod(), np.int64)
    rule = EVALUATE.get(node.op_type) if not node.domain else None
    values = [None if tensor is None else tensor.value for tensor in inputs]
    if rule is None or any(name and value is None for name, value in zip(node.input, values, strict=True)):
        return None
    with np.errstate(all="ignore"):
        result = rule(attributes(node), *values)
    return None if result is None or result.size > MAX_VALUES else np.asarray(result)


def _constant_value(node: onnx.NodeProto) -> np.ndarray[Any, Any] | None:
    a = attributes(node)
    if "value" in a:
        return _constant(a["value"]).value
    for name, dtype in (("value_int", np.int64), ("value_ints", np.int64), ("value_float", np.float32),
                        ("value_floats", np.float32)):  # fmt: skip
        if name in a and np.size(a[name]) <= MAX_VALUES:
            return np.array(a[name], dtype)
    return None


def _small(shape: Iterable[Any]) -> tuple[int, ...] | None:
    """The shape if an array of it may be made here."""
    sizes = tuple(int(size) for size in shape)
    return sizes if len(sizes) <= MAX_RANK and min(sizes, default=0) >= 0 and prod(sizes) <= MAX_VALUES else None


def _broadcast(operation: Callable[..., Any]) -> Callable[..., Any]:
    def rule(a: dict[str, Any], *values: Any) -> Any:
        return (
            operation(*values) if _small(np.broadcast_shapes(*(value.shape for value in values))) is not None else None
        )

    return rule


def _full(a: dict[str, Any], shape: Any) -> Any:
    fill = numpy_helper.to_array(a["value"]).reshape(-1)[:1] if "value" in a else np.zeros(1, np.float32)
    sizes = _small(shape)
    return None if sizes is None else np.full(sizes, fill[0], fill.dtype)


def _range(a: dict[str, Any], start: Any, limit: Any, delta: Any) -> Any:
    count = max(0, -(-(float(limit) - float(start)) // float(delta))) if delta else MAX_VALUES + 1
    return np.arange(int(count), dtype=start.dtype) * delta + start if count <= MAX_VALUES else None


def _reshape(a: dict[str, Any], value: Any, shape: Any) -> Any:
    sizes = [value.shape[i] if size == 0 and not a.get("allowzero") else int(size) for i, size in enumerate(shape)]
    return value.reshape(sizes)


def _expand(a: dict[str, Any], value: Any, shape: Any) -> Any:
    sizes = _small(np.broadcast_shapes(value.shape, tuple(int(size) for size in shape)))
    return None if sizes is None else np.broadcast_to(value, sizes).copy()


def _slice(
    a: dict[str, Any], value: Any, starts: Any = None, ends: Any = None, axes: Any = None, steps: Any = None
) -> Any:
    starts, ends = a.get("starts", starts), a.get("ends", ends)
    axes = a.get("axes", range(len(starts)) if axes is None else axes)
    for start, end, axis, step in zip(starts, ends, axes, [1] * len(starts) if steps is None else steps, strict=True):
        index = [slice(None)] * value.ndim
        low = int(end) if not (step < 0 and end < -value.shape[axis]) else None
        index[axis] = slice(int(start), low, int(step))
        value = value[tuple(index)]
    return value


def _unsqueeze(a: dict[str, Any], value: Any, axes: Any = None) -> Any:
    axes = [int(axis) for axis in a.get("axes", axes)]
    return np.expand_dims(value, tuple(axes)) if value.ndim + len(axes) <= MAX_RANK else None


def _squeeze(a: dict[str, Any], value: Any, axes: Any = None) -> Any:
    axes = a.get("axes", axes)
    return np.squeeze(value, None if axes is None else tuple(int(axis) for axis in axes))


def _gather(a: dict[str, Any], value: Any, index: Any) -> Any:
    axis = a.get("axis", 0)
    if value.size // max(value.shape[axis], 1) * index.size > MAX_VALUES:
        return None
    return np.take(value, index, axis)


def _div(left: Any, right: Any) -> Any:
    if left.dtype.kind not in "iu":
        return left / right
    if not right.all():
        raise ValueError("division by zero")
    quotient = np.abs(left) // np.abs(right)
    return (quotient * np.sign(left) * np.sign(right)).astype(left.dtype)


def _mod(a: dict[str, Any], left: Any, right: Any) -> Any:
    if not right.all():
        raise ValueError("division by zero")
    return (np.fmod if a.get("fmod") else np.mod)(left, right)


EVALUATE: dict[str, Callable[..., Any]] = {
    "Identity": lambda a, x: x,
    "Cast": lambda a, x: x.astype(helper.tensor_dtype_to_np_dtype(a["to"])) if a["to"] in BYTES else None,
    "Add": _broadcast(np.add),
    "Clip": lambda a, x, low=None, high=None: np.clip(x, a.get("min", low), a.get("max", high), out=np.empty_like(x)),
    "Sub": _broadcast(np.subtract),
    "Mul": _broadcast(np.multiply),
    "Div": _broadcast(_div),
    "Mod": _mod,
    "Min": _broadcast(lambda x, *rest: np.min(np.broadcast_arrays(x, *rest), axis=0)),
    "Max": _broadcast(lambda x, *rest: np.max(np.broadcast_arrays(x, *rest), axis=0)),
    "Equal": _broadcast(np.equal),
    "Less": _broadcast(np.less),
    "Greater": _broadcast(np.greater),
    "And": _broadcast(np.logical_and),
    "Or": _broadcast(np.logical_or),
    "Not": lambda a, x: np.logical_not(x),
    "Where": _broadcast(np.where),
    "Neg": lambda a, x: -x,
    "Floor": lambda a, x: np.floor(x),
    "Ceil": lambda a, x: np.ceil(x),
    "Sqrt": lambda a, x: np.sqrt(x),
    "Concat": lambda a, *xs: np.concatenate(xs, a["axis"]) if sum(x.size for x in xs) <= MAX_VALUES else None,
    "Gather": _gather,
    "Slice": _slice,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Reshape": _reshape,
    "Transpose": lambda a, x: np.transpose(x, a.get("perm")),
    "ConstantOfShape": _full,
    "Expand": _expand,
    "Range": _range,
    "ReduceProd": lambda a, x, axes=None: np.array([x.prod()], x.dtype) if x.ndim == 1 and a.get("keepdims", 1)
    else x.prod(dtype=x.dtype) if x.ndim == 1 else None,
}  # fmt: skip
