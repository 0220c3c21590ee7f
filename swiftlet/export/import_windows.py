"""Layers that slide a window over height and width, and the padding around it."""

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from swiftlet.errors import BadFile
from swiftlet.export.import_graph import Array, FileGraph, Node, Step
from swiftlet.layers.padding import SameMaxPool2d, same_pads

MAX_SIDE = 1024  # of a map whose pooling is recognised by its matrix of means


def max_pool(g: FileGraph, node: Node) -> Step:
    size = tuple(node.attributes["kernel_shape"])
    x, pads, strides, dilations = window(g, node, size)
    ceil = bool(node.attributes.get("ceil_mode"))
    if pads[:2] == pads[2:]:
        return Step((x,), (nn.MaxPool2d(size, strides, (pads[0], pads[1]), dilations, ceil_mode=ceil),))
    if ceil or dilations != (1, 1) or pads != same(g.shape(x), size, strides, dilations):
        raise BadFile(f"{node.label} pads {pads}, differently on two sides, which no pooling layer does")
    return Step((x,), (SameMaxPool2d(size, strides),))


def average_pool(g: FileGraph, node: Node) -> Step:
    size, options = tuple(node.attributes["kernel_shape"]), node.attributes
    x, pads, strides, dilations = window(g, node, size)
    ceil, counted = bool(options.get("ceil_mode")), bool(options.get("count_include_pad"))
    if dilations != (1, 1):
        raise BadFile(f"{node.label} is dilated, which no average pooling layer is")
    if pads[:2] == pads[2:]:
        return Step((x,), (nn.AvgPool2d(size, strides, (pads[0], pads[1]), ceil, counted),))
    if not counted or ceil:
        raise BadFile(f"{node.label} pads {pads}, differently on two sides, and leaves that out of its average")
    return Step((x,), (padding(pads), nn.AvgPool2d(size, strides)))


def global_pool(g: FileGraph, node: Node) -> Step:
    """GlobalAveragePool, or ReduceMean over height and width."""
    rank, options = len(g.shape(node.inputs[0])), node.attributes
    axes = options["axes"] if "axes" in options else g.constant(node.inputs[1]) if len(node.inputs) > 1 else None
    chosen = sorted(int(axis) % rank for axis in (range(rank) if axes is None else axes))
    if node.op == "GlobalAveragePool":
        chosen = [2, 3]
    if rank != 4 or chosen != [2, 3]:
        raise BadFile(f"{node.label} averages dimensions {chosen} of {rank}; only height and width can be")
    flat = () if options.get("keepdims", 1) else (nn.Flatten(),)
    return Step(node.inputs[:1], (nn.AdaptiveAvgPool2d(1), *flat))


def adaptive_pool(g: FileGraph, node: Node) -> Step:
    """Two products with matrices of means, which is how the exporter writes windows that are not alike."""
    rows_by_x = g.source(node.inputs[0], "MatMul")
    if rows_by_x is not None:
        x, result = rows_by_x.inputs[1], g.shape(node.outputs[0])
        rows, columns = g.constant(rows_by_x.inputs[0]), g.constant(node.inputs[1])
        sizes, wanted = g.shape(x)[2:], result[2:]
        if _averages(rows, sizes[0], wanted[0]) and _averages(columns, sizes[1], wanted[1], transposed=True):
            return Step((x,), (nn.AdaptiveAvgPool2d((wanted[0], wanted[1])),))
    raise BadFile(f"{node.label} multiplies {g.shape(node.inputs[0])} by a matrix, which no layer does")


def _averages(matrix: Array | None, size: int, wanted: int, *, transposed: bool = False) -> bool:
    """Whether row i of the matrix, (wanted, size), averages the i-th window of adaptive pooling."""
    if matrix is None or matrix.ndim != 2 or size > MAX_SIDE:
        return False
    rows = matrix.T if transposed else matrix
    return rows.shape == (wanted, size) and np.allclose(rows.T, F.adaptive_avg_pool1d(torch.eye(size), wanted))


def pad(g: FileGraph, node: Node) -> Step:
    pads = zero_pads(g, node)
    if pads is None:
        raise BadFile(f"{node.label} pads with something else than zeros around height and width")
    return Step(node.inputs[:1], (padding(pads),))


Pair = tuple[int, int]


def window(g: FileGraph, node: Node, kernel: tuple[int, ...]) -> tuple[str, list[int], Pair, Pair]:
    """(input, [top, left, bottom, right], strides, dilations) of a window over height and width."""
    if len(kernel) != 2:
        raise BadFile(f"{node.label} has a window of {len(kernel)} dimensions; pictures need 2")
    x, options = node.inputs[0], node.attributes
    strides, dilations = (tuple(options.get(name, (1, 1))) for name in ("strides", "dilations"))
    pads = list(options.get("pads", [0, 0, 0, 0]))
    auto = options.get("auto_pad", b"NOTSET")
    if auto in (b"SAME_UPPER", b"SAME_LOWER"):
        pads = same(g.shape(x), kernel, strides, dilations)
        pads = pads if auto == b"SAME_UPPER" else pads[2:] + pads[:2]
    return x, pads, strides, dilations


def same(shape: tuple[int, ...], kernel: Any, strides: Any, dilations: Any) -> list[int]:
    """TensorFlow's SAME padding as [top, left, bottom, right]."""
    top_bottom, left_right = (same_pads(*axis) for axis in zip(shape[2:], kernel, strides, dilations, strict=True))
    return [top_bottom[0], left_right[0], top_bottom[1], left_right[1]]


def zero_pads(g: FileGraph, node: Node) -> list[int] | None:
    """[top, left, bottom, right] of a Pad node that adds zeros around height and width; else None."""
    options, given = node.attributes, dict(enumerate(node.inputs))
    pads = options["pads"] if "pads" in options else g.constant(given[1])
    fill = g.number(given[2]) if given.get(2) else options.get("value", 0.0)
    if pads is None or len(pads) != 8 or given.get(3) or fill != 0 or options.get("mode", b"constant") != b"constant":
        return None
    n, c, top, left, n_end, c_end, bottom, right = (int(size) for size in pads)
    inside = any((n, c, n_end, c_end)) or min(top, left, bottom, right) < 0
    return None if inside else [top, left, bottom, right]


def padding(pads: list[int]) -> nn.Module:
    """The layer that adds zeros: [top, left, bottom, right]."""
    top, left, bottom, right = pads
    return nn.ZeroPad2d((left, right, top, bottom))
