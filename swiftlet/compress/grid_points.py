"""Where in a network activations must be rounded, so that integer kernels find input and output on a grid."""

import operator
from collections.abc import Container
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

Node = Any  # an fx.Node: torch types its args so broadly that every use would need a cast
COMPUTE = (
    nn.Conv2d, nn.Linear, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.BatchNorm2d, nn.LocalResponseNorm,
    nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.SiLU, nn.Tanh,
)  # fmt: skip


def image_of(model: fx.GraphModule) -> Node:
    return next(n for n in model.graph.nodes if n.op == "placeholder")


def is_layer(node: Node, modules: dict[str, Any]) -> bool:
    return _is_call(node, modules, (nn.Conv2d, nn.Linear), ())


def points(model: fx.GraphModule, modules: dict[str, Any]) -> dict[Node, Node]:
    """Every operation whose result needs a grid of its own, and the node behind which it is rounded."""
    ends = {node: _activation_after(node, modules) for node in model.graph.nodes if _computes(node, modules)}
    return {node: end for node, end in ends.items() if not only_feeds_output(end, modules)}


def rounded_points(ends: dict[Node, Node], modules: dict[str, Any], skip: set[str], image: Node) -> set[Node]:
    """Those of `ends`, as points() gives them, that an integer kernel gives or reads: all if nothing is skipped.

    `image` is among them if the images are not on a grid already.
    """
    if not skip:
        return set(ends)
    found: set[Node] = set()
    on_grid = {image} - ends.keys()
    known = on_grid | set(ends.values())
    for node, end in sorted(ends.items(), key=lambda item: item[1] is not image):
        if is_layer(node, modules):
            integer = node.target not in skip
        else:
            sources = [grid_source(value, known, modules) for value in node.all_input_nodes]
            integer = node is not image and all(source in on_grid for source in sources)
        if integer or _feeds_integer_layer(end, modules, skip):
            found.add(node)
            on_grid.add(end)
    return found


def grid_source(node: Node, grids: Container[Node], modules: dict[str, Any]) -> Node:
    """Back through whatever leaves values on their grid: a node that has one, or where the search ended."""
    while node not in grids and (_keeps_grid(node, modules) or moves(node, modules)):
        node = node.args[0]
    return node


def moves(node: Node, modules: dict[str, Any]) -> bool:
    """True for operations that pick, move or zero values, so that the grid of their input is theirs."""
    return _is_call(
        node, modules, (nn.MaxPool2d, nn.ChannelShuffle, nn.ReLU, nn.ZeroPad2d), (operator.getitem, torch.relu, F.relu)
    )


def only_feeds_output(node: Node, modules: dict[str, Any]) -> bool:
    """True if what it gives are the scores, flattened at most: they stay float."""
    return all(
        user.op == "output" or (_keeps_grid(user, modules) and only_feeds_output(user, modules)) for user in node.users
    )


def _feeds_integer_layer(node: Node, modules: dict[str, Any], skip: set[str]) -> bool:
    for user in node.users:
        if is_layer(user, modules):
            if user.target not in skip:
                return True
        elif (_keeps_grid(user, modules) or moves(user, modules)) and _feeds_integer_layer(user, modules, skip):
            return True
    return False


def _is_call(node: Node, modules: dict[str, Any], kinds: tuple[type, ...], functions: tuple[object, ...]) -> bool:
    if node.op == "call_module":
        return isinstance(modules.get(node.target), kinds)
    return node.op == "call_function" and node.target in functions


def _computes(node: Node, modules: dict[str, Any]) -> bool:
    """True for the operations whose result lies on no grid until it is rounded to its own.

    A ReLU is none: it moves values to zero, which every grid holds. ReLU6 is, where nothing before it absorbs it.
    """
    functions = (operator.add, torch.add, operator.mul, torch.mul, torch.cat)
    if not _is_call(node, modules, COMPUTE, functions):
        return False
    absorbed = node.op == "call_module" and isinstance(modules[node.target], nn.ReLU6)
    return not (absorbed and _computes(node.args[0], modules) and len(node.args[0].users) == 1)


def _keeps_grid(node: Node, modules: dict[str, Any]) -> bool:
    """True for operations that runtimes do not execute, or that have no single result to round."""
    return _is_call(node, modules, (nn.Identity, nn.Dropout, nn.Flatten), (torch.flatten, torch.chunk))


def _activation_after(node: Node, modules: dict[str, Any]) -> Node:
    """The ReLU that alone reads `node`, if there is one: integer kernels round after it. Otherwise `node`."""
    user = next(iter(node.users), None)
    fused = user is not None and user.op == "call_module" and isinstance(modules[user.target], nn.ReLU | nn.ReLU6)
    return user if fused and len(node.users) == 1 else node
