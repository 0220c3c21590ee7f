"""The only door by which an ONNX file gets in: counting and every runtime load through it.

A file is judged by its structure before anything is allocated for it or handed to a runtime. A hundred bytes can ask a
runtime for gigabytes, so each tensor's size is worked out first, and whatever cannot be known is refused. A container
(swiftlet.pack) is unpacked in memory on the way in, and the file that was in it is judged as any other.
"""

from collections import Counter
from math import prod
from pathlib import Path
from typing import NamedTuple

import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, TensorProto

from swiftlet.cost.memory import Step, peak_bytes
from swiftlet.cost.shapes import BYTES, CONTRIB, MAX_RANK, Known, infer_shapes, label, real_inputs
from swiftlet.errors import BadFile
from swiftlet.pack.onnx import plain_onnx
from swiftlet.pack.wire import check_wire

MAX_NODES = 20_000
MIN_OPSET = 7

OPERATORS = {
    "Abs", "Add", "And", "ArgMax", "ArgMin", "AveragePool", "BatchNormalization", "Cast", "CastLike", "Ceil",
    "Celu", "Clip", "Concat", "Constant", "ConstantOfShape", "Conv", "ConvInteger", "ConvTranspose", "Cos",
    "CumSum", "DepthToSpace", "DequantizeLinear", "Div", "Dropout", "DynamicQuantizeLinear", "Einsum", "Elu",
    "Equal", "Erf", "Exp", "Expand", "Flatten", "Floor", "Gather", "GatherElements", "GatherND", "Gelu", "Gemm",
    "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "Greater", "GreaterOrEqual", "GridSample",
    "GroupNormalization", "HardSigmoid", "HardSwish", "Hardmax", "Identity", "InstanceNormalization", "LRN",
    "LayerNormalization", "LeakyRelu", "Less", "LessOrEqual", "Log", "LogSoftmax", "LpNormalization", "LpPool",
    "MatMul", "MatMulInteger", "Max", "MaxPool", "Mean", "MeanVarianceNormalization", "Min", "Mish", "Mod", "Mul",
    "Neg", "Not", "OneHot", "Or", "PRelu", "Pad", "Pow", "QLinearConv", "QLinearMatMul", "QuantizeLinear",
    "RMSNormalization", "Range", "Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp",
    "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu", "Reshape",
    "Resize", "Round", "ScatterElements", "ScatterND", "Selu", "Shape", "Sigmoid", "Sign", "Sin", "Size", "Slice",
    "Softmax", "Softplus", "Softsign", "SpaceToDepth", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Swish", "Tan",
    "Tanh", "ThresholdedRelu", "Tile", "TopK", "Transpose", "Trilu", "Unsqueeze", "Upsample", "Where", "Xor",
}  # fmt: skip

# where a TensorProto keeps its numbers if not as raw bytes; the other types share int32_data
FIELDS: dict[int, str] = {
    TensorProto.FLOAT: "float_data",
    TensorProto.DOUBLE: "double_data",
    TensorProto.INT64: "int64_data",
    TensorProto.UINT32: "uint64_data",
    TensorProto.UINT64: "uint64_data",
}


class Screened(NamedTuple):
    """A file that passed: its name for messages, the bytes of the ONNX file, the parsed model, and what is known of
    every tensor."""

    name: str
    data: bytes
    model: onnx.ModelProto
    known: dict[str, Known]


def read_onnx(
    file: Path | bytes, *, max_file_bytes: int = 1_000_000_000, max_tensor_bytes: int = 1_000_000_000
) -> onnx.ModelProto:
    """Parse and screen an ONNX file; see screen_onnx, which also returns the bytes."""
    return screen_onnx(file, max_file_bytes=max_file_bytes, max_tensor_bytes=max_tensor_bytes).model


def screen_onnx(
    file: Path | bytes, *, side: int = 224, max_file_bytes: int = 1_000_000_000, max_tensor_bytes: int = 1_000_000_000
) -> Screened:
    """Accept an ordinary image network, refuse the rest with BadFile: what is wrong, where, and what to do.

    `file` is an ONNX file, or a container of one, whose refusal is a ContainerError. Refused: files that do not parse
    or, packed or unpacked, exceed max_file_bytes; external data, subgraphs, functions and sparse tensors; unknown
    operators and opsets; initializers whose bytes do not match their shape; more than 20,000 nodes; tensors whose size
    cannot be known before running (a free batch counts as 1, other free input dimensions as `side`), or a tensor or a
    sum of live tensors above max_tensor_bytes.
    """
    name, stored = _read(file, max_file_bytes)
    data = plain_onnx(stored, name, max_bytes=max_file_bytes)
    try:
        check_wire(data)
        model = onnx.ModelProto.FromString(data)
        _check_model(model)
        _check_graph(model.graph)
        known = infer_shapes(model, side=side, max_tensor_bytes=max_tensor_bytes)
        _check_memory(model.graph, known, max_tensor_bytes)
    except DecodeError as error:
        raise BadFile(f"{name}: not an ONNX file, or cut short; export or download it again") from error
    except BadFile as error:
        raise BadFile(f"{name}: {error}") from error
    return Screened(name, data, model, known)


def _read(file: Path | bytes, limit: int) -> tuple[str, bytes]:
    if isinstance(file, bytes):
        name, size = "ONNX bytes", len(file)
    else:
        name = str(file)
        try:
            size = Path(file).stat().st_size
        except OSError as error:
            raise BadFile(f"{name}: cannot be read ({error.strerror}); check the path") from error
    if size > limit:
        raise BadFile(f"{name}: {size:,} bytes; the limit is {limit:,} (max_file_bytes)")
    if size == 0:
        raise BadFile(f"{name}: the file is empty; export or download it again")
    if isinstance(file, bytes):
        return name, file
    try:
        with Path(file).open("rb") as stream:
            return name, stream.read(limit + 1)[:limit]  # it may have grown since
    except OSError as error:
        raise BadFile(f"{name}: cannot be read ({error.strerror}); check the path") from error


