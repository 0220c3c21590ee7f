"""The table of operations: what each module or function of a network becomes in ONNX."""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional as F

from swiftlet.compress.quantize import FakeQuantize
from swiftlet.errors import BadInput
from swiftlet.export.graph import Graph, Node
from swiftlet.layers.padding import SameConv2d, SameMaxPool2d, same_pads

Writer = Callable[[Graph, Node], str]


def _input(graph: Graph, node: Node, position: int = 0) -> str:
    return graph.names[node.args[position]]


def _same_pads(graph: Graph, node: Node, kernel: list[int], stride: list[int], dilation: list[int]) -> list[int]:
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


def _conv(graph: Graph, node: Node) -> str:
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


def _linear(graph: Graph, node: Node) -> str:
    layer = graph.parameters(graph.modules[node.target], zeros=True)
    return graph.op("Gemm", _input(graph, node), *layer, name=node.target, transB=1)


def _batchnorm(graph: Graph, node: Node) -> str:
    bn = graph.modules[node.target]
    if bn.running_mean is None:
        raise BadInput(f"export_onnx: {node.target!r} keeps no running statistics, so it has no fixed result to export")
    weight = torch.ones(bn.num_features) if bn.weight is None else bn.weight.detach()
    bias = torch.zeros(bn.num_features) if bn.bias is None else bn.bias.detach()
    consts = [graph.const(v.numpy()) for v in (weight, bias, bn.running_mean, bn.running_var)]
    return graph.op("BatchNormalization", _input(graph, node), *consts, name=node.target, epsilon=bn.eps)


def _relu6(graph: Graph, node: Node) -> str:
    return graph.op("Clip", _input(graph, node), graph.const(np.float32(0)), graph.const(np.float32(6)))


def _hardsigmoid(graph: Graph, node: Node) -> str:
    return graph.op("HardSigmoid", _input(graph, node), alpha=1 / 6, beta=0.5)


def _hardswish(graph: Graph, node: Node) -> str:
    return graph.op("Mul", _input(graph, node), _hardsigmoid(graph, node))  # HardSwish itself came with opset 14


def _silu(graph: Graph, node: Node) -> str:
    return graph.op("Mul", _input(graph, node), graph.op("Sigmoid", _input(graph, node)))


def _zero_pad(graph: Graph, node: Node) -> str:
    left, right, top, bottom = graph.modules[node.target].padding
    return graph.op("Pad", _input(graph, node), graph.const(np.array([0, 0, top, left, 0, 0, bottom, right])))


def _hardtanh(graph: Graph, node: Node) -> str:
    clip = graph.modules[node.target]
    return graph.op("Clip", _input(graph, node), *(graph.const(np.float32(v)) for v in (clip.min_val, clip.max_val)))


def _max_pool(graph: Graph, node: Node) -> str:
    pool = graph.modules[node.target]
    size, stride, dilation = _pair(pool.kernel_size), _pair(pool.stride), _pair(pool.dilation)
    if isinstance(pool, SameMaxPool2d):
        pads = _same_pads(graph, node, size, stride, dilation)
    else:
        pads = _pads(pool.padding, node.target)
    window: dict[str, Any] = {"kernel_shape": size, "strides": stride, "pads": pads, "dilations": dilation}
    return graph.op("MaxPool", _input(graph, node), ceil_mode=int(pool.ceil_mode), **window)


def _average_pool(graph: Graph, node: Node) -> str:
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


def _adaptive_pool(graph: Graph, node: Node) -> str:
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


def _lrn(graph: Graph, node: Node) -> str:
    norm = graph.modules[node.target]
    return graph.op("LRN", _input(graph, node), size=norm.size, alpha=norm.alpha, beta=norm.beta, bias=float(norm.k))


def _channel_shuffle(graph: Graph, node: Node) -> str:
    """The form that other tools recognise: channels as (groups, channels / groups), transposed."""
    groups, (_, channels, height, width) = graph.modules[node.target].groups, graph.shapes[node]
    split = graph.const(np.array([0, groups, channels // groups, height, width]))  # 0: as before, so N stays free
    apart = graph.op("Transpose", graph.op("Reshape", _input(graph, node), split), perm=[0, 2, 1, 3, 4])
    return graph.op("Reshape", apart, graph.const(np.array([0, channels, height, width])))


def _chunk(graph: Graph, node: Node) -> str:
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


def _getitem(graph: Graph, node: Node) -> str:
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


def _flatten(graph: Graph, node: Node) -> str:
    if node.op == "call_module":
        dims = (graph.modules[node.target].start_dim, graph.modules[node.target].end_dim)
    else:
        start = node.args[1] if len(node.args) > 1 else node.kwargs.get("start_dim", 0)
        dims = (start, node.args[2] if len(node.args) > 2 else node.kwargs.get("end_dim", -1))
    if dims != (1, -1):
        raise BadInput(f"export_onnx: {node.name!r} flattens dimensions {dims}; only (1, -1) is supported")
    # as a Reshape, which ONNX Runtime moves in front of a DequantizeLinear, so that a Gemm finds its input on a grid
    return graph.op("Reshape", _input(graph, node), graph.const(np.array([0, -1])))


def _fake_quantize(graph: Graph, node: Node) -> str:
    grid = graph.modules[node.target]
    scale, zero = graph.const(grid.scale.numpy()), graph.const(grid.zero_point.numpy().astype(np.uint8))
    return graph.op("DequantizeLinear", graph.op("QuantizeLinear", _input(graph, node), scale, zero), scale, zero)


def _binary(kind: str) -> Writer:
    def write(graph: Graph, node: Node) -> str:
        if not all(isinstance(arg, fx.Node) for arg in node.args):
            raise BadInput(f"export_onnx: {node.name!r} combines a tensor with a number; use two tensors")
        return graph.op(kind, _input(graph, node, 0), _input(graph, node, 1))

    return write


def _concat(graph: Graph, node: Node) -> str:
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
