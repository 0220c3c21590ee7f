"""The one exporter: a traced network in, the bytes of a small ONNX file out.

torch.fx gives the order of calls in milliseconds where PyTorch's own exporter takes seconds, so the files that are
timed before training and the file that is delivered come from the same code. The price is the table of operations
below: what is not in it is refused by name.

The file takes `image`, uint8 (N, side, side, 3) RGB with N free, and gives `scores`, float32 (N, classes), which sum
to 1. Normalisation is inside. Weights are in the file. Layers keep the names that they have in the network. Tensors are
numbered, in two characters each: in a tiny network names weigh, and pack/names.py makes little of numbers in a row.
"""

import hashlib
import operator
from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, fx, nn
from torch.nn import functional as F

from swiftlet.compress.fold import is_training
from swiftlet.compress.quantize import FakeQuantize
from swiftlet.compress.trace import trace
from swiftlet.data.contract import InputContract
from swiftlet.errors import BadInput
from swiftlet.layers.padding import SameConv2d, SameMaxPool2d, same_pads
from swiftlet.pack.names import DIGITS

OPSET, IR_VERSION = 13, 7  # the floor: per-channel QuantizeLinear needs 13; ONNX Runtime reads these since 1.7 (2021)
MAX_METADATA = 1_000_000
PACKING = 400  # bytes that the operations which unpack one tensor take in a file

Node = Any  # an fx.Node: torch types its args so broadly that every use would need a cast


def export_onnx(model: nn.Module, contract: InputContract, metadata: dict[str, str] | None = None) -> bytes:
    """Write a classifier, in eval mode, that maps normalised (B, 3, side, side) to (B, classes) logits.

    Same network, same bytes. Raises BadInput in training mode or for an operation that is not in the table.
    """
    if is_training(model):
        raise BadInput("export_onnx: call model.eval() first")
    side = contract.side
    graph, result, shape = _translate(model, (3, side, side), lambda graph: graph.normalised_image(contract))
    if len(shape) != 2:
        raise BadInput("export_onnx: the network must return logits of shape (B, classes)")
    graph.op("Softmax", result, output="scores", axis=1)
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", side, side, 3])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", shape[1]])
    return with_metadata(_file(graph, image, scores), metadata or {})


def export_layers(model: nn.Module, input: tuple[int, int, int]) -> bytes:
    """Write any part of a network, in eval mode: `x`, float32 (N, C, H, W) with `input` = (C, H, W), to one tensor `y`.

    For timing layers; what is delivered comes from export_onnx. Raises BadInput as that does.
    """
    if is_training(model):
        raise BadInput("export_layers: call model.eval() first")
    graph, result, shape = _translate(model, input, lambda graph: "x")
    graph.op("Identity", result, output="y")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *input])
    return _file(graph, x, helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", *shape[1:]]))


def _translate(
    model: nn.Module, input: tuple[int, int, int], first: Callable[["_Graph"], str]
) -> tuple["_Graph", str, tuple[int, ...]]:
    """The graph of the network, the name of its result and that one's shape; `first` writes what stands before it."""
    traced = model if isinstance(model, fx.GraphModule) else trace(model)
    shapes = _shapes(traced, input)
    graph = _Graph(dict(traced.named_modules()), shapes)
    for node in traced.graph.nodes:
        if node.op == "placeholder":
            graph.names[node] = first(graph)
        elif node.op != "output":
            graph.add(node)
    end: Node = next(node for node in traced.graph.nodes if node.op == "output")
    if end not in shapes:
        raise BadInput("the exporter writes networks that return one tensor; this one returns something else")
    return graph, graph.names[end.args[0]], shapes[end]


def _file(graph: "_Graph", input: onnx.ValueInfoProto, output: onnx.ValueInfoProto) -> bytes:
    proto = helper.make_graph(graph.nodes, "swiftlet", [input], [output], graph.initializers)
    file = helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="swiftlet")
    file.ir_version = IR_VERSION
    return bytes(file.SerializeToString(deterministic=True))


def with_metadata(file: bytes, metadata: dict[str, str]) -> bytes:
    """The same ONNX file with exactly these metadata_props, in the order of their keys."""
    if sum(len(k) + len(v) for k, v in metadata.items()) > MAX_METADATA:
        raise BadInput(f"export_onnx: the metadata exceeds {MAX_METADATA:,} characters")
    model = onnx.load_from_string(file)
    del model.metadata_props[:]
    helper.set_model_props(model, dict(sorted(metadata.items())))
    return bytes(model.SerializeToString(deterministic=True))


