"""Activations as modules, from one operator or from the several that exporters write for it."""

import numpy as np
from torch import nn

from swiftlet.errors import BadFile
from swiftlet.export.import_graph import FileGraph, Node, Step


def clip(g: FileGraph, node: Node) -> Step:
    low, high = _bounds(g, node)
    if not low < high:
        raise BadFile(f"{node.label} clips to {low}..{high}, which leaves nothing")
    largest = np.finfo(np.float32).max
    if low == 0 and high >= largest:
        return Step(node.inputs[:1], (nn.ReLU(),))
    if low <= -largest and high >= largest:
        return Step(node.inputs[:1], ())
    return Step(node.inputs[:1], (nn.ReLU6() if (low, high) == (0, 6) else nn.Hardtanh(low, high),))


def hard_sigmoid(g: FileGraph, node: Node) -> Step:
    if _hard_sigmoid_of(g, node.outputs[0]) is None:
        raise BadFile(f"{node.label} is not clip(x / 6 + 1/2, 0, 1), the only one that networks here use")
    return Step(node.inputs[:1], (nn.Hardsigmoid(),))


def swish(g: FileGraph, node: Node) -> Step:
    if node.attributes.get("alpha", 1.0) != 1:
        raise BadFile(f"{node.label} has an alpha that is not 1, which no layer has")
    return Step(node.inputs[:1], (nn.SiLU(),))


def written_out(g: FileGraph, node: Node) -> Step | None:
    """SiLU, Hardswish and Hardsigmoid from their parts, in the forms that exporters write."""
    if node.op not in ("Mul", "Div"):
        return None
    sixfold = _sixfold_of(g, node)
    if sixfold is not None and (x := _relu6_above_3(g, sixfold)) is not None:
        return Step((x,), (nn.Hardsigmoid(),))
    product = node if node.op == "Mul" else None
    if sixfold is not None:
        product = g.source(sixfold, "Mul")
    for x, gate in (product.inputs, product.inputs[::-1]) if product is not None else ():
        sigmoid = g.source(gate, "Sigmoid")
        if sixfold is None and sigmoid is not None and sigmoid.inputs[0] == x:
            return Step((x,), (nn.SiLU(),))
        if x == (_hard_sigmoid_of(g, gate) if sixfold is None else _relu6_above_3(g, gate)):
            return Step((x,), (nn.Hardswish(),))
    return None


def _hard_sigmoid_of(g: FileGraph, tensor: str) -> str | None:
    """x if the tensor is clip(x / 6 + 1/2, 0, 1), written in one way or another."""
    node = g.sources.get(tensor)
    if node is not None and node.op == "HardSigmoid":
        slope, middle = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
        return node.inputs[0] if abs(slope - 1 / 6) < 1e-6 and middle == 0.5 else None
    sixfold = None if node is None else _sixfold_of(g, node)
    return None if sixfold is None else _relu6_above_3(g, sixfold)


def _sixfold_of(g: FileGraph, node: Node) -> str | None:
    """x if the node computes x / 6."""
    if node.op == "Div":
        return node.inputs[0] if g.number(node.inputs[1]) == 6 else None
    for x, factor in (node.inputs, node.inputs[::-1]) if node.op == "Mul" else ():
        if abs((g.number(factor) or 0) - 1 / 6) < 1e-6:
            return x
    return None


def _relu6_above_3(g: FileGraph, tensor: str) -> str | None:
    """x if the tensor is clip(x + 3, 0, 6)."""
    node = g.source(tensor, "Clip")
    added = g.source(node.inputs[0], "Add") if node is not None and _bounds(g, node) == (0, 6) else None
    if added is None:
        return None
    return next((x for x, three in (added.inputs, added.inputs[::-1]) if g.number(three) == 3), None)


def _bounds(g: FileGraph, node: Node) -> tuple[float, float]:
    """Of a Clip: attributes before opset 11, inputs since."""
    found = []
    for position, name, default in ((1, "min", -np.inf), (2, "max", np.inf)):
        given = len(node.inputs) > position and node.inputs[position]
        value = g.number(node.inputs[position]) if given else node.attributes.get(name, default)
        if value is None:
            raise BadFile(f"{node.label} has bounds that are computed while the network runs")
        found.append(float(value))
    return found[0], found[1]
