"""The kernels that ONNX Runtime makes of a file: what is left after its optimiser has fused and laid out the graph.

Latency is a matter of these, not of the layers in the file: a convolution takes its activation and the sum behind it
along, works on channels in blocks of 16 (8 without AVX-512), and where it cannot, a reorder appears on either side.
Nothing is run here: a session is made and asked for its graph, and the shapes are worked out.
"""

import tempfile
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import onnx

from swiftlet.cost.shapes import MALFORMED, Known, attributes, label
from swiftlet.errors import BadFile
from swiftlet.runtime.base import check_threads, first_line
from swiftlet.runtime.kernel_shapes import (
    BLOCKED,
    POOLS,
    block_of,
    channels_first,
    channels_last,
    inputs_and_constants,
    outputs,
)
from swiftlet.runtime.onnxruntime import session_options

CONVS = {  # where its picture and its weights stand
    "Conv": (0, 1), "FusedConv": (0, 1), "NhwcConv": (0, 1), "NhwcFusedConv": (0, 1), "QLinearConv": (0, 3),
}  # fmt: skip
ACTIVATIONS = ("", "Relu", "Clip", "LeakyRelu", "HardSigmoid", "Sigmoid", "Tanh")  # cheap ones first
LANES = 16  # float32 in the widest vectors there are; a multiple of those of narrower ones
PRODUCTS = {"Gemm", "FusedGemm", "MatMul", "QGemm"}
FREE = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"}  # no more than a new name for the same bytes


class Kernel(NamedTuple):
    """One step of the optimised graph.

    kind: operator, layout and form, such as "Conv depthwise blocked float": what one table of times covers; macs: as
    the kernel does them, padded channels included; reads, weights, writes: bytes of what comes in, of constants, and
    of what goes out; around: bytes of all constants, and of all that is written, in one run of the network, which
    decides what is still in which cache; sizes: the further numbers that matter, as many for each kernel of one kind;
    patches: of a convolution or product, the elements of its left matrix, which some kernels write out first.
    """

    name: str
    kind: str
    macs: int
    reads: int
    weights: int
    writes: int
    around: tuple[int, int]
    sizes: tuple[int, ...]
    patches: int = 0


def optimised(data: bytes, threads: int = 1) -> onnx.ModelProto:
    """The graph that ONNX Runtime would run, each node under a name of its own. Raises BadFile if it is refused."""
    import onnxruntime as ort  # here, so that `import swiftlet` works without it

    check_threads(threads)
    options = session_options(threads)
    options.add_session_config_entry("session.disable_prepacking", "1")  # nothing will be run
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimised.onnx"
        options.optimized_model_filepath = str(path)
        try:
            ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no other base
            raise BadFile(f"ONNX Runtime refuses the file: {first_line(error)}") from error
        model = onnx.load_model(path)
    for i, node in enumerate(model.graph.node):
        node.name = f"{i}_{node.op_type}"
    return model


def kernels(model: onnx.ModelProto) -> tuple[Kernel, ...]:
    """The kernels of an optimised graph at batch 1, in the order of the file. Raises BadFile, by name, on a node whose
    output's size cannot be worked out."""
    graph = model.graph
    versions = {opset.domain: opset.version for opset in model.opset_import}
    constants = {tensor.name for tensor in graph.initializer}
    known = inputs_and_constants(model)
    block = block_of(graph, known)
    found = []
    for node in graph.node:
        try:
            known.update(outputs(node, known, versions, block))
            found.append(_kernel(node, known, constants))
        except MALFORMED as error:
            raise BadFile(f"the kernel {label(node)}: {first_line(error)}") from error
        if all(name in constants for name in node.input):
            constants.update(node.output)
    around = (sum(kernel.weights for kernel in found), sum(kernel.writes for kernel in found))
    return tuple(kernel._replace(around=around) for kernel in found)


