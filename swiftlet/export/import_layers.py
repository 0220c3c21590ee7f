"""ONNX operators as PyTorch layers, in the forms that the transforms of compress/ and the exporter know.

Each function takes the file and the node at which a pattern ends, and says which tensors the pattern reads and which
layers it is. What lies inside a pattern is not translated unless something else reads it.
"""

import operator
from collections.abc import Callable
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from swiftlet.errors import BadFile
from swiftlet.export.import_activations import clip, hard_sigmoid, swish, written_out
from swiftlet.export.import_graph import VIEWS, Array, FileGraph, Node, Step
from swiftlet.export.import_windows import (
    adaptive_pool,
    average_pool,
    global_pool,
    max_pool,
    pad,
    padding,
    same,
    window,
    zero_pads,
)
from swiftlet.layers.padding import SameConv2d


class Affine(NamedTuple):
    """a * x + b, one number per channel, float64."""

    a: Array
    b: Array


def translate(g: FileGraph, node: Node) -> Step:
    """The step that ends at `node`. Raises BadFile for what has no counterpart."""
    if node.op not in LAYERS:
        raise BadFile(
            f"{node.label} is not among the operators that swiftlet can take over as a layer "
            f"({', '.join(sorted(LAYERS))}); export the network without it"
        )
    with np.errstate(all="ignore"):  # what overflows in the file may overflow here
        step = LAYERS[node.op](g, node)
    _refuse_constants(g, node, step.inputs)
    return step


def _refuse_constants(g: FileGraph, node: Node, tensors: tuple[str, ...]) -> None:
    for tensor in tensors:
        if g.constant(tensor) is not None:
            raise BadFile(f"{node.label} reads the constant {tensor!r} where layers read what depends on the picture")


# --- layers with weights ------------------------------------------------------------------------------------------


def conv(g: FileGraph, node: Node, after: Affine | None = None) -> Step:
    """Padding that is not alike on both sides becomes TensorFlow's SAME if it is that, else a layer of its own."""
    weight = g.weights(node, 1)
    if weight.ndim != 4:
        raise BadFile(f"{node.label} has a kernel of {weight.ndim - 2} dimensions; pictures need 2")
    x, pads, strides, dilations = window(g, node, weight.shape[2:])
    padded = g.source(x, "Pad")
    before = None if padded is None else zero_pads(g, padded)
    if padded is not None and before is not None:
        x, pads = padded.inputs[0], [a + b for a, b in zip(pads, before, strict=True)]
    groups = node.attributes.get("group", 1)
    sizes = weight.shape[1] * groups, weight.shape[0], weight.shape[2:], strides
    options: dict[str, Any] = {"dilation": dilations, "groups": groups, "device": "meta"}
    layer: nn.Conv2d
    first: tuple[nn.Module, ...] = ()
    if pads[:2] == pads[2:]:
        layer = nn.Conv2d(*sizes, padding=(pads[0], pads[1]), **options)
    elif pads == same(g.shape(x), weight.shape[2:], strides, dilations):
        layer = SameConv2d(*sizes, **options)
    else:
        layer, first = nn.Conv2d(*sizes, **options), (padding(pads),)
    bias = g.vector(node, 2, len(weight)) if len(node.inputs) > 2 and node.inputs[2] else None
    return Step((x,), (*first, _with(layer, weight, bias, after)))


def linear(g: FileGraph, node: Node, after: Affine | None = None) -> Step:
    """Gemm, or MatMul with a matrix."""
    options = node.attributes
    weight = g.weights(node, 1)
    if weight.ndim != 2 or len(g.shape(node.inputs[0])) != 2 or options.get("transA"):
        raise BadFile(f"{node.label} is not the product of (N, features) and a matrix, so no linear layer")
    weight = weight if options.get("transB") else weight.T
    if (alpha := options.get("alpha", 1.0)) != 1:
        weight = weight * np.float32(alpha)
    bias = None
    if len(node.inputs) > 2 and node.inputs[2]:
        bias = g.vector(node, 2, len(weight)) * np.float32(options.get("beta", 1.0))
    layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    return Step(node.inputs[:1], (_with(layer, weight, bias, after),))


def product(g: FileGraph, node: Node) -> Step:
    return linear(g, node) if len(g.shape(node.outputs[0])) == 2 else adaptive_pool(g, node)


