"""What an int8 network computes where products are added in 16 bits: on x86 CPUs without VNNI.

There ONNX Runtime multiplies uint8 inputs by int8 weights with VPMADDUBSW, which adds the products of two neighbours
and cuts the sum off at the 16 bits of -32768..32767; two products can reach 2 * 255 * 127 = 64770. Its documentation
offers `reduce_range` against that: 7 bits for weights, for 2 * 255 * 64 = 32640 fits. (Its other way,
the session option session.x64quantprecision, is slower and in the hands of whoever runs the file.) Neighbours are input
channels of one pixel, and behind the last channel the next pixel of the kernel. Depthwise layers have a kernel of their
own, which adds in 32 bits.
"""

import copy
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from swiftlet.compress.grid_points import Node, image_of
from swiftlet.compress.quantize import FakeQuantize
from swiftlet.compress.scales import in_order_of_sums, is_depthwise
from swiftlet.compress.walk import is_integer_layer
from swiftlet.errors import BadInput

LOWEST, HIGHEST = -(2**15), 2**15 - 1


class Overflow(NamedTuple):
    """Of one layer: the share of its sums, over images, pixels and channels, in which something was cut off, and the
    most that one of them lost, in the layer's own units."""

    share: float
    worst: float


class Emulation(fx.Interpreter):
    """Runs an int8 network, as quantize() makes it, as such a CPU would; `overflows()` tells what happened so far.

    `input_zero_point` is that of quantize(). Raises BadInput where it is needed and missing.
    """

    def __init__(self, integer: fx.GraphModule, *, input_zero_point: int | None = None) -> None:
        super().__init__(integer)
        self._modules = dict(integer.named_modules())
        self._zero = input_zero_point
        self._sums: dict[str, int] = {}
        self._cut: dict[str, int] = {}
        self._worst: dict[str, float] = {}

    def overflows(self) -> dict[str, Overflow]:
        """By path, of the layers that add products in pairs."""
        return {path: Overflow(self._cut[path] / n, self._worst[path]) for path, n in self._sums.items()}

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        if not is_integer_layer(n, self._modules):
            return result
        layer: Any = self._modules[n.target]
        if is_depthwise(layer):
            return result
        lost = _lost(layer, self.env[n.args[0]], self._zero_point(n)).view_as(result)
        self._sums[n.target] = self._sums.get(n.target, 0) + lost.numel()
        self._cut[n.target] = self._cut.get(n.target, 0) + int(lost.count_nonzero())
        lost = lost * layer.bias_scale.view(-1, *[1] * (lost.ndim - 2))
        self._worst[n.target] = max(self._worst.get(n.target, 0.0), lost.abs().max().item())
        return result - lost

    def _zero_point(self, node: Node) -> int:
        """Of the grid on which the layer's input lies."""
        source, image = node.args[0], image_of(self.module)  # type: ignore[arg-type]
        while source is not image:
            module = self._modules.get(source.target) if source.op == "call_module" else None
            if isinstance(module, FakeQuantize):
                return int(module.zero_point)
            source = source.args[0]
        if self._zero is None:
            raise BadInput(
                "Emulation: the images have no grid in this network; give input_zero_point, as to quantize()"
            )
        return self._zero


def find_overflows(
    integer: fx.GraphModule, batches: Iterable[Tensor], *, input_zero_point: int | None = None
) -> dict[str, Overflow]:
    """Layers of an int8 network in which sums are cut off on `batches` of (B, C, H, W) images, by path.

    {} if it is safe on these; with weights of 7 bits it is so on all. Raises BadInput without images, and as Emulation.
    """
    emulation, ran = Emulation(integer, input_zero_point=input_zero_point), False
    with torch.inference_mode():
        for images in batches:
            emulation.run(images)
            ran = True
    if not ran:
        raise BadInput("find_overflows: no images were given")
    return {path: overflow for path, overflow in emulation.overflows().items() if overflow.share > 0}


def _lost(layer: Any, x: Tensor, zero_point: int) -> Tensor:
    """What is cut off from each sum, in steps of bias_scale: (B, c_out, pixels)."""
    input_scale = layer.bias_scale[0] / layer.weight_scale[0]
    weight = (layer.weight / layer.weight_scale.view(-1, *[1] * (layer.weight.ndim - 1))).round()
    groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
    # (groups, c_out of a group, taps)
    rows = in_order_of_sums(weight).view(groups, len(weight) // groups, -1)
    steps = _windows(layer, (x / input_scale).round()) + zero_point  # (B, groups, taps, pixels), 0..255
    return torch.stack([_pairs_lost(steps[:, g], rows[g]) for g in range(groups)], 1).flatten(1, 2)


def _pairs_lost(steps: Tensor, rows: Tensor) -> Tensor:
    """(B, taps, pixels), (c_out, taps) -> (B, c_out, pixels)."""
    lost = steps.new_zeros(len(steps), len(rows), steps.shape[2])
    for tap in range(0, rows.shape[1] - 1, 2):
        pair = rows[:, tap : tap + 2]
        most, least = 255 * pair.clamp(min=0).sum(1), 255 * pair.clamp(max=0).sum(1)
        able = ((most > HIGHEST) | (least < LOWEST)).nonzero().flatten()  # few, so that this is quick
        if len(able):
            sums = torch.einsum("ot,btp->bop", pair[able], steps[:, tap : tap + 2])
            lost[:, able] += sums - sums.clamp(LOWEST, HIGHEST)
    return lost


def _windows(layer: Any, steps: Tensor) -> Tensor:
    """What each sum reads: (B, groups, taps, pixels), taps in the order of the kernel's pixels, channels within."""
    if not isinstance(layer, nn.Conv2d):
        return steps.view(len(steps), 1, -1, 1)
    width, kernel = layer.in_channels // layer.groups, layer.kernel_size
    taps = width * kernel[0] * kernel[1]
    probe = copy.deepcopy(layer)  # whose kernel is the identity: it pads and strides as the layer itself does
    probe.out_channels, probe.bias = taps * layer.groups, None
    identity = torch.eye(taps).view(taps, width, *kernel)
    order = torch.arange(taps).view(width, -1).T.flatten()  # from channels first to pixels first
    probe.weight = nn.Parameter(identity[order].repeat(layer.groups, 1, 1, 1))
    windows: Tensor = probe(steps)
    return windows.view(len(steps), layer.groups, taps, -1)