def _kernel(node: onnx.NodeProto, known: dict[str, Known], constants: set[str]) -> Kernel:
    names = [name for name in node.input if name]
    inputs = [known[name] for name in names if name not in constants]
    output = known[node.output[0]]
    weights = sum(known[name].nbytes for name in names if name in constants)
    reads, writes = sum(tensor.nbytes for tensor in inputs), sum(known[name].nbytes for name in node.output if name)
    dtype = onnx.TensorProto.DataType.Name((inputs or [output])[0].dtype).lower()
    layout = "blocked" if node.domain == BLOCKED else "channels-last" if channels_last(node) else ""
    kind, macs, patches = node.op_type, 0, 0
    sizes: tuple[int, ...] = (1,)
    a = attributes(node)
    if not inputs:
        kind = f"{kind} of constants"
        sizes = (prod(output.shape),)
    elif node.op_type in CONVS:
        kind, macs, sizes = _conv(node, known, a, output, len(inputs))
        patches = macs // sizes[1]
    elif node.op_type in PRODUCTS:
        (m, k), n = _matrix(inputs[0].shape, a), output.shape[-1]
        macs, sizes, patches = m * k * n, (m, k, n), m * k
    elif node.op_type in FREE:
        kind, reads, writes = "Reshape", 0, 0
    elif node.op_type == "Transpose":
        kind = f"Transpose {' '.join(map(str, a['perm']))}"
        sizes = inputs[0].shape
    elif node.op_type.removeprefix("QLinear").removeprefix("Nhwc") in POOLS:
        c, *spatial = (channels_first if channels_last(node) else tuple)(output.shape)[1:]
        window = a.get("kernel_shape") or inputs[0].shape[2:]
        sizes = (c, prod(spatial), prod(window), c % LANES)
    else:
        whole = max((prod(tensor.shape) for tensor in inputs), default=1)
        least = min((prod(tensor.shape) for tensor in inputs), default=1)
        second, last = (*output.shape, 1)[1], (1, *output.shape)[-1]
        sizes = (len(inputs) + len(node.output), max(whole, prod(output.shape)), second, last, last % LANES)
        if len(inputs) > 1 and least < whole and "Concat" not in kind:
            kind = f"{kind} broadcast"
    kind = " ".join(filter(None, (kind, layout, dtype)))
    return Kernel(node.name, kind, macs, reads, weights, writes, (0, 0), sizes, patches)


def _conv(
    node: onnx.NodeProto, known: dict[str, Known], a: dict[str, Any], output: Known, tensors: int
) -> tuple[str, int, tuple[int, ...]]:
    """sizes: channels in per group, channels out, groups, output's height and width, kernel, stride, what is left of
    channels in, channels out and pixels when whole vectors are full, tensors read, and the activation that is fused."""
    first, second = CONVS[node.op_type]
    picture, weight = known[node.input[first]].shape, known[node.input[second]].shape
    c_out, c_in, *window = weight
    groups, strides = a.get("group", 1), a.get("strides", [1, 1])
    n, _, *spatial = channels_first(output.shape) if channels_last(node) else output.shape
    if groups > 1:
        form = "grouped" if c_in > 1 else "depthwise" if c_out == groups else "depthwise multiplied"
    else:
        form = "pointwise" if prod(window) == 1 else "dense"
        if node.domain == BLOCKED and picture[1] % 8:
            form = "from planes"  # the first layer reads colours that are not blocked
    activation = a.get("activation", b"").decode()
    fused = ACTIVATIONS.index(activation) if activation in ACTIVATIONS else len(ACTIVATIONS)
    macs = n * prod(spatial) * c_out * c_in * prod(window)
    tails = (c_in * groups % 4, c_out % LANES, prod(spatial) % LANES)
    sizes = (c_in, c_out, groups, *spatial, prod(window), prod(strides), *tails, tensors, fused)
    return f"Conv {form}", macs, sizes


def _matrix(shape: tuple[int, ...], a: dict[str, Any]) -> tuple[int, int]:
    rows, columns = prod(shape[:-1]), shape[-1]
    return (columns, rows) if a.get("transA") else (rows, columns)
