"""The width multiplier of MobileNet V1 (arXiv:1704.04861, section 3.3) for any network.

This stands here and not among the transforms because rounding and initial values are in swiftlet.layers.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _NormBase

from swiftlet.compress.trace import trace
from swiftlet.errors import BadInput
from swiftlet.layers.channels import make_divisible
from swiftlet.layers.init import init_weights

# What gives as many channels as it gets: rooms of torch.nn, single layers, functions and methods.
SAME_MODULES = {f"torch.nn.modules.{name}" for name in ("activation", "dropout", "padding", "pooling")}
SAME_LAYERS = (nn.Identity, nn.Flatten, nn.LocalResponseNorm, nn.Upsample)
SAME_CALLS = {
    "adaptive_avg_pool2d", "avg_pool2d", "clamp", "contiguous", "dropout", "flatten", "gelu", "hardsigmoid",
    "hardswish", "hardtanh", "interpolate", "leaky_relu", "max_pool2d", "relu", "relu6", "sigmoid", "silu",
    "stochastic_depth", "tanh", "transpose",
}  # fmt: skip
POOLINGS = {"adaptive_avg_pool2d", "mean"}
ARITHMETIC = {"add", "mul", "sub", "truediv"}


def scale_width(
    model: nn.Module,
    alpha: float,
    *,
    rounding: Callable[[float], int] = make_divisible,
    keep: tuple[str, ...] = (),
) -> fx.GraphModule:
    """Return a network of the same structure and with fresh random weights whose layers are `alpha` times as wide.

    Every convolution and every hidden linear layer gets rounding(alpha * c) channels for its c; what the network reads
    and what it returns stay as they are. A depthwise convolution follows its input, and so does all the rest:
    concatenations, chunks, slices, gates, whatever is added. Where a grouped convolution, a chunk or a shuffle asks
    for it, channels are rounded up to a multiple of the groups.

    The 1x1 convolution that opens an inverted bottleneck (it widens, a depthwise and a narrowing 1x1 one follow) keeps
    its ratio t to its own scaled input, rounding(t * c_in), which is what MobileNet V2 calls its expansion factor.

    `keep` names convolutions and linear layers whose width stays: the last convolution, for MobileNet V2's rule below
    1. V1's own rounding is `lambda c: max(8, int(c))`. Raises BadInput where channels cannot be followed, or where
    what is added does not agree after rounding, and names the place.
    """
    if not 0 < alpha < math.inf:
        raise BadInput(f"scale_width: alpha={alpha!r} must be a finite number above 0")
    new = trace(copy.deepcopy(model))
    layers = {path for path, layer in new.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}
    for path in keep:
        if path not in layers:
            raise BadInput(f"scale_width: keep={path!r} is not the path of a Conv2d or Linear of this network")
    plan = _Plan(new)
    plan.choose(alpha, rounding, keep)
    plan.apply()
    init_weights(new)
    for module in new.modules():
        if isinstance(module, _NormBase | nn.GroupNorm):
            module.reset_parameters()
    new.recompile()
    return new


@dataclass(eq=False, slots=True)
class _Channels:
    """How many channels values have, before and after scaling. Values that must agree share one of these."""

    old: int | None = None  # None until the first layer reads it
    new: int | None = None
    multiple_of: int = 1


Width = Callable[[fx.Node], int]  # the channels of a value, before or after


class _Plan:
    """Each value's channels, read off the graph in order; then their new numbers; then the layers to match."""

    def __init__(self, traced: fx.GraphModule) -> None:
        self.traced = traced
        self.of: dict[fx.Node, _Channels] = {}
        self.follows: dict[fx.Node, Callable[[Width], int]] = {}  # values whose width is that of others, computed
        self.parts: list[tuple[fx.Node, fx.Node, int]] = []  # a value, what it is made of, times that it fits in there
        self.cuts: list[tuple[fx.Node, fx.Node]] = []  # slices, and of what
        self.depthwise: list[fx.Node] = []
        self.narrowed: list[fx.Node] = []  # what a 1x1 convolution to fewer channels reads
        called: dict[Any, fx.Node] = {}
        for node in traced.graph.nodes:
            sources = [source for source in node.all_input_nodes if source in self.of]
            if node.op == "placeholder":
                self.of[node] = _Channels()
            elif node.op == "get_attr" and attrgetter(node.target)(traced).numel() > 1:
                raise self._lost(node, "a tensor that belongs to no layer")
            elif node.op == "call_module":
                layer = traced.get_submodule(node.target)
                self._layer(node, layer, sources[0])
                before = called.setdefault(node.target, node)
                if before is not node and list(layer.parameters()):  # its weights have one shape in all its calls
                    self._join(before, node)
                    self._join(before.all_input_nodes[0], sources[0])
            elif node.op in ("call_function", "call_method") and sources:
                self._call(node, _name(node), sources)

    # --- reading ---

    def _layer(self, node: fx.Node, layer: Any, source: fx.Node) -> None:
        same = any(kind.__module__ in SAME_MODULES for kind in type(layer).__mro__) or isinstance(layer, SAME_LAYERS)
        if isinstance(layer, nn.Conv2d):
            self._convolution(node, layer, source)
        elif isinstance(layer, nn.Linear):
            self._know(source, layer.in_features)
            self.of[node] = _Channels(layer.out_features)
        elif isinstance(layer, _NormBase):
            self._know(source, layer.num_features)
            self.of[node] = self.of[source]
        elif isinstance(layer, nn.GroupNorm | nn.ChannelShuffle):
            self.of[node] = self.of[source]
            self._divide(node, layer.num_groups if isinstance(layer, nn.GroupNorm) else layer.groups)
        elif same and not isinstance(layer, nn.GLU) and not list(layer.parameters()):
            self.of[node] = self.of[source]
        else:
            raise self._lost(node, f"a {type(layer).__name__}")

    def _convolution(self, node: fx.Node, conv: nn.Conv2d, source: fx.Node) -> None:
        self._know(source, conv.in_channels)
        multiplier = conv.out_channels // conv.in_channels
        if not conv.groups == conv.in_channels > 1:
            self.of[node] = _Channels(conv.out_channels)
            self._divide(source, conv.groups)
            self._divide(node, conv.groups)
            if _is_pointwise(conv) and conv.out_channels < conv.in_channels and not self._is_pooled(source):
                self.narrowed.append(source)
        elif multiplier == 1:
            self.of[node] = self.of[source]
            self.depthwise.append(node)
        else:
            self._follow(node, lambda width: multiplier * width(source))
            self.parts.append((node, source, 1))

    def _call(self, node: fx.Node, name: str, sources: list[fx.Node]) -> None:
        first, arguments = sources[0], [*node.args[1:], *node.kwargs.values()]
        numbers = [value for value in arguments if isinstance(value, int) and value > 1]
        if name in ARITHMETIC:
            self._arithmetic(node, sources)
        elif name in SAME_CALLS or (name == "mean" and _over_pixels(arguments)):
            self.of[node] = self.of[first]
        elif name == "cat" and arguments == [1]:
            pieces: Any = node.args[0]
            self._follow(node, lambda width: sum(width(piece) for piece in pieces))
            self.parts += [(node, piece, 1) for piece in pieces]
        elif name == "chunk" and arguments[1:] == [1]:
            n: Any = arguments[0]
            self._divide(first, n)
            self._follow(node, lambda width: width(first) // n)
            self.parts.append((node, first, n))
        elif name == "getitem":
            self._getitem(node, first, arguments[0])
        elif name == "view" and (not numbers or len(arguments) == 5):  # flattens, or shuffles channels by hand
            self.of[node] = self.of[first]
            self._divide(node, math.lcm(*numbers))
        elif name not in ("getattr", "size"):
            raise self._lost(node, f"a call of {name}")

    def _getitem(self, node: fx.Node, source: fx.Node, index: Any) -> None:
        """One of the pieces of a chunk, or a slice of the channels, x[:, a:b]."""
        if _name(source) == "chunk":
            self.of[node] = self.of[source]
        elif isinstance(index, tuple) and len(index) > 1 and all(isinstance(part, slice) for part in index):
            self._follow(node, lambda width: len(range(width(source))[self._cut(source, index[1], width)]))
            self.cuts.append((node, source))
        else:
            raise self._lost(node, f"the index {index}")

    def _cut(self, source: fx.Node, part: slice, width: Width) -> slice:
        """Where to cut so that the pieces keep their shares."""
        share = width(source) / self._old(source)
        start, stop = (None if end is None else round(end * share) for end in (part.start, part.stop))
        return slice(start, stop, part.step)

    def _arithmetic(self, node: fx.Node, sources: list[fx.Node]) -> None:
        """Operands agree, except for one of a single channel, which is broadcast and stays one."""
        widest = max(sources, key=lambda source: self.of[source].old or 0)
        self.of[node] = self.of[widest]
        for source in sources:
            if self.of[source].old == 1 != self.of[widest].old:
                self.of[source].new = 1
            else:
                self._join(node, source)

    def _follow(self, node: fx.Node, width: Callable[[Width], int]) -> None:
        self.of[node] = _Channels(width(self._old))
        self.follows[node] = width

    def _join(self, one: fx.Node, other: fx.Node) -> None:
        kept, gone = self.of[one], self.of[other]
        if kept is gone:
            return
        if kept.old and gone.old and kept.old != gone.old:
            raise self._lost(other, f"{gone.old} channels meet {kept.old}")
        kept.old = kept.old or gone.old
        kept.multiple_of = math.lcm(kept.multiple_of, gone.multiple_of)
        for node, channels in self.of.items():
            if channels is gone:
                self.of[node] = kept

    def _know(self, node: fx.Node, features: int) -> None:
        """A layer reads so many features: some for each channel, if pixels were flattened into them."""
        channels = self.of[node]
        channels.old = channels.old or features
        if features % channels.old:
            raise self._lost(node, f"{features} features are not equally many for each of {channels.old} channels")

    def _divide(self, node: fx.Node, groups: int) -> bool:
        """From now on its channels are a multiple of this. Whether that is news."""
        channels, before = self.of[node], self.of[node].multiple_of
        channels.multiple_of = math.lcm(before, groups)
        return channels.multiple_of != before

    def _is_pooled(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return isinstance(self.traced.get_submodule(str(node.target)), nn.AdaptiveAvgPool2d)
        return _name(node) in POOLINGS

    def _lost(self, node: fx.Node, what: str) -> BadInput:
        return BadInput(f"scale_width: cannot follow the channels through {node.name!r}: {what}")

    def _old(self, node: fx.Node) -> int:
        old = self.of[node].old
        if old is None:
            raise self._lost(node, "no layer says how many there are")
        return old

    def _new(self, node: fx.Node) -> int:
        return self.of[node].new or self._old(node)

    # --- choosing ---

    def choose(self, alpha: float, rounding: Callable[[float], int], keep: tuple[str, ...]) -> None:
        while any([self._divide(part, times * self.of[node].multiple_of) for node, part, times in self.parts]):
            pass
        for node in self.traced.graph.nodes:
            ends = node.all_input_nodes if node.op == "output" else [node]
            if node.op in ("placeholder", "output") or node.target in keep:
                for end in ends:
                    self.of[end].new = self.of[end].old
        for node, channels in list(self.of.items()):
            if node in self.follows:
                new = self.follows[node](self._new)
                if channels.new not in (None, new):
                    raise BadInput(
                        f"scale_width: {node.name!r} comes to {new} channels where {channels.new} are needed; "
                        "another alpha or rounding may agree"
                    )
                channels.new = new
            elif channels.new is None and node.op == "call_module":
                channels.new = self._scaled(node, alpha, rounding)

    def _scaled(self, node: fx.Node, alpha: float, rounding: Callable[[float], int]) -> int:
        """The new width of what a convolution or a linear layer gives."""
        layer: Any = self.traced.get_submodule(str(node.target))
        channels = self.of[node]
        wanted = alpha * self._old(node)
        if _is_pointwise(layer) and layer.out_channels > layer.in_channels:
            of_bottleneck = (any(self.of[n] is channels for n in nodes) for nodes in (self.depthwise, self.narrowed))
            if all(of_bottleneck):
                wanted = self._new(node.all_input_nodes[0]) * layer.out_channels / layer.in_channels
        rounded = rounding(wanted)
        if not isinstance(rounded, int) or rounded < 1:
            raise BadInput(f"scale_width: rounding({wanted}) gave {rounded!r}, not a whole number above 0")
        return -(-rounded // channels.multiple_of) * channels.multiple_of

    # --- applying ---

    def apply(self) -> None:
        done = set()
        for node in self.traced.graph.nodes:
            if node.op == "call_module" and node.target not in done:
                done.add(node.target)
                source = node.all_input_nodes[0]
                layer: Any = self.traced.get_submodule(node.target)
                _resize(layer, self._new(source), self._new(node), self._old(source))
        for node, source in self.cuts:
            index: Any = node.args[1]
            node.args = (source, (index[0], self._cut(source, index[1], self._new), *index[2:]))


def _resize(layer: Any, c_in: int, c_out: int, c_old: int) -> None:
    """In place: new sizes and, uninitialised, new tensors. `c_old` is what c_in was."""
    if isinstance(layer, nn.Conv2d):
        if layer.groups == layer.in_channels > 1:
            layer.groups = c_in
        layer.in_channels, layer.out_channels = c_in, c_out
        shapes = {"weight": (c_out, c_in // layer.groups, *layer.kernel_size), "bias": (c_out,)}
    elif isinstance(layer, nn.Linear):
        layer.in_features, layer.out_features = layer.in_features // c_old * c_in, c_out
        shapes = {"weight": (c_out, layer.in_features), "bias": (c_out,)}
    elif isinstance(layer, _NormBase):
        layer.num_features = layer.num_features // c_old * c_out
        shapes = dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (layer.num_features,))
    elif isinstance(layer, nn.GroupNorm):
        layer.num_channels = c_out
        shapes = dict.fromkeys(("weight", "bias"), (c_out,))
    else:
        return
    for name, shape in shapes.items():
        tensor: Tensor | None = getattr(layer, name)
        if tensor is not None:
            new = tensor.data.new_empty(shape)
            setattr(layer, name, nn.Parameter(new, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else new)


def _is_pointwise(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.groups == 1


def _name(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else node.target.__name__


def _over_pixels(arguments: list[Any]) -> bool:
    """Whether a mean is taken over height and width alone."""
    dims = arguments[0] if arguments else None
    return set(dims if isinstance(dims, tuple | list) else [dims]) <= {2, 3, -1, -2}
