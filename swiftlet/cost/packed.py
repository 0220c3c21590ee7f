"""Bytes that a file's weights take at least behind an entropy coder, such as the Huffman coder of Deep Compression."""

from math import ceil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from swiftlet.cost.graph import WEIGHTED
from swiftlet.cost.screen import screen_onnx
from swiftlet.cost.shapes import attributes


def packed_bytes(file: Path | bytes) -> int:
    """The entropy of the weights as 8-bit integers, each value by itself, a code for each tensor; the rest as it is.

    Weights of operations that multiply are rounded per output channel if they are floats yet, at 4 bytes a channel for
    its scale; those that are integers stay what they are. Biases, scales and all other constants count as stored. The
    codes' tables and the graph come on top; sharing or pruning weights makes it less. Raises BadFile.
    """
    graph = screen_onnx(file).model.graph
    axes = _output_axes(graph)
    bits, plain = 0.0, 0
    for constant in graph.initializer:
        values = numpy_helper.to_array(constant)
        if values.ndim > 1 and values.dtype in (np.int8, np.uint8):
            bits += entropy_bits(values)
        elif constant.name in axes and values.dtype.kind == "f":
            integers = _rounded(values, axes[constant.name])
            bits += entropy_bits(integers)
            plain += 4 * values.shape[axes[constant.name]]
        else:
            plain += values.nbytes
    return ceil(bits / 8) + plain


def entropy_bits(values: npt.NDArray[np.integer]) -> float:
    """Shannon's bits of all values together, if each is coded by itself with the best code for this array."""
    counts = np.unique(values, return_counts=True)[1]
    return float((counts * np.log2(values.size / counts)).sum())


def _output_axes(graph: onnx.GraphProto) -> dict[str, int]:
    """Of each weight, the axis of its output channels."""
    moved = {node.output[0]: node for node in graph.node if node.op_type in ("Identity", "Transpose")}
    axes: dict[str, int] = {}
    for node in graph.node:
        if node.op_type in WEIGHTED:
            name, turned = node.input[WEIGHTED[node.op_type][1]], False
            while name in moved:
                name, turned = moved[name].input[0], turned != (moved[name].op_type == "Transpose")
            first = "Conv" in node.op_type or bool(attributes(node).get("transB"))
            axes[name] = (1 if node.op_type == "ConvTranspose" else 0) if first != turned else -1
    return axes


def _rounded(weights: npt.NDArray[np.floating], axis: int) -> npt.NDArray[np.int8]:
    """Symmetric, per output channel."""
    rest = tuple(i for i in range(weights.ndim) if i != axis % weights.ndim)
    largest = np.abs(weights).max(rest, keepdims=True).astype(np.float64)
    return np.rint(weights * (127 / np.where(largest > 0, largest, 1))).astype(np.int8)