def _check_model(model: onnx.ModelProto) -> None:
    if not model.HasField("graph") or not model.graph.node:
        raise BadFile("no graph inside; is it an ONNX file?")
    if model.functions or model.training_info:
        raise BadFile("it defines functions or training steps; export it for inference, with functions inlined")
    versions: dict[str, int] = {}
    for opset in model.opset_import:
        domain = "" if opset.domain == "ai.onnx" else opset.domain
        if versions.setdefault(domain, opset.version) != opset.version:
            raise BadFile(f"two versions of the operator set {domain or 'ai.onnx'!r}")
    newest = onnx.defs.onnx_opset_version()
    if not MIN_OPSET <= versions.get("", 0) <= newest:
        raise BadFile(f"opset {versions.get('', 0)}: export it with opset {MIN_OPSET} to {newest}")
    if len(model.graph.node) > MAX_NODES:
        raise BadFile(f"{len(model.graph.node):,} nodes; the limit is {MAX_NODES:,}")


def _check_graph(graph: onnx.GraphProto) -> None:
    """Names, operators and constants."""
    if graph.sparse_initializer or graph.quantization_annotation:
        raise BadFile("it holds sparse initializers or quantization annotations; export it with plain tensors")
    for tensor in graph.initializer:
        _check_tensor(tensor)
    if not real_inputs(graph) or not graph.output:
        raise BadFile("the graph has no input or no output")
    names = Counter(tensor.name for tensor in graph.initializer)
    names.update(value.name for value in real_inputs(graph))
    defined = set(names)
    for node in graph.node:
        _check_node(node)
        for name in filter(None, node.input):
            if name not in defined:
                raise BadFile(f"{label(node)} reads {name!r} before anything writes it")
        outputs = list(filter(None, node.output))
        names.update(outputs)
        defined.update(outputs)
    for value in graph.output:
        if value.name not in defined:
            raise BadFile(f"nothing writes the output {value.name!r}")
    twice = [name for name, times in names.items() if times > 1 or not name]
    if twice:
        raise BadFile(f"tensor {twice[0]!r} is written more than once, or has no name")


def _check_node(node: onnx.NodeProto) -> None:
    known = CONTRIB if node.domain == "com.microsoft" else OPERATORS if node.domain in ("", "ai.onnx") else ()
    if node.op_type not in known:
        operator = f"{node.domain or 'ai.onnx'}.{node.op_type}"
        raise BadFile(f"operator {operator} is not one that image networks need; export the network without it")
    if not any(node.output):
        raise BadFile(f"{label(node)} writes nothing")
    for attribute in node.attribute:
        if attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) or attribute.HasField("g"):
            raise BadFile(f"{label(node)} holds a subgraph; export the network without control flow")
        if attribute.graphs or attribute.sparse_tensors or attribute.tensors or attribute.HasField("sparse_tensor"):
            raise BadFile(f"{label(node)} holds a subgraph or sparse tensor in {attribute.name!r}")
        if attribute.HasField("t"):
            _check_tensor(attribute.t)
        integers = (attribute.i, *attribute.ints)
        if node.op_type != "Slice" and any(abs(value) > 2**31 for value in integers):
            raise BadFile(f"{label(node)}: {attribute.name}={integers[:4]} is out of range")
        if node.domain == "com.microsoft" and attribute.name == "channels_last" and attribute.i:
            raise BadFile(f"{label(node)} is in channels-last layout; save the file before that optimisation")


def _check_tensor(tensor: onnx.TensorProto) -> None:
    """The stored numbers are inside the file, and as many as the shape says."""
    where = f"constant {tensor.name!r}"
    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        raise BadFile(
            f"{where} lies in another file; save the model with its weights inside, as torch.onnx.export does with "
            "external_data=False"
        )
    if tensor.data_type not in BYTES or tensor.HasField("segment"):
        raise BadFile(f"{where} has the element type {tensor.data_type}, which image networks do not need")
    if len(tensor.dims) > MAX_RANK or any(size < 0 for size in tensor.dims):
        raise BadFile(f"{where} has a negative dimension, or more than {MAX_RANK}")
    elements = prod(tensor.dims)
    if tensor.HasField("raw_data"):
        stored, expected = len(tensor.raw_data), elements * BYTES[tensor.data_type]
    else:
        stored, expected = len(getattr(tensor, FIELDS.get(tensor.data_type, "int32_data"))), elements
    if stored != expected:
        raise BadFile(f"{where}: shape {tuple(tensor.dims)} needs {expected:,} stored values, found {stored:,}")


def _check_memory(graph: onnx.GraphProto, known: dict[str, Known], limit: int) -> None:
    """The weights and the largest sum of live tensors, with none reused and none fused, stay below the limit."""
    constants = {tensor.name for tensor in graph.initializer}
    sizes = {name: tensor.nbytes for name, tensor in known.items() if name not in constants}
    steps = [Step(tuple(node.input), tuple(filter(None, node.output)), False) for node in graph.node]
    peak = peak_bytes(
        steps,
        sizes,
        [value.name for value in real_inputs(graph)],
        [value.name for value in graph.output if value.name in sizes],
    )
    total = peak + sum(known[name].nbytes for name in constants)
    if total > limit:
        raise BadFile(f"running it takes {total:,} bytes of tensors at batch 1; the limit is {limit:,}")
