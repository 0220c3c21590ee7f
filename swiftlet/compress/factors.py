"""The short chain of layers that stands for one layer: shapes, cost, modules. Its weights come from decompose.py.

C and N are a layer's input and output channels, kh x kw its kernel (1 x 1 for nn.Linear), r a rank:

    svd      kh x kw, C -> r              then  1 x 1, r -> N
    spatial  kh x 1,  C -> r              then  1 x kw, r -> N
    cp       1 x 1,   C -> r              then  kh x kw on each of the r channels   then  1 x 1, r -> N
    tucker   1 x 1,   C -> r_in           then  kh x kw, r_in -> r_out              then  1 x 1, r_out -> N

Stride, padding and dilation stay with the part of the kernel that they belong to; only the last layer has a bias.
"""

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from swiftlet.errors import BadInput

METHODS = ("svd", "spatial", "cp", "tucker")
Layer = nn.Conv2d | nn.Linear
Rank = int | tuple[int, int]  # tucker's is (r_in, r_out)


class Places(NamedTuple):
    """At how many places a layer works for one image, summed over its calls: those of its input, those of its output,
    and `between`, the output's height times the input's width, where spatial's first layer ends."""

    into: int = 0
    between: int = 0
    out: int = 0

    def seen(self, layer: Layer, x: Tensor, y: Tensor) -> "Places":
        """With one more call, of input x and output y."""
        if isinstance(layer, nn.Linear):
            into = between = out = y.numel() // layer.out_features
        else:
            into, out = x.numel() // layer.in_channels, y.numel() // layer.out_channels
            between = into // x.shape[-2] * y.shape[-2]
        return Places(self.into + into, self.between + between, self.out + out)


class Part(NamedTuple):
    """One layer of a chain: the shape of its weight, at which of the Places it works, and how it moves."""

    weight: tuple[int, ...]
    works: str
    geometry: dict[str, Any]


def obstacle(layer: nn.Module, method: str) -> str | None:
    """Why this method cannot take the layer apart, or None."""
    if type(layer) not in (nn.Conv2d, nn.Linear):
        return f"it is a {type(layer).__name__}; only nn.Conv2d and nn.Linear are taken apart"
    assert isinstance(layer, Layer)
    if layer.state_dict().keys() - {"weight", "bias"} or layer._forward_hooks or layer._forward_pre_hooks:
        return "it holds more than a weight and a bias"
    if isinstance(layer, nn.Conv2d) and layer.groups > 1:
        return f"it has {layer.groups} groups; only dense layers are taken apart"
    kernel = kernel_size(layer)
    if method == "spatial" and 1 in kernel:
        return f"its kernel is {kernel[0]}x{kernel[1]}, which has no second side to split off"
    if method in ("cp", "tucker") and kernel == (1, 1):
        return f"its kernel is 1x1, a plain matrix: method='svd' is for it, not {method!r}"
    return None


def kernel_size(layer: Layer) -> tuple[int, int]:
    return (1, 1) if isinstance(layer, nn.Linear) else (layer.kernel_size[0], layer.kernel_size[1])


def check_rank(layer: Layer, method: str, rank: Any, path: str) -> Rank:
    """The rank as an int, or two for tucker. Raises BadInput unless it lies between 1 and where nothing is lost."""
    n, c, *_ = layer.weight.shape
    kh, kw = kernel_size(layer)
    taps = kh * kw
    largest: tuple[int, ...] = {
        "svd": (min(n, c * taps),),
        "spatial": (min(c * kh, n * kw),),
        "cp": (min(n * c, n * taps, c * taps),),
        "tucker": (c, n),
    }[method]
    given = tuple(rank) if isinstance(rank, list | tuple) else (rank,)
    whole = len(given) == len(largest) and all(type(r) is int for r in given)
    if not whole or not all(1 <= r <= most for r, most in zip(given, largest, strict=True)):
        wanted = f"from 1 to {largest[0]}" if len(largest) == 1 else f"two ranks, from 1 to {largest}"
        raise BadInput(f"{path!r}: rank {rank!r}; method {method!r} takes {wanted} there")
    return given[0] if len(given) == 1 else (given[0], given[1])


def parts(layer: Layer, method: str, rank: Rank) -> tuple[Part, ...]:
    """The chain that stands for the layer at this rank."""
    n, c, *kernel = layer.weight.shape
    r_in, r_out = (rank, rank) if isinstance(rank, int) else rank
    if isinstance(layer, nn.Linear):
        return Part((r_in, c), "out", {}), Part((n, r_out), "out", {})
    last = Part((n, r_out, 1, 1), "out", {})
    if method == "svd":
        return Part((r_out, c, *kernel), "out", _moves(layer, 0, 1)), last
    if method == "spatial":
        tall = Part((r_in, c, kernel[0], 1), "between", _moves(layer, 0))
        return tall, Part((n, r_out, 1, kernel[1]), "out", _moves(layer, 1))
    first = Part((r_in, c, 1, 1), "into", {})
    if method == "cp":
        return first, Part((r_out, 1, *kernel), "out", _moves(layer, 0, 1) | {"groups": r_out}), last
    return first, Part((r_out, r_in, *kernel), "out", _moves(layer, 0, 1)), last


def _moves(conv: nn.Conv2d, *axes: int) -> dict[str, Any]:
    """How the convolution moves along these axes, 0 the height and 1 the width, and not at all along the others."""

    def along(values: Sequence[int], rest: int) -> tuple[int, ...]:
        return tuple(value if axis in axes else rest for axis, value in enumerate(values))

    return {
        "stride": along(conv.stride, 1),
        "padding": conv.padding if isinstance(conv.padding, str) else along(conv.padding, 0),
        "dilation": along(conv.dilation, 1),
        "padding_mode": conv.padding_mode,
    }


def work(chain: Sequence[Part], places: Places) -> tuple[int, int]:
    """(params, macs) of a chain, without biases."""
    sizes = [prod(part.weight) for part in chain]
    return sum(sizes), sum(size * getattr(places, part.works) for size, part in zip(sizes, chain, strict=True))


def build(layer: Layer, chain: Sequence[Part], weights: Sequence[Tensor], bias: Tensor | None) -> list[nn.Module]:
    """The modules of a chain, of the layer's type and on its device."""
    like = layer.weight
    made: list[nn.Module] = []
    for part, weight in zip(chain, weights, strict=True):
        has_bias = bias is not None and part is chain[-1]
        module: Layer
        if isinstance(layer, nn.Linear):
            module = nn.Linear(part.weight[1], part.weight[0], bias=has_bias, device="meta")
        else:
            n, c, *kernel = part.weight
            c_in = c * part.geometry.get("groups", 1)
            module = nn.Conv2d(c_in, n, (kernel[0], kernel[1]), bias=has_bias, device="meta", **part.geometry)
        module.weight = _parameter(weight.reshape(part.weight), like)
        if has_bias:
            assert bias is not None
            module.bias = _parameter(bias, like)
        made.append(module.train(layer.training))
    return made


def _parameter(value: Tensor, like: Tensor) -> nn.Parameter:
    copied = torch.empty(value.shape, dtype=like.dtype, device=like.device).copy_(value.detach())
    return nn.Parameter(copied, requires_grad=like.requires_grad)
