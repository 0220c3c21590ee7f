"""ResNet-20 and ResNet-56 for CIFAR (He et al. 2015, arXiv:1512.03385, section 4.2).

Input (B, 3, H, W), total stride 4.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from swiftlet.layers.conv_bn import conv_bn
from swiftlet.layers.init import init_weights
from swiftlet.zoo.card import Card, Variant, register
from swiftlet.zoo.resnet import basic

CHANNELS = (16, 32, 64)  # one stage each; the second and third halve the sides


class PaddedResidual(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters (option A): (B, c_in, H, W) -> (B, c_out, H', W').

    Where the shapes differ the input gives every second pixel, and zeros stand in for the channels that it lacks, half
    of them before its own and half after.
    """

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.body = basic(c_in, c_out, c_out, stride)
        self.subsample = nn.Identity() if stride == 1 else nn.MaxPool2d(1, stride)
        self.act = nn.ReLU()
        self.before = (c_out - c_in) // 2
        self.after = self.before + c_in

    def forward(self, x: Tensor) -> Tensor:  # (B, c_in, H, W)
        y, x = self.body(x), self.subsample(x)
        if self.before == 0:
            y = y + x
        else:  # to add zeros is to add nothing, so no zeros are made
            y = torch.cat([y[:, : self.before], y[:, self.before : self.after] + x, y[:, self.after :]], 1)
        out: Tensor = self.act(y)
        return out


@register(
    Card(
        title="ResNet-20 (CIFAR)",
        family="resnet",
        paper="arXiv:1512.03385",
        input=(3, 32, 32),
        params=269_722,
        macs=40_551_040,
        variants=(Variant(top1=91.25, source="table 6, CIFAR-10"),),
    )
)
def resnet20(*, width: float = 1.0, num_classes: int = 10, in_channels: int = 3, dropout: float = 0.0) -> nn.Sequential:
    """(B, in_channels, H, W) -> (B, num_classes) logits.

    `width`, which the paper does not have, scales every layer; channels are rounded down to an even number, at least 2,
    so that the zeros of a shortcut fall into halves.
    """
    return _network(3, width, num_classes, in_channels, dropout)


@register(
    Card(
        title="ResNet-56 (CIFAR)",
        family="resnet",
        paper="arXiv:1512.03385",
        input=(3, 32, 32),
        params=853_018,
        macs=125_485_696,
        variants=(Variant(top1=93.03, source="table 6, CIFAR-10"),),
    )
)
def resnet56(*, width: float = 1.0, num_classes: int = 10, in_channels: int = 3, dropout: float = 0.0) -> nn.Sequential:
    """(B, in_channels, H, W) -> (B, num_classes) logits. `width` as in resnet20."""
    return _network(9, width, num_classes, in_channels, dropout)


def _network(n: int, width: float, num_classes: int, in_channels: int, dropout: float) -> nn.Sequential:
    """6n + 2 weighted layers: n blocks in each stage."""
    widths = [2 * max(1, int(channels * width / 2)) for channels in CHANNELS]
    c, stages = widths[0], []
    for row, c_out in enumerate(widths):
        blocks = []
        for i in range(n):
            blocks.append(PaddedResidual(c, c_out, stride=2 if row > 0 and i == 0 else 1))
            c = c_out
        stages.append(nn.Sequential(*blocks))
    model = nn.Sequential(
        OrderedDict(
            stem=conv_bn(in_channels, widths[0], 3),
            stages=nn.Sequential(*stages),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            dropout=nn.Dropout(dropout),
            classifier=nn.Linear(c, num_classes),
        )
    )
    init_weights(model)
    return model
