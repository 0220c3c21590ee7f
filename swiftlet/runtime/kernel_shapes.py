"""The shape of every tensor of a graph that ONNX Runtime has optimised, and with it of the layouts that it works in.

Blocked: channels in blocks of 16 (8 without AVX-512), padded, which the graph states as if they were plain channels.
Channels last: for integers. Operators of ONNX Runtime's own follow the shapes of a standard twin.
"""

import onnx
from onnx import helper, numpy_helper

from swiftlet.cost.shapes import Known, attributes, infer_shapes

BLOCKED = "com.microsoft.nchwc"
POOLS = {"MaxPool", "AveragePool", "GlobalAveragePool"}
FLOATS = {"Conv", "Gemm", "Add", "Mul", "Identity", *POOLS}
# operator of ONNX Runtime's own -> the standard one whose shapes it follows, and the inputs that one takes
TWINS = {
    "FusedConv": ("Conv", (0, 1)),
    "FusedGemm": ("Gemm", (0, 1)),
    "QGemm": ("Gemm", (0, 3)),
    "QLinearConv": ("Conv", (0, 3)),
    "QLinearAdd": ("Add", (0, 3)),
    "QLinearMul": ("Mul", (0, 3)),
    "QLinearSigmoid": ("Identity", (0,)),
    "QLinearLeakyRelu": ("Identity", (0,)),
    "QLinearSoftmax": ("Identity", (0,)),
    "QLinearAveragePool": ("AveragePool", (0,)),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", (0,)),
    "NhwcMaxPool": ("MaxPool", (0,)),
    "NhwcConv": ("Conv", (0, 1)),
    "NhwcFusedConv": ("Conv", (0, 1)),
    "Gelu": ("Identity", (0,)),
    "QuickGelu": ("Identity", (0,)),
}


def inputs_and_constants(model: onnx.ModelProto) -> dict[str, Known]:
    """What is known before the first node."""
    bare = onnx.ModelProto(opset_import=model.opset_import)
    bare.graph.input.extend(model.graph.input)
    bare.graph.initializer.extend(model.graph.initializer)
    return infer_shapes(bare)


def block_of(graph: onnx.GraphProto, known: dict[str, Known]) -> int:
    """How many channels this machine takes at once: the weights of blocked convolutions are padded to it."""
    widths = [known[node.input[1]].shape[0] for node in graph.node if node.domain == BLOCKED and node.op_type == "Conv"]
    return 16 if all(width % 16 == 0 for width in widths) else 8


def outputs(node: onnx.NodeProto, known: dict[str, Known], versions: dict[str, int], block: int) -> dict[str, Known]:
    """Known for each output of one node. Raises ValueError, or one of cost.shapes.MALFORMED, where there is no rule."""
    first = known[node.input[0]]
    if node.op_type == "ReorderInput":
        n, *places = first.shape
        c, *spatial = places[-1:] + places[:-1] if attributes(node).get("channels_last") else places
        return {node.output[0]: Known(first.dtype, (n, -(-c // block) * block, *spatial))}
    if node.op_type == "ReorderOutput":
        (n, _, *spatial), c = first.shape, int(attributes(node)["channels"])
        last = attributes(node).get("channels_last")
        return {node.output[0]: Known(first.dtype, (n, *spatial, c) if last else (n, c, *spatial))}
    if node.op_type == "QLinearConcat":  # scale, zero point, then three inputs for each tensor
        tensors = [known[name].shape for name in node.input[2::3]]
        axis = attributes(node)["axis"] % len(tensors[0])
        joined = sum(shape[axis] for shape in tensors)
        dtype = known[node.input[2]].dtype
        return {node.output[0]: Known(dtype, (*tensors[0][:axis], joined, *tensors[0][axis + 1 :]))}
    operator, positions = TWINS.get(node.op_type, (node.op_type, range(len(node.input))))
    if node.domain == BLOCKED and operator == "Conv":
        positions = (0, 1)
    names = [node.input[i] for i in positions if i < len(node.input)]
    last = channels_last(node)
    schema = onnx.defs.get_schema(operator, versions.get("", 13), "")
    twin = helper.make_node(operator, names, list(node.output))
    twin.attribute.extend(a for a in node.attribute if a.name in schema.attributes)
    inputs = {name: known[name] for name in filter(None, names)}
    if last:
        inputs[names[0]] = first._replace(shape=channels_first(first.shape))
    floats = operator in FLOATS  # the standard operator knows only floats; the sizes are the same
    types = {
        name: helper.make_tensor_type_proto(onnx.TensorProto.FLOAT if floats else tensor.dtype, tensor.shape)
        for name, tensor in inputs.items()
    }
    values = {name: numpy_helper.from_array(t.value) for name, t in inputs.items() if t.value is not None}
    opsets = [onnx.OperatorSetIdProto(domain="", version=versions.get("", 13))]
    results = onnx.shape_inference.infer_node_outputs(schema, twin, types, values, opset_imports=opsets)
    scaled = node.op_type != "QGemm" or len(node.input) == 9  # without a zero point of its own a QGemm gives floats
    given = first.dtype if scaled else onnx.TensorProto.FLOAT
    found = {}
    for name in filter(None, node.output):
        tensor = results[name].tensor_type
        shape = tuple(dim.dim_value for dim in tensor.shape.dim)
        if not all(dim.HasField("dim_value") for dim in tensor.shape.dim):
            raise ValueError(f"the size of its output {name!r} cannot be known")
        dtype = given if floats else tensor.elem_type
        found[name] = Known(dtype, (shape[0], *shape[2:], shape[1]) if last else shape)
    return found


def channels_last(node: onnx.NodeProto) -> bool:
    """Whether its pictures are (N, H, W, C)."""
    return node.op_type.startswith("Nhwc") or bool(attributes(node).get("channels_last"))


def channels_first(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(N, H, W, C) -> (N, C, H, W)."""
    return (shape[0], shape[-1], *shape[1:-1])
