"""Inception V3 (Szegedy et al. 2015, arXiv:1512.00567, table 1). Input (B, 3, H, W), total stride 32.

The paper's figures leave widths open; they are those of the authors' release (TensorFlow's slim). Convolutions and
poolings that stride, and two of the stem, are not padded, so a side must be 75 pixels or more; all others are padded.
BatchNorm's eps is 1e-3, as in every release. The auxiliary classifier, which helps in training only, is left out.
"""

from collections import OrderedDict
from typing import NamedTuple

import torch
from torch import Tensor, nn

from swiftlet.layers.conv_bn import conv_bn, set_batchnorm_eps
from swiftlet.layers.init import init_weights
from swiftlet.zoo.card import Card, Variant, register


class Conv(NamedTuple):
    """Convolution, BatchNorm, ReLU. A kernel is a side or (height, width)."""

    channels: int
    kernel: int | tuple[int, int] = 1
    stride: int = 1


class Fork(NamedTuple):
    """A 1x3 and a 3x1 convolution with so many channels each, side by side (figure 7)."""

    channels: int


AVERAGE = "average"  # 3x3, stride 1
MAX = "max"  # 3x3, stride 2

Branches = dict[str, tuple[Conv | Fork | str, ...]]  # the branches of a block, which are concatenated


def block_a(pool: int) -> Branches:
    """Figure 5, with a 5x5 convolution where it draws a 3x3, as in the release."""
    return {
        "1x1": (Conv(64),),
        "5x5": (Conv(48), Conv(64, 5)),
        "3x3dbl": (Conv(64), Conv(96, 3), Conv(96, 3)),
        "pool": (AVERAGE, Conv(pool)),
    }


def block_c(c: int) -> Branches:
    """Figure 6: a 7x7 convolution as 1x7 and 7x1."""
    return {
        "1x1": (Conv(192),),
        "7x7": (Conv(c), Conv(c, (1, 7)), Conv(192, (7, 1))),
        "7x7dbl": (Conv(c), Conv(c, (7, 1)), Conv(c, (1, 7)), Conv(c, (7, 1)), Conv(192, (1, 7))),
        "pool": (AVERAGE, Conv(192)),
    }


BLOCK_B: Branches = {  # figure 10: halves the side
    "3x3": (Conv(384, 3, 2),),
    "3x3dbl": (Conv(64), Conv(96, 3), Conv(96, 3, 2)),
    "pool": (MAX,),
}
BLOCK_D: Branches = {
    "3x3": (Conv(192), Conv(320, 3, 2)),
    "7x7x3": (Conv(192), Conv(192, (1, 7)), Conv(192, (7, 1)), Conv(192, 3, 2)),
    "pool": (MAX,),
}
BLOCK_E: Branches = {  # figure 7
    "1x1": (Conv(320),),
    "3x3": (Conv(384), Fork(384)),
    "3x3dbl": (Conv(448), Conv(384, 3), Fork(384)),
    "pool": (AVERAGE, Conv(192)),
}
BLOCKS = {  # names as in the release
    "mixed_5b": block_a(32),
    "mixed_5c": block_a(64),
    "mixed_5d": block_a(64),
    "mixed_6a": BLOCK_B,
    "mixed_6b": block_c(128),
    "mixed_6c": block_c(160),
    "mixed_6d": block_c(160),
    "mixed_6e": block_c(192),
    "mixed_7a": BLOCK_D,
    "mixed_7b": BLOCK_E,
    "mixed_7c": BLOCK_E,
}


class Parallel(nn.Module):
    """The results of all its children on the same input, concatenated: (B, c_in, H, W) -> (B, sum of c_out, H', W')."""

    def __init__(self, branches: dict[str, nn.Module]) -> None:
        super().__init__()
        for name, branch in branches.items():
            self.add_module(name, branch)

    def forward(self, x: Tensor) -> Tensor:  # (B, c_in, H, W)
        return torch.cat([branch(x) for branch in self.children()], 1)


def block(c_in: int, branches: Branches, width: float) -> tuple[Parallel, int]:
    """The block on c_in channels, and how many it makes."""
    built: dict[str, nn.Module] = {}
    total = 0
    for name, layers in branches.items():
        branch, c = nn.Sequential(), c_in
        for layer in layers:
            if isinstance(layer, str):
                branch.append(nn.AvgPool2d(3, 1, padding=1) if layer == AVERAGE else nn.MaxPool2d(3, 2))
                continue
            c_out = scale(layer.channels, width)
            if isinstance(layer, Fork):
                branch.append(Parallel({"a": conv_bn(c, c_out, (1, 3)), "b": conv_bn(c, c_out, (3, 1))}))
                c = 2 * c_out
            else:
                padding = 0 if layer.stride > 1 else None
                branch.append(conv_bn(c, c_out, layer.kernel, stride=layer.stride, padding=padding))
                c = c_out
        built[name] = branch
        total += c
    return Parallel(built), total


def scale(channels: int, width: float) -> int:
    return max(1, int(channels * width))


@register(
    Card(
        title="Inception V3",
        family="inception_v3",
        paper="arXiv:1512.00567",
        input=(3, 299, 299),
        params=23_834_568,
        macs=5_713_216_096,
        variants=(Variant(top1=78.2, source="arXiv:1610.02357, table 1"),),
    )
)
def inception_v3(
    *,
    width: float = 1.0,
    num_classes: int = 1000,
    in_channels: int = 3,
    dropout: float = 0.5,
    small_input: bool = False,
) -> nn.Sequential:
    """(B, in_channels, H, W) -> (B, num_classes) logits; H and W are 75 or more.

    `width`, which the paper does not have, scales all layers; the result is rounded down, to at least 1.
    `small_input=True`, for 32 pixels and less: no layer of the stem strides or pools, so the total stride is 4 and a
    side must be 13 pixels or more.
    """
    c1, c2, c3, c4, c = (scale(channels, width) for channels in (32, 32, 64, 80, 192))
    stem: dict[str, nn.Module] = {
        "conv1a": conv_bn(in_channels, c1, 3, stride=1 if small_input else 2, padding=0),
        "conv2a": conv_bn(c1, c2, 3, padding=0),
        "conv2b": conv_bn(c2, c3, 3),
        "pool1": nn.MaxPool2d(3, 2),
        "conv3b": conv_bn(c3, c4, 1),
        "conv4a": conv_bn(c4, c, 3, padding=0),
        "pool2": nn.MaxPool2d(3, 2),
    }
    if small_input:
        del stem["pool1"], stem["pool2"]
    blocks: dict[str, nn.Module] = {}
    for name, branches in BLOCKS.items():
        blocks[name], c = block(c, branches, width)
    model = nn.Sequential(
        OrderedDict(
            stem=nn.Sequential(OrderedDict(stem)),
            blocks=nn.Sequential(OrderedDict(blocks)),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            dropout=nn.Dropout(dropout),
            classifier=nn.Linear(c, num_classes),
        )
    )
    init_weights(model)
    set_batchnorm_eps(model, 1e-3)
    return model
