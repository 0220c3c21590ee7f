"""A block of a network as a tree that can be drawn: chains of operations, forks and joins, each with its shapes.

The block is traced with torch.fx and run on meta tensors of the size that it sees inside its network. BatchNorm and
activation become part of the operation before them; sums of sums become one sum.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import fx, nn

from swiftlet.compress.trace import trace
from swiftlet.cost.formulas import conv_macs

Shape = tuple[int, int, int]  # channels, height, width
Users = dict["Op", list["Op"]]  # in the order of execution, which operations read the result of each
Kind = Literal["pointwise", "depthwise", "regular", "pool", "elementwise", "move"]

ACTIVATIONS = {
    nn.ReLU: "ReLU", nn.ReLU6: "ReLU6", nn.Hardswish: "h-swish", nn.Hardsigmoid: "h-sigmoid", nn.Sigmoid: "sigmoid",
    nn.SiLU: "swish", nn.Tanh: "tanh",
}  # fmt: skip
JOINS: dict[Callable[..., Any], str] = {operator.add: "+", torch.add: "+", operator.mul: "×", torch.cat: "concat"}
INVISIBLE = (nn.Identity, nn.Dropout, nn.Flatten)


@dataclass(eq=False, slots=True)
class Op:
    """One operation: what it is called, what follows inside it (`detail`), and its shapes."""

    kind: Kind
    title: str
    inputs: list[Op]
    shape: Shape
    groups: int = 1
    details: tuple[str, ...] = ()
    macs: int = 0

    @property
    def detail(self) -> str:
        """BN, ReLU · 1.2 M (multiply-adds)"""
        cost = f"{self.macs / 1e6:.1f} M" if self.macs >= 50_000 else f"{self.macs / 1e6:.3f} M"
        return " · ".join(filter(None, (", ".join(self.details), cost if self.macs else "")))


@dataclass(frozen=True, slots=True)
class Fork:
    """One feature map goes several ways (or, split, each part goes its own), which meet again in `join`."""

    branches: tuple[Branch, ...]
    join: Op
    split: bool

    @property
    def shape(self) -> Shape:
        return self.join.shape


@dataclass(frozen=True, slots=True)
class Branch:
    """What happens to a feature map of `shape`, in order; nothing at all on a shortcut."""

    shape: Shape
    items: tuple[Op | Fork, ...]

    @property
    def end(self) -> Shape:
        """The shape of the result."""
        return self.items[-1].shape if self.items else self.shape


def operations(branch: Branch) -> list[Op]:
    """All operations of a tree, joins included."""
    found: list[Op] = []
    for item in branch.items:
        if isinstance(item, Fork):
            found += [op for inner in item.branches for op in operations(inner)]
        found.append(item.join if isinstance(item, Fork) else item)
    return found


def shapes(branch: Branch) -> list[Shape]:
    """Those of all feature maps of a tree."""
    return [branch.shape, *(op.shape for op in operations(branch))]


def input_of(model: nn.Module, path: str, image: Shape) -> Shape:
    """The shape that reaches the module at `path` when the network sees `image`."""
    seen: list[Shape] = []
    handle = model.get_submodule(path).register_forward_pre_hook(lambda module, args: seen.append(args[0].shape[1:]))
    with torch.no_grad():
        model.eval()(torch.empty(1, *image, device="meta"))
    handle.remove()
    channels, height, width = seen[0]
    return channels, height, width


def block(module: nn.Module, shape: Shape) -> Branch:
    """The tree of a module with one input of `shape` and one output."""
    graph = trace(module.eval())
    ops = _operations(graph, _Shapes(graph).of(shape))
    users = {op: [user for user in ops if op in user.inputs] for op in ops}
    return Branch(shape, _chain(ops[0], None, users))


class _Shapes(fx.Interpreter):
    """Runs a graph and keeps the shape of every result; of a tuple, none."""

    def of(self, shape: Shape) -> dict[fx.Node, Shape]:
        self.known: dict[fx.Node, Shape] = {}
        with torch.no_grad():
            self.run(torch.empty(1, *shape, device="meta"))
        return self.known

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, torch.Tensor):
            self.known[n] = (result.shape[1], result.shape[2], result.shape[3])
        return result


def _operations(graph: fx.GraphModule, shapes: dict[fx.Node, Shape]) -> list[Op]:
    """The operations in the order of execution, the input first."""
    made: dict[fx.Node, Op] = {}
    for node in graph.graph.nodes:
        if node.op == "output":
            continue
        inputs = [made[n] for n in node.all_input_nodes]
        alone = bool(inputs) and len(node.all_input_nodes[0].users) == 1 and inputs[0].title not in ("input", "part")
        layer = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(layer, INVISIBLE) or node.target is torch.chunk:
            made[node] = inputs[0]
        elif alone and (name := _follower(layer)):
            made[node] = inputs[0]
            inputs[0].details += (name,)
        else:
            made[node] = op = _operation(node, layer, inputs, shapes[node])
            for n in node.all_input_nodes:  # a sum of sums
                if op.title == made[n].title == "+" and not made[n].details and len(n.users) == 1:
                    place = op.inputs.index(made[n])
                    op.inputs[place : place + 1] = made.pop(n).inputs
    return list(dict.fromkeys(made.values()))


def _follower(layer: nn.Module | None) -> str:
    """What a layer is called when it belongs to the operation before it; empty if it stands alone."""
    return "BN" if isinstance(layer, nn.BatchNorm2d) else ACTIVATIONS.get(type(layer), "")  # type: ignore[arg-type]


def _operation(node: fx.Node, layer: nn.Module | None, inputs: list[Op], shape: Shape) -> Op:
    if node.op == "placeholder":
        return Op("move", "input", [], shape)
    if node.target in JOINS:
        title = JOINS[node.target]
        return Op("move" if title == "concat" else "elementwise", title, inputs, shape)
    if node.target is operator.getitem:
        return Op("move", "part", inputs, shape)
    if isinstance(layer, nn.Conv2d):
        return _convolution(layer, inputs, shape)
    if isinstance(layer, nn.ChannelShuffle):
        return Op("move", "channel shuffle", inputs, shape, layer.groups, (f"{layer.groups} groups",))
    if isinstance(layer, nn.AdaptiveAvgPool2d):
        return Op("pool", "global average", inputs, shape)
    if isinstance(layer, nn.MaxPool2d | nn.AvgPool2d):
        size, stride = (v if isinstance(v, int) else v[0] for v in (layer.kernel_size, layer.stride))
        kind = "max" if isinstance(layer, nn.MaxPool2d) else "average"
        return Op("pool", f"{size}×{size} {kind} pool{_stride(stride)}", inputs, shape)
    if name := _follower(layer):
        return Op("elementwise", name, inputs, shape)
    raise ValueError(f"docs.generate cannot draw {node.format_node()}; give blocks.py a line for it")


def _convolution(conv: nn.Conv2d, inputs: list[Op], shape: Shape) -> Op:
    height, width = conv.kernel_size
    if conv.groups == conv.in_channels > 1:
        kind: Kind = "depthwise"
    else:
        kind = "pointwise" if height == width == 1 else "regular"
    title = f"{height}×{width} {'depthwise' if kind == 'depthwise' else 'conv'}{_stride(conv.stride[0])}"
    groups = 1 if kind == "depthwise" else conv.groups
    details = (f"{groups} groups",) if groups > 1 else ()
    macs = conv_macs((1, *shape), conv.weight.shape)
    return Op(kind, title, inputs, shape, groups, details, macs)


def _stride(stride: int) -> str:
    return f" /{stride}" if stride > 1 else ""


# --- from a graph to a tree ------------------------------------------------------------------------------------------


def _chain(op: Op, stop: Op | None, users: Users) -> tuple[Op | Fork, ...]:
    """What happens to the result of `op` before it reaches `stop`, or to the end."""
    items: list[Op | Fork] = []
    while users[op]:
        if len(users[op]) == 1:
            op = users[op][0]
            if op is stop:
                break
            items.append(op)
        else:
            items.append(fork := _fork(op, users))
            op = fork.join
            if op is stop:
                raise ValueError("docs.generate draws only forks that meet again before the next join")
    return tuple(items)


def _fork(op: Op, users: Users) -> Fork:
    """The ways that the result of `op` goes, up to where they meet.

    They are in the order in which they are concatenated; into a sum or a product the shortest, a shortcut, goes first.
    """
    join = _meeting(users[op], users)
    branches: list[tuple[tuple[int, int, int], Branch]] = []
    for user in users[op]:
        shape, end = op.shape, op
        items: tuple[Op | Fork, ...] = ()
        if user is not join:
            part = user.title == "part"  # of a split: a shape of its own, not an operation to draw
            shape = user.shape if part else op.shape
            items = (() if part else (user,)) + _chain(user, join, users)
            end = user if not items else items[-1].join if isinstance(items[-1], Fork) else items[-1]
        place = join.inputs.index(end) if join.title == "concat" else 0
        branches.append(((place, len(items), end.macs), Branch(shape, items)))
    branches.sort(key=lambda entry: entry[0])
    return Fork(tuple(branch for _, branch in branches), join, all(user.title == "part" for user in users[op]))


def _meeting(starts: list[Op], users: Users) -> Op:
    """The first operation through which all ways from `starts` lead."""
    front = set(starts)
    while len(front) > 1:
        first = next(op for op in users if op in front)
        front.remove(first)
        front.add(_meeting(users[first], users))
    return front.pop()