def batch_norm(g: FileGraph, node: Node, after: Affine | None = None) -> Step:
    shape = g.shape(node.inputs[0])
    if len(shape) != 4 or node.attributes.get("training_mode"):
        raise BadFile(f"{node.label} acts on {shape}, or in training mode; only pictures in eval mode are taken over")
    layer = nn.BatchNorm2d(shape[1], eps=node.attributes.get("epsilon", 1e-5), device="meta")
    scale, shift, mean, var = (g.vector(node, i, shape[1]) for i in range(1, 5))
    layer.running_mean, layer.running_var = _tensor(mean), _tensor(var)
    layer.num_batches_tracked = torch.tensor(0)
    return Step(node.inputs[:1], (_with(layer, scale, shift, after),))


def _with(layer: Any, weight: Array, bias: Array | None, after: Affine | None) -> Any:
    """The layer with these numbers, and with what follows it multiplied in."""
    if after is not None:
        a = np.broadcast_to(after.a, len(weight)).reshape(-1, *[1] * (weight.ndim - 1))
        shift = np.broadcast_to(after.b, len(weight))
        weight = weight * a.astype(np.float32)
        if bias is not None or shift.any():
            bias = shift + (0 if bias is None else bias * after.a)
    layer.weight = nn.Parameter(_tensor(weight))
    layer.bias = None if bias is None else nn.Parameter(_tensor(bias))
    return layer


def _tensor(value: Array) -> Tensor:
    return torch.from_numpy(np.array(value, np.float32, order="C"))


# --- arithmetic ---------------------------------------------------------------------------------------------------


def arithmetic(g: FileGraph, node: Node) -> Step:
    """An activation written out, constants that act on a layer, a sum or a product of two tensors."""
    activation = written_out(g, node)
    if activation is not None:
        return activation
    if g.affine(node) is not None:
        return _affine(g, node)
    _refuse_constants(g, node, node.inputs)
    shapes = [g.shape(tensor) for tensor in node.inputs]
    if node.op not in ("Add", "Mul", "Sum") or len({len(shape) for shape in shapes}) > 1:
        raise BadFile(f"{node.label} of {' and '.join(map(str, shapes))} is no sum and no product that a network has")
    function = operator.mul if node.op == "Mul" else operator.add
    return Step(node.inputs, (lambda *xs: reduce(function, xs),))


def _affine(g: FileGraph, node: Node) -> Step:
    """Constants go into the layer before them; with none there, they are a depthwise 1 x 1 convolution."""
    after, x, found = Affine(np.ones(1), np.zeros(1)), node.outputs[0], g.affine(node)
    while found is not None:
        x, a, b = found
        after = Affine(after.a * a, after.a * b + after.b)
        before = g.sources.get(x) if g.read_once(x) else None
        found = g.affine(before) if before is not None and written_out(g, before) is None else None
    if before is not None and before.op in WEIGHTED:
        return WEIGHTED[before.op](g, before, after)
    shape = g.shape(x)
    if len(shape) != 4:
        raise BadFile(f"{node.label} combines {shape} with constants, which no layer does")
    layer = nn.Conv2d(shape[1], shape[1], 1, groups=shape[1], device="meta")
    return Step((x,), (_with(layer, np.ones((shape[1], 1, 1, 1), np.float32), None, after),))


# --- channels and shapes ------------------------------------------------------------------------------------------


def concat(g: FileGraph, node: Node) -> Step:
    _check_axis(g, node, node.attributes["axis"])
    return Step(node.inputs, (lambda *xs: torch.cat(xs, 1),))


def split(g: FileGraph, node: Node) -> Step:
    _check_axis(g, node, node.attributes.get("axis", 0))
    sizes = [g.shape(part)[1] for part in node.outputs]
    ends = np.cumsum(sizes).tolist()
    slices = [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]

    def parts(x: Any) -> tuple[Any, ...]:
        if len(set(sizes)) > 1:
            return tuple(x[:, part] for part in slices)
        chunks = torch.chunk(x, len(sizes), 1)
        return tuple(chunks[i] for i in range(len(sizes)))

    return Step(node.inputs[:1], (parts,))


