"""Which channels of a network belong together, found by sending their numbers through its graph.

Every channel that a convolution or a Linear makes gets a number. Layers that keep channels apart hand the numbers on;
sums and products make the two numbers that meet there one; concatenations, slices, chunks, shuffles and flattenings are
executed on tensors of numbers as they would be on pictures. Channels whose numbers became one go together or not at
all: the coupled groups of DepGraph (Fang et al. 2023, arXiv:2301.12900), found for each channel and not for each layer.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils._pytree import tree_leaves, tree_map_only

Node = Any  # an fx.Node: torch types its args so broadly that every use would need a cast

PER_CHANNEL = (_NormBase, nn.PReLU)  # all their tensors have one entry per channel
MIXING = (nn.GLU, nn.LogSoftmax, nn.MultiheadAttention, nn.Softmax, nn.Softmax2d, nn.Softmin)  # among the activations
POINTWISE_ROOMS = {f"torch.nn.modules.{room}" for room in ("activation", "dropout")}
SPATIAL_ROOMS = {f"torch.nn.modules.{room}" for room in ("padding", "pooling", "upsampling")}
MOVING_LAYERS = (nn.ChannelShuffle, nn.Flatten, nn.PixelShuffle, nn.PixelUnshuffle, nn.Unflatten)

# functions and methods by their names
POINTWISE = {
    "abs", "clamp", "clamp_max", "clamp_min", "clone", "contiguous", "detach", "double", "dropout", "dropout2d", "elu",
    "exp", "float", "gelu", "half", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "mish", "neg", "pow", "relu",
    "relu6", "relu_", "rsqrt", "selu", "sigmoid", "silu", "softplus", "sqrt", "square", "stochastic_depth", "tanh",
}  # fmt: skip
SPATIAL = {"adaptive_avg_pool2d", "adaptive_max_pool2d", "avg_pool2d", "interpolate", "max_pool2d"}
REDUCING = {"amax", "amin", "mean", "sum"}  # spatial as well, where they run over pixels
MEETING = {
    "add", "add_", "div", "iadd", "imul", "isub", "itruediv", "maximum", "minimum", "mul", "mul_", "sub", "sub_",
    "truediv",
}  # fmt: skip
JOINING = {"cat", "concat", "concatenate"}
MOVING = {
    "channel_shuffle", "chunk", "flatten", "permute", "pixel_shuffle", "pixel_unshuffle", "reshape", "squeeze",
    "swapaxes", "transpose", "unflatten", "unsqueeze",
}  # fmt: skip
ASKING = {"dim", "getattr", "numel", "size"}


class Flow(fx.Interpreter, ABC):
    """One pass of channel numbers through a network. What happens where they meet is for those who derive from it.

    `reads` and `makes` hold, for each call of a layer with weights, the numbers of its input and its output channels in
    order. `values` are what the nodes give, as tensors without numbers.
    """

    def __init__(self, traced: fx.GraphModule, values: dict[Node, Any]) -> None:
        super().__init__(traced)
        self.extra_traceback = False
        self.traced, self.values = traced, values
        self.reads: dict[Node, list[int]] = {}
        self.makes: dict[Node, list[int]] = {}
        self.parts: set[str] = set()  # the keys of visits to the parts of slices and splits
        self._visits: list[tuple[str, list[int]]] = []
        self._calls: dict[str, Node] = {}
        self.run()

    def run_node(self, n: Node) -> Any:
        self.node = n
        value = super().run_node(n)
        if isinstance(value, Tensor):
            self._visit(n.name, value)
        return value

    # --- the kinds of nodes ---

    def placeholder(self, target: Any, args: Any, kwargs: Any) -> Any:
        if self.node is not next(iter(self.traced.graph.nodes)):
            return super().placeholder(target, args, kwargs)
        return self._unknown("it meets the image")

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        tensor = super().get_attr(target, args, kwargs)
        return 1 if tensor.numel() == 1 else self._unknown(f"it meets {target}, a tensor that belongs to no layer")

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        layer, tensors = self.fetch_attr(target), _tensors((args, kwargs))
        where = f"{target} ({type(layer).__name__})"
        if len(tensors) != 1 or (isinstance(layer, nn.Conv2d | nn.Linear) and list(layer.children())):
            return self._lost(where, tensors)  # a layer within a layer is a parametrization
        x = tensors[0]
        if isinstance(layer, nn.Conv2d):
            return self._convolution(layer, x)
        if isinstance(layer, nn.Linear):
            self._read(x, -1)
            return torch.tensor(self._make(layer.out_features)).expand(*x.shape[:-1], -1)
        if isinstance(layer, PER_CHANNEL) and not _has_one_number(layer):
            self._read(x, 1)
            return x
        if is_pointwise(layer):
            return x
        if {kind.__module__ for kind in type(layer).__mro__} & SPATIAL_ROOMS:
            return self._pooled(x)
        if isinstance(layer, MOVING_LAYERS):
            return self._moved(lambda: layer(x), x, equal_parts=not isinstance(layer, nn.Flatten))
        return self._lost(where, tensors)

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        run = super().call_function
        return self._call(target.__name__, lambda: run(target, args, kwargs), args, kwargs)

    def call_method(self, target: Any, args: Any, kwargs: Any) -> Any:
        run = super().call_method
        return self._call(target, lambda: run(target, args, kwargs), args, kwargs)

    def output(self, target: Any, args: Any, kwargs: Any) -> Any:
        for value in _tensors(args):
            self._fix(value, "it makes what the network returns")
        return args[0]

    # --- layers ---

    def _convolution(self, conv: nn.Conv2d, x: Tensor) -> Tensor:
        if conv.groups == conv.in_channels > 1:  # depthwise
            times = conv.out_channels // conv.in_channels
            numbers = self._distinct([number for number in self._read(x, 1) for _ in range(times)])
        else:
            self._grouped(self._read(x, 1), conv.groups, "reads")
            numbers = self._make(conv.out_channels)
            self._grouped(numbers, conv.groups, "makes")
        return torch.tensor(numbers).view(1, -1, 1, 1).expand(-1, -1, *self.values[self.node].shape[2:])

    def _read(self, x: Tensor, dim: int) -> list[int]:
        """What a layer with weights reads along `dim`."""
        column = column_of(x, dim)
        if column is None:
            self._fix(x, f"its channels come to {self.node.name} in pixels, not whole")
            column = x.movedim(dim, 0).flatten(1)[:, 0].tolist()
        first = self._calls.setdefault(self.node.target, self.node)
        self.reads[self.node] = column
        self._same(self.reads[first], column)  # a layer that is called again has the same weights
        return column

    def _make(self, width: int) -> list[int]:
        """The numbers of what a layer makes; _read comes first."""
        self.makes[self.node] = self._new(width)
        self._same(self.makes[self._calls[self.node.target]], self.makes[self.node])
        return self.makes[self.node]

    def _grouped(self, numbers: list[int], groups: int, verb: str) -> None:
        if groups == 1:
            return
        self._link(numbers)
        if len(numbers) % groups:
            self._fault(numbers)
        size = max(1, len(numbers) // groups)
        for i in range(groups):
            self._visits.append((f"{self.node.name} {verb} {i}", numbers[i * size : (i + 1) * size]))

    def _pooled(self, x: Tensor) -> Any:
        """As many channels, other pixels."""
        shape = self.values[self.node].shape
        if x.ndim < 3 or any(x.stride(dim) and x.shape[dim] > 1 for dim in range(2, x.ndim)):
            return self._lost(self.node.name, [x])
        head = x.flatten(2)[:, :, 0]
        return head.view(*head.shape, *[1] * (len(shape) - 2)).expand(*head.shape, *shape[2:])

    # --- functions ---

    def _call(self, name: str, run: Callable[[], Any], args: Any, kwargs: Any) -> Any:
        tensors = _tensors((args, kwargs))
        if not tensors or name in ASKING:
            return run()
        x = tensors[0]
        if name in POINTWISE and len(tensors) == 1:
            return x
        if name in MEETING:
            return x if len(tensors) == 1 else self._meet(x, tensors[1])
        if name in SPATIAL or (name in REDUCING and _over_pixels(*args[1:], **kwargs)):
            return self._pooled(x)
        if name == "getitem" and isinstance(args[1], tuple) and _is_channel_slice(args[1]) and column_of(x, 1):
            start, stop, _ = args[1][1].indices(x.shape[1])
            return self._cut(x, [start, max(start, stop)])[1]
        if (
            name == "split"
            and column_of(x, 1)
            and (kwargs.get("dim") or args[-1]) == 1
            and len(args) + len(kwargs) == 3
        ):
            sizes = kwargs.get("split_size_or_sections") or kwargs.get("split_size") or args[1]
            ends = range(sizes, x.shape[1] + sizes, sizes) if isinstance(sizes, int) else list(accumulate(sizes))
            return self._cut(x, ends)
        if name in JOINING | {"getitem"}:
            return self._moved(run, *tensors, equal_parts=isinstance(args[0], Tensor))  # x[:, 0] and the like
        if name == "view":  # of numbers that share their memory
            return self._moved(lambda: x.reshape(*args[1:], **kwargs), x, equal_parts=True)
        if name in MOVING:
            return self._moved(run, x, equal_parts=name in ("channel_shuffle", "chunk", "reshape", "unflatten"))
        return self._lost(f"{self.node.name} ({name})", tensors)

    def _moved(self, run: Callable[[], Any], *tensors: Tensor, equal_parts: bool) -> Any:
        """What comes out if the operation itself is given the numbers."""
        try:
            moved = tree_map_only(Tensor, _tidy, run())
        except (IndexError, RuntimeError):  # a narrower value may not have the parts that are asked for
            return self._refused(list(tensors))
        if equal_parts and not (isinstance(moved, Tensor) and moved.ndim == 2):  # flattening keeps the order
            self._link([number for x in tensors for number in numbers_in(x)])
        if isinstance(moved, Tensor) and moved.ndim > 2 and (column := column_of(moved, 1)):
            tail = [1] * (moved.ndim - 2)
            return torch.tensor(self._distinct(column)).view(1, -1, *tail).expand(moved.shape)
        return moved

    def _distinct(self, column: list[int]) -> list[int]:
        """A second, third, ... channel with the same number gets another, which goes with the first.

        They are not the same: one may have passed an activation, or another filter of a depthwise convolution.
        """
        if len(set(column)) == len(column):
            return column
        seen = Counter[int]()
        distinct = []
        for number in column:
            distinct.append(self._again(number, seen[number]) if number in seen else number)
            seen[number] += 1
        return distinct

    def _cut(self, x: Tensor, ends: Iterable[int]) -> tuple[Tensor, ...]:
        """The parts of x that end at these channels."""
        lengths = self._lengths(x, ends)
        try:
            parts = torch.split(x[:, : sum(lengths)], lengths, 1)
        except RuntimeError:
            return tuple(self._refused([x]) for _ in lengths)
        for i, part in enumerate(parts):
            key = f"{self.node.name} part {i}"
            self.parts.add(key)
            self._visit(key, part)
        return parts

    def _meet(self, x: Tensor, y: Tensor) -> Any:
        """A sum, a product: channels that meet belong together, but for one that is broadcast over many."""
        try:
            shape = torch.broadcast_shapes(x.shape, y.shape)  # type: ignore[no-untyped-call]
        except RuntimeError:
            return self._refused([x, y])
        wide_x, wide_y = x.expand(shape), y.expand(shape)
        for narrow, wide, full in ((x, wide_y, wide_y), (y, wide_x, wide_x)):
            if any(
                wide.stride(dim)
                and size > 1
                and (dim + narrow.ndim < len(shape) or narrow.shape[dim - len(shape)] == 1)
                for dim, size in enumerate(shape)
            ):
                self._fix(narrow, f"it is broadcast over many channels in {self.node.name}")
                return full
        for dim, size in enumerate(shape):
            if size > 1 and wide_x.stride(dim) == wide_y.stride(dim) == 0:
                wide_x, wide_y = wide_x.narrow(dim, 0, 1), wide_y.narrow(dim, 0, 1)
        self._same(wide_x.flatten().tolist(), wide_y.flatten().tolist())
        return x.expand(shape)

    # --- what happens where numbers meet ---

    @abstractmethod
    def _new(self, width: int) -> list[int]:
        """The numbers of a layer's results."""

    @abstractmethod
    def _again(self, number: int, time: int) -> int:
        """Another number that goes with this one."""

    @abstractmethod
    def _same(self, one: list[int], other: list[int]) -> None:
        """Channel by channel, these belong together."""

    @abstractmethod
    def _fix(self, x: Tensor, reason: str) -> None:
        """These must stay."""

    @abstractmethod
    def _link(self, numbers: list[int]) -> None:
        """Of these an operation makes parts of equal size."""

    @abstractmethod
    def _lengths(self, x: Tensor, ends: Iterable[int]) -> list[int]:
        """How many channels the parts of x have, which ended here when the network was written."""

    @abstractmethod
    def _fault(self, numbers: Iterable[int]) -> None:
        """So many of these do not fit."""

    @abstractmethod
    def _unknown(self, reason: str) -> Any:
        """One number for all channels of a value that is not followed."""

    @abstractmethod
    def _refused(self, tensors: list[Tensor]) -> Any:
        """The operation cannot be executed."""

    def _lost(self, where: str, tensors: list[Tensor]) -> Any:
        for x in tensors:
            self._fix(x, f"its channels go into {where}, where they may mix")
        return self._unknown(f"it meets the result of {where}")

    def _filled(self, number: int) -> Any:
        return tree_map_only(Tensor, lambda like: torch.tensor(number).expand(like.shape), self.values[self.node])

    def _visit(self, key: str, x: Tensor) -> None:
        for dim in range(2, x.ndim):
            if x.stride(dim) == 0 and x.shape[dim] > 1:
                x = x.narrow(dim, 0, 1)
        self._visits.append((key, x.flatten().tolist()))