def graph_digest(file: bytes) -> str:
    """SHA-256 of what the file computes: everything but its metadata, so that figures can be written into it."""
    return hashlib.sha256(with_metadata(file, {})).hexdigest()


def _shapes(model: fx.GraphModule, input: tuple[int, int, int]) -> dict[Node, tuple[int, ...]]:
    """The shape of every tensor, from one picture: that the network runs at this side is worth knowing too."""
    found: dict[Node, tuple[int, ...]] = {}

    class Watch(fx.Interpreter):
        def run_node(self, n: Node) -> Any:
            result = super().run_node(n)
            if isinstance(result, Tensor):
                found[n] = tuple(result.shape)
            return result

    with torch.inference_mode():
        Watch(model).run(torch.zeros(1, *input))
    return found


class _Graph:
    """ONNX nodes and initializers as they grow; `names` maps each fx node to the tensor that holds its value, `parts`
    one that has several to their names."""

    def __init__(self, modules: dict[str, Any], shapes: dict[Node, tuple[int, ...]]) -> None:
        self.modules = modules
        self.shapes = shapes
        self.parts: dict[Node, list[str]] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.names: dict[Node, str] = {}
        self._fresh = count()
        self._numbers: dict[tuple[str, bytes] | None, str] = {}

    def add(self, node: Node) -> None:
        called = type(self.modules[node.target]) if node.op == "call_module" else node.target
        write = MODULES.get(called) if node.op == "call_module" else FUNCTIONS.get(called)
        named = sorted(set(node.kwargs) - {"inplace", "dim", "start_dim", "end_dim"})
        if write is not None and named:
            name = getattr(called, "__name__", called)
            raise BadInput(f"export_onnx: {node.name!r} gives {name} {', '.join(named)} by name; give it by position")
        if write is None:
            where = f"module {node.target!r}" if node.op == "call_module" else f"node {node.name!r}"
            name = getattr(called, "__name__", called)
            raise BadInput(f"export_onnx: {where} is a {name}, which the exporter cannot write; use one that it can")
        self.names[node] = write(self, node)

    def op(
        self,
        kind: str,
        *inputs: str,
        output: str | None = None,
        name: str | None = None,
        parts: int = 1,
        **attributes: Any,
    ) -> str:
        """Append a node and return the name of its output, of its first one if it has several `parts`."""
        output = output or self.fresh()
        outputs = [output, *(self.fresh() for _ in range(parts - 1))]
        if name in {node.name for node in self.nodes}:
            name = None  # a layer that is called again: names are optional, but must differ
        self.nodes.append(helper.make_node(kind, list(inputs), outputs, name=name, **attributes))
        return output

    def fresh(self) -> str:
        """A name for a tensor: its number, in at least two digits to the base 60."""
        number, name = next(self._fresh), ""
        while number or len(name) < 2:
            number, digit = divmod(number, len(DIGITS))
            name = DIGITS[digit] + name
        return name

    def const(self, value: Any) -> str:
        """Single numbers are stored once: a quantized network names the same scale again and again."""
        array = np.asarray(value, order="C")
        key = (array.dtype.str, array.tobytes()) if array.ndim == 0 else None
        if key not in self._numbers:
            # a zero point, which is named from everywhere, has no place in the row of numbers
            name = f"_{array}" if array.ndim == 0 and array.dtype == np.uint8 else self.fresh()
            self.initializers.append(onnx.numpy_helper.from_array(array, name))
            if key is None:
                return name
            self._numbers[key] = name
        return self._numbers[key]

    def normalised_image(self, contract: InputContract) -> str:
        """uint8 (N, side, side, 3) -> float (N, 3, side, side); one DequantizeLinear if the mean is whole.

        Otherwise a BatchNormalization: with Sub and Div, MobileNet V2 takes 1.3 times as long as int8 in ONNX Runtime
        (docs/log.md), which moves them behind the Transpose to channels-last.
        """
        image = self.op("Transpose", "image", perm=[0, 3, 1, 2])
        grid = contract_grid(contract)
        if grid is not None:
            return self.op("DequantizeLinear", image, self.const(np.float32(grid[0])), self.const(np.uint8(grid[1])))
        pixels, zero, one = self.op("Cast", image, to=TensorProto.FLOAT), np.zeros(3), np.ones(3)
        factors = (1 / np.array(contract.std), zero, np.array(contract.mean), one)  # scale, shift, mean, variance
        return self.op("BatchNormalization", pixels, *(self.const(np.float32(v)) for v in factors), epsilon=0.0)

    def parameters(self, layer: Any, *, zeros: bool = False) -> list[str]:
        """Weight and bias as float constants, or, if quantized, as integers with their scales.

        `zeros`: with zero points that are 0 said, too; without them ONNX Runtime takes no Gemm for an integer one.
        """
        weight = layer.weight.detach().numpy()
        bias = None if layer.bias is None else layer.bias.detach().numpy()
        buffers = dict(layer.named_buffers())
        if "weight_scale" not in buffers:
            stored = self.unpacked(layer, weight) if "code_scale" in buffers else self.const(weight)
            return [stored] + ([] if bias is None else [self.const(bias)])
        scale, bias_scale = layer.get_buffer("weight_scale").numpy(), layer.get_buffer("bias_scale").numpy()
        steps = np.rint(weight / scale.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.int8)
        zero = [self.const(np.zeros(len(scale), np.int8))] if zeros else []
        out = [self.op("DequantizeLinear", self.steps(steps), self.const(scale), *zero, axis=0)]
        if bias is not None:
            steps = np.rint(bias.astype(np.float64) / bias_scale).astype(np.int32)
            out.append(self.op("DequantizeLinear", self.const(steps), self.const(bias_scale), axis=0))
        return out

    def steps(self, steps: Any) -> str:
        """int8 weights, which take fewer bits in the file if they are small, and are unpacked when it is loaded."""
        largest = int(np.abs(steps).max())
        width = _width(steps.size, 2 if largest < 2 else 4 if largest < 8 else 8)
        if width == 8 or not largest:  # weights that are all zero stay where runtime/liven.py finds them
            return self.const(steps)
        middle = 2 ** (width - 1)
        codes = self.codes((steps + middle).astype(np.uint8), width)
        return self.op("Cast", self.op("Sub", codes, self.const(np.int32(middle))), to=TensorProto.INT8)

    def codes(self, codes: Any, width: int) -> str:
        """Whole numbers from fields of `width` bits in bytes: the first share of them lies in the lowest bits."""
        if width == 8:
            return self.const(codes)
        shifts = width * np.arange(8 // width, dtype=np.uint8)[:, None]
        packed = self.const(np.bitwise_or.reduce(codes.reshape(len(shifts), -1) << shifts))
        powers, size = self.const(np.int32(1) << shifts.astype(np.int32)), self.const(np.int32(2**width))
        shifted = self.op("Div", self.op("Cast", packed, to=TensorProto.INT32), powers)
        fields = self.op("Sub", shifted, self.op("Mul", self.op("Div", shifted, size), size))
        return self.op("Reshape", fields, self.const(np.array(codes.shape)))

    def unpacked(self, layer: Any, weight: Any) -> str:
        """Float weights from codes of 2, 4 or 8 bits, see compress/weight_only.py: (code - zero) x scale.

        Nothing but arithmetic on constants, which runtimes do once, when they load the file. ONNX Runtime keeps a
        DequantizeLinear for its integer kernels instead, and runs it for every picture where there is none.
        """
        scale, zero = (layer.get_buffer(name).numpy().reshape(-1, 1) for name in ("code_scale", "code_zero"))
        codes = (np.rint(weight.reshape(len(scale), -1) / scale) + zero).astype(np.uint8)  # (rows, weights of a grid)
        shape = weight.shape if len(scale) == len(weight) else codes.shape
        column = (-1, *[1] * (len(shape) - 1))
        value = self.codes(codes.reshape(shape), _width(codes.size, int(layer.get_buffer("code_bits"))))
        value = self.op("Cast", value, to=TensorProto.FLOAT)
        if (zero == zero[0]).all():
            centre = self.const(np.float32(zero[0, 0]))
        else:
            centre = self.op("Cast", self.const(zero.reshape(column)), to=TensorProto.FLOAT)
        value = self.op("Mul", self.op("Sub", value, centre), self.const(scale.reshape(column)))
        return value if shape == weight.shape else self.op("Reshape", value, self.const(np.array(weight.shape)))


def _width(size: int, bits: int) -> int:
    """The bits that a file gives each of `size` codes of `bits`: 2 or 4 where they fill bytes and it pays, else 8."""
    pays = (w for w in (2, 4) if w >= bits and size % (8 // w) == 0 and size * (8 - w) // 8 > PACKING)
    return next(pays, 8)


def contract_grid(contract: InputContract) -> tuple[float, int] | None:
    """(scale, zero point) of normalised pixels if one grid serves all channels exactly, else None."""
    mean, std = set(contract.mean), set(contract.std)
    whole = float(contract.mean[0]).is_integer() and 0 <= contract.mean[0] <= 255
    if len(mean) > 1 or len(std) > 1 or not whole:
        return None
    return 1 / contract.std[0], int(contract.mean[0])


Writer = Callable[[_Graph, Node], str]


def _input(graph: _Graph, node: Node, position: int = 0) -> str:
    return graph.names[node.args[position]]


def _same_pads(graph: _Graph, node: Node, kernel: list[int], stride: list[int], dilation: list[int]) -> list[int]:
    """TensorFlow's SAME padding, which depends on the size of what comes in, as ONNX's begins and ends."""
    sizes = graph.shapes[node.args[0]][2:]
    pads = [same_pads(*window) for window in zip(sizes, kernel, stride, dilation, strict=True)]
    return [begin for begin, _ in pads] + [end for _, end in pads]


def _pads(padding: Any, where: str) -> list[int]:
    """PyTorch's symmetric padding as ONNX's begins and ends."""
    if isinstance(padding, str):
        raise BadInput(f"export_onnx: {where!r} has padding={padding!r}; give it as numbers")
    h, w = padding if isinstance(padding, tuple) else (padding, padding)
    return [h, w, h, w]


def _pair(value: Any) -> list[int]:
    return list(value) if isinstance(value, tuple) else [value, value]


def _conv(graph: _Graph, node: Node) -> str:
    conv = graph.modules[node.target]
    if conv.padding_mode != "zeros":
        raise BadInput(f"export_onnx: {node.target!r} has padding_mode={conv.padding_mode!r}; use 'zeros'")
    attributes: dict[str, Any] = {"kernel_shape": list(conv.kernel_size)}
    if isinstance(conv, SameConv2d):
        pads = _same_pads(graph, node, list(conv.kernel_size), list(conv.stride), list(conv.dilation))
    else:
        pads = _pads(conv.padding, node.target)
    for key, value, default in (
        ("strides", list(conv.stride), [1, 1]),
        ("pads", pads, [0, 0, 0, 0]),
        ("dilations", list(conv.dilation), [1, 1]),
        ("group", conv.groups, 1),
    ):
        if value != default:
            attributes[key] = value
    return graph.op("Conv", _input(graph, node), *graph.parameters(conv), name=node.target, **attributes)


def _linear(graph: _Graph, node: Node) -> str:
    layer = graph.parameters(graph.modules[node.target], zeros=True)
    return graph.op("Gemm", _input(graph, node), *layer, name=node.target, transB=1)


def _batchnorm(graph: _Graph, node: Node) -> str:
    bn = graph.modules[node.target]
    if bn.running_mean is None:
        raise BadInput(f"export_onnx: {node.target!r} keeps no running statistics, so it has no fixed result to export")
    weight = torch.ones(bn.num_features) if bn.weight is None else bn.weight.detach()
    bias = torch.zeros(bn.num_features) if bn.bias is None else bn.bias.detach()
    consts = [graph.const(v.numpy()) for v in (weight, bias, bn.running_mean, bn.running_var)]
    return graph.op("BatchNormalization", _input(graph, node), *consts, name=node.target, epsilon=bn.eps)


def _relu6(graph: _Graph, node: Node) -> str:
    return graph.op("Clip", _input(graph, node), graph.const(np.float32(0)), graph.const(np.float32(6)))


def _hardsigmoid(graph: _Graph, node: Node) -> str:
    return graph.op("HardSigmoid", _input(graph, node), alpha=1 / 6, beta=0.5)


def _hardswish(graph: _Graph, node: Node) -> str:
    return graph.op("Mul", _input(graph, node), _hardsigmoid(graph, node))  # HardSwish itself came with opset 14


def _silu(graph: _Graph, node: Node) -> str:
    return graph.op("Mul", _input(graph, node), graph.op("Sigmoid", _input(graph, node)))


def _zero_pad(graph: _Graph, node: Node) -> str:
    left, right, top, bottom = graph.modules[node.target].padding
    return graph.op("Pad", _input(graph, node), graph.const(np.array([0, 0, top, left, 0, 0, bottom, right])))


def _hardtanh(graph: _Graph, node: Node) -> str:
    clip = graph.modules[node.target]
    return graph.op("Clip", _input(graph, node), *(graph.const(np.float32(v)) for v in (clip.min_val, clip.max_val)))


def _max_pool(graph: _Graph, node: Node) -> str:
    pool = graph.modules[node.target]
    size, stride, dilation = _pair(pool.kernel_size), _pair(pool.stride), _pair(pool.dilation)
    if isinstance(pool, SameMaxPool2d):
        pads = _same_pads(graph, node, size, stride, dilation)
    else:
        pads = _pads(pool.padding, node.target)
    window: dict[str, Any] = {"kernel_shape": size, "strides": stride, "pads": pads, "dilations": dilation}
    return graph.op("MaxPool", _input(graph, node), ceil_mode=int(pool.ceil_mode), **window)


def _average_pool(graph: _Graph, node: Node) -> str:
    pool = graph.modules[node.target]
    if pool.divisor_override is not None:
        raise BadInput(f"export_onnx: {node.target!r} has a divisor of its own, which ONNX does not know")
    window: dict[str, Any] = {
        "kernel_shape": _pair(pool.kernel_size),
        "strides": _pair(pool.stride),
        "pads": _pads(pool.padding, node.target),
    }
    whole = int(pool.count_include_pad)
    return graph.op(
        "AveragePool", _input(graph, node), ceil_mode=int(pool.ceil_mode), count_include_pad=whole, **window
    )


def _adaptive_pool(graph: _Graph, node: Node) -> str:
    """Global pooling, a plain average where the windows are alike, otherwise two products with matrices of means."""
    wanted, sizes = _pair(graph.modules[node.target].output_size), list(graph.shapes[node.args[0]][2:])
    if wanted == [1, 1]:
        return graph.op("GlobalAveragePool", _input(graph, node))
    if wanted == sizes:
        return _input(graph, node)
    if all(size % w == 0 for size, w in zip(sizes, wanted, strict=True)):
        window = [size // w for size, w in zip(sizes, wanted, strict=True)]
        return graph.op("AveragePool", _input(graph, node), kernel_shape=window, strides=window)
    rows, columns = (_means(size, w) for size, w in zip(sizes, wanted, strict=True))
    halfway = graph.op("MatMul", graph.const(rows), _input(graph, node))
    return graph.op("MatMul", halfway, graph.const(columns.T))


def _means(size: int, wanted: int) -> Any:
    """(wanted, size): row i averages the i-th window of adaptive pooling."""
    return F.adaptive_avg_pool1d(torch.eye(size), wanted).T.contiguous().numpy()


def _lrn(graph: _Graph, node: Node) -> str:
    norm = graph.modules[node.target]
    return graph.op("LRN", _input(graph, node), size=norm.size, alpha=norm.alpha, beta=norm.beta, bias=float(norm.k))


def _channel_shuffle(graph: _Graph, node: Node) -> str:
    """The form that other tools recognise: channels as (groups, channels / groups), transposed."""
    groups, (_, channels, height, width) = graph.modules[node.target].groups, graph.shapes[node]
    split = graph.const(np.array([0, groups, channels // groups, height, width]))  # 0: as before, so N stays free
    apart = graph.op("Transpose", graph.op("Reshape", _input(graph, node), split), perm=[0, 2, 1, 3, 4])
    return graph.op("Reshape", apart, graph.const(np.array([0, channels, height, width])))


def _chunk(graph: _Graph, node: Node) -> str:
    """Split along the channels; the parts are what getitem asks for."""
    pieces, dim = node.args[1], node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", 0)
    channels = graph.shapes[node.args[0]][1]
    if dim != 1 or channels % pieces:
        raise BadInput(f"export_onnx: {node.name!r} splits dimension {dim} of {channels} into {pieces}; only equal "
                       "parts of dimension 1 are supported")  # fmt: skip
    first = graph.op(
        "Split", _input(graph, node), graph.const(np.full(pieces, channels // pieces)), parts=pieces, axis=1
    )
    graph.parts[node] = list(graph.nodes[-1].output)
    return first


def _getitem(graph: _Graph, node: Node) -> str:
    """A part of what chunk gave, or a slice of the channels."""
    source, index = node.args
    if source in graph.parts:
        return graph.parts[source][int(index)]
    everything = slice(None)
    by_channel = isinstance(index, tuple) and len(index) == 2 and index[0] == everything
    if not by_channel or not isinstance(index[1], slice) or index[1].step not in (None, 1):
        raise BadInput(f"export_onnx: {node.name!r} takes {index} of a tensor; only x[:, a:b] is supported")
    start, stop, _ = index[1].indices(graph.shapes[source][1])
    start_stop_axis = [graph.const(np.array([value])) for value in (start, stop, 1)]
    return graph.op("Slice", _input(graph, node), *start_stop_axis)


def _flatten(graph: _Graph, node: Node) -> str:
    if node.op == "call_module":
        dims = (graph.modules[node.target].start_dim, graph.modules[node.target].end_dim)
    else:
        start = node.args[1] if len(node.args) > 1 else node.kwargs.get("start_dim", 0)
        dims = (start, node.args[2] if len(node.args) > 2 else node.kwargs.get("end_dim", -1))
    if dims != (1, -1):
        raise BadInput(f"export_onnx: {node.name!r} flattens dimensions {dims}; only (1, -1) is supported")
    # as a Reshape, which ONNX Runtime moves in front of a DequantizeLinear, so that a Gemm finds its input on a grid
    return graph.op("Reshape", _input(graph, node), graph.const(np.array([0, -1])))


def _fake_quantize(graph: _Graph, node: Node) -> str:
    grid = graph.modules[node.target]
    scale, zero = graph.const(grid.scale.numpy()), graph.const(grid.zero_point.numpy().astype(np.uint8))
    return graph.op("DequantizeLinear", graph.op("QuantizeLinear", _input(graph, node), scale, zero), scale, zero)


def _binary(kind: str) -> Writer:
    def write(graph: _Graph, node: Node) -> str:
        if not all(isinstance(arg, fx.Node) for arg in node.args):
            raise BadInput(f"export_onnx: {node.name!r} combines a tensor with a number; use two tensors")
        return graph.op(kind, _input(graph, node, 0), _input(graph, node, 1))

    return write


def _concat(graph: _Graph, node: Node) -> str:
    axis = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    return graph.op("Concat", *(graph.names[part] for part in node.args[0]), axis=axis)


def _unary(kind: str) -> Writer:
    return lambda graph, node: graph.op(kind, _input(graph, node))


MODULES: dict[type, Writer] = {
    nn.Conv2d: _conv,
    SameConv2d: _conv,
    nn.Linear: _linear,
    nn.BatchNorm2d: _batchnorm,
    nn.ReLU: _unary("Relu"),
    nn.ReLU6: _relu6,
    nn.Hardtanh: _hardtanh,
    nn.ZeroPad2d: _zero_pad,
    nn.Hardsigmoid: _hardsigmoid,
    nn.Hardswish: _hardswish,
    nn.Sigmoid: _unary("Sigmoid"),
    nn.SiLU: _silu,
    nn.Tanh: _unary("Tanh"),
    nn.MaxPool2d: _max_pool,
    SameMaxPool2d: _max_pool,
    nn.AvgPool2d: _average_pool,
    nn.AdaptiveAvgPool2d: _adaptive_pool,
    nn.LocalResponseNorm: _lrn,
    nn.ChannelShuffle: _channel_shuffle,
    nn.Flatten: _flatten,
    nn.Dropout: _input,
    nn.Identity: _input,
    FakeQuantize: _fake_quantize,
}
FUNCTIONS: dict[object, Writer] = {
    operator.add: _binary("Add"),
    torch.add: _binary("Add"),
    operator.mul: _binary("Mul"),
    torch.mul: _binary("Mul"),
    torch.relu: _unary("Relu"),
    F.relu: _unary("Relu"),
    torch.flatten: _flatten,
    torch.cat: _concat,
    torch.chunk: _chunk,
    operator.getitem: _getitem,
}