def slice_channels(g: FileGraph, node: Node) -> Step:
    """Starts, ends and axes are attributes before opset 10, inputs since."""
    shape, result = g.shape(node.inputs[0]), g.shape(node.outputs[0])
    names = dict(zip(("starts", "ends", "axes", "steps"), node.inputs[1:], strict=False))
    given = node.attributes | {key: g.constant(name) for key, name in names.items() if name}
    starts, axes = given["starts"], given.get("axes", range(len(given["starts"])))
    axes = [int(axis) % len(shape) for axis in axes]
    changed = [axis for axis in range(len(shape)) if shape[axis] != result[axis]]
    if changed not in ([], [1]) or any(step != 1 for step in given.get("steps", ())):
        raise BadFile(f"{node.label} takes {result} from {shape}; only neighbouring channels can be taken")
    if not changed:
        return Step(node.inputs[:1], ())
    start = int(starts[axes.index(1)])
    first = max(0, start + shape[1] if start < 0 else start)
    return Step(node.inputs[:1], (lambda x: x[:, first : first + result[1]],))


def view(g: FileGraph, node: Node) -> Step:
    """A channel shuffle; or the same numbers in another shape: as they are, flat, or flat ones as a 1 x 1 map."""
    groups = _shuffle(g, node)
    if groups is not None:
        x, n = groups
        return Step((x,), (nn.ChannelShuffle(n),))
    x = g.unviewed(node.outputs[0])
    shape, result = g.shape(x), g.shape(node.outputs[0])
    if x != node.outputs[0] and (shape == result or (len(shape) == 2 and result == (*shape, 1, 1))):
        return Step((x,), ())
    if x != node.outputs[0] and len(result) == 2 and result[0] == 1:
        return Step((x,), (nn.Flatten(),))
    raise BadFile(f"{node.label} makes {result} of {g.shape(node.inputs[0])} in a way that no layer does")


def _shuffle(g: FileGraph, node: Node) -> tuple[str, int] | None:
    """(x, groups) if the node ends a channel shuffle: split into groups, transposed, joined again."""
    moved = g.source(node.inputs[0], "Transpose") if node.op == "Reshape" else None
    apart = g.source(moved.inputs[0], "Reshape") if moved is not None else None
    if moved is None or apart is None:
        return None
    shape, grouped = g.shape(apart.inputs[0]), g.shape(apart.outputs[0])
    swapped = [0, 2, 1, *range(3, len(grouped))]
    fits = len(shape) == 4 and shape == g.shape(node.outputs[0]) and shape[1] == np.prod(grouped[1:3])
    return (apart.inputs[0], grouped[1]) if fits and list(moved.attributes.get("perm", ())) == swapped else None


def _check_axis(g: FileGraph, node: Node, axis: int) -> None:
    if axis % len(g.shape(node.inputs[0])) != 1:
        raise BadFile(f"{node.label} works along dimension {axis}; only along channels (1) is supported")


def _plain(layer: type[nn.Module]) -> Callable[[FileGraph, Node], Step]:
    return lambda g, node: Step(node.inputs[:1], (layer(),))


def local_response_norm(g: FileGraph, node: Node) -> Step:
    size, options = node.attributes["size"], node.attributes
    norm = nn.LocalResponseNorm(size, options.get("alpha", 1e-4), options.get("beta", 0.75), options.get("bias", 1.0))
    return Step(node.inputs[:1], (norm,))


WEIGHTED: dict[str, Callable[..., Step]] = {
    "BatchNormalization": batch_norm,
    "Conv": conv,
    "Gemm": linear,
    "MatMul": linear,
}
LAYERS: dict[str, Callable[[FileGraph, Node], Step]] = {
    **WEIGHTED,
    "MatMul": product,
    **dict.fromkeys(("Add", "Div", "Mul", "Sub", "Sum"), arithmetic),
    **dict.fromkeys((*sorted(VIEWS), "Transpose"), view),
    "AveragePool": average_pool,
    "Clip": clip,
    "Concat": concat,
    "GlobalAveragePool": global_pool,
    "HardSigmoid": hard_sigmoid,
    "HardSwish": _plain(nn.Hardswish),
    "LRN": local_response_norm,
    "MaxPool": max_pool,
    "Pad": pad,
    "ReduceMean": global_pool,
    "Relu": _plain(nn.ReLU),
    "Sigmoid": _plain(nn.Sigmoid),
    "Slice": slice_channels,
    "Split": split,
    "Swish": swish,
    "Tanh": _plain(nn.Tanh),
}