def is_pointwise(layer: nn.Module) -> bool:
    """Whether a layer gives for each number that it reads one in the same place, and knows no channels."""
    rooms = {kind.__module__ for kind in type(layer).__mro__}
    return isinstance(layer, nn.Identity) or bool(rooms & POINTWISE_ROOMS and not isinstance(layer, MIXING))


def _has_one_number(layer: nn.Module) -> bool:
    """PReLU with one slope for all channels."""
    return isinstance(layer, nn.PReLU) and layer.num_parameters == 1


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def numbers_in(x: Tensor) -> list[int]:
    """Each number once."""
    found: list[int] = torch.unique(x).tolist()
    return found


def column_of(x: Tensor, dim: int) -> list[int] | None:
    """The numbers along `dim`, or None if they change along another."""
    rows = x.movedim(dim, 0)
    for other in range(1, rows.ndim):
        if rows.stride(other) == 0 or rows.shape[other] == 1:
            rows = rows.narrow(other, 0, 1)
        elif not (rows == rows.narrow(other, 0, 1)).all():
            return None
    return rows.flatten(1)[:, 0].tolist()


def _tidy(x: Tensor) -> Tensor:
    """The same, with stride 0 along the pixels where they have one number, so that nobody counts each."""
    for dim in range(2, x.ndim):
        first = x.narrow(dim, 0, 1)
        if x.stride(dim) and x.shape[dim] > 1 and bool((x == first).all()):
            x = first.expand(x.shape)
    return x


def _is_channel_slice(index: tuple[Any, ...]) -> bool:
    """x[:, a:b] and nothing else."""
    others = (index[0], *index[2:])
    return (
        len(index) > 1
        and isinstance(index[1], slice)
        and index[1].step in (None, 1)
        and index[1] != slice(None)
        and all(other == slice(None) for other in others)
    )


def _over_pixels(dim: Any = None, *args: Any, **kwargs: Any) -> bool:
    dims = dim if isinstance(dim, tuple | list) else [dim]
    return all(isinstance(d, int) and d in (2, 3, -1, -2) for d in dims)
